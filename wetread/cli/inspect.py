"""`wetread inspect`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from wetread.cli.app import app
from wetread.cli.options import Project
from wetread.cli.tables import print_rows


@app.command(
    short_help="Show what a model file contains.",
    epilog="Example: wetread inspect model.onnx --json",
)
def inspect(
    model: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL.onnx]", help="The model file; default: the packaged one."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole spec as JSON.")] = False,
    project: Project = None,
) -> None:
    """Show what a model file contains: labels, pixel recipe, threshold, precision, training."""
    from wetread.runtime.gcs.billing import bill_project
    from wetread.runtime.model.description import describe_spec, inspect_model
    from wetread.runtime.model.packaged import choose_model

    model = choose_model(model)
    with bill_project(project):
        spec, size = inspect_model(model)
    if as_json:
        print(json.dumps(json.loads(spec.to_json()), indent=2))
        return
    print_rows([("model", f"{model} ({size:,} bytes)"), *describe_spec(spec)])
