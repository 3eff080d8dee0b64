"""`wetread inspect`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from wetread.cli.app import app
from wetread.cli.options import Project
from wetread.cli.tables import print_rows

if TYPE_CHECKING:
    from wetread.runtime.model.speed import Speed


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
    speed: Annotated[
        bool,
        typer.Option("--speed", help="Measure the images/s of one core of this machine, for a second."),
    ] = False,
    project: Project = None,
) -> None:
    """Show what a model file contains: labels, pixel recipe, threshold, precision, training."""
    from wetread.runtime.gcs.billing import bill_project
    from wetread.runtime.model.description import describe_spec, inspect_model
    from wetread.runtime.model.packaged import choose_model

    model = choose_model(model)
    with bill_project(project):
        spec, size = inspect_model(model)
        measured = _measure(model) if speed else None
    if as_json:
        whole = json.loads(spec.to_json())
        print(json.dumps(whole if measured is None else whole | {"speed": asdict(measured)}, indent=2))
        return
    rows = [("model", f"{model} ({size:,} bytes)"), *describe_spec(spec)]
    print_rows(rows if measured is None else [*rows, ("speed here", measured.describe())])


def _measure(model: str) -> Speed:
    from wetread.runtime.model.session import ModelSession
    from wetread.runtime.model.speed import measure_speed

    return measure_speed(ModelSession(model, device="cpu"))
