"""`wetread verify`."""

from __future__ import annotations

from typing import Annotated

import typer

from wetread.cli.app import app
from wetread.cli.options import Project, PublicKey


@app.command(
    short_help="Check that this machine computes a model correctly.",
    epilog="Example: wetread verify model.onnx",
)
def verify(
    model: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL.onnx]", help="The model file; default: the packaged one."),
    ] = None,
    public_key: PublicKey = None,
    device: Annotated[
        str, typer.Option(metavar="DEVICE", help="The device to check, as in `wetread score`.")
    ] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole report as JSON.")] = False,
    project: Project = None,
) -> None:
    """Check that this machine computes the model's own recorded results; exit code 1 if it does not."""
    from dataclasses import asdict

    from wetread.cli.tables import print_rows, print_table
    from wetread.runtime.files.json_text import write_record
    from wetread.runtime.gcs.billing import bill_project
    from wetread.runtime.model.packaged import choose_model
    from wetread.runtime.model.verify import describe_processor, verify_model

    with bill_project(project):
        report = verify_model(choose_model(model), device=device, public_key=public_key)
    if as_json:
        print(write_record({**asdict(report), "passed": report.passed}), end="")
    else:
        print_rows(
            [
                ("model", f"{report.model} ({report.precision})"),
                ("machine", f"{report.provider or 'no session'} on {describe_processor(report.processor)}"),
            ]
        )
        rows = [(c.name, "ok" if c.passed else "FAILED", c.expected, c.received) for c in report.checks]
        print_table(("check", "", "expected", "received"), rows)
        print("this machine may use it" if report.passed else "this machine must not use it")
    raise typer.Exit(0 if report.passed else 1)
