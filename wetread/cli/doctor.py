"""`wetread doctor`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from wetread.cli.app import app

if TYPE_CHECKING:
    from wetread.runtime.doctor import Finding


@app.command(
    short_help="Check the installation: packages, conflicts, devices.",
    epilog="Example: wetread doctor --model model.onnx",
)
def doctor(
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL.onnx", help="The model to load and check; default: the packaged one."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check this machine and installation: installed packages, conflicts, and which devices really work.

    Exit code 1 when something must be fixed.
    """
    from wetread.runtime.doctor import count_problems, examine, to_record

    findings = examine(model)
    if as_json:
        print(json.dumps(to_record(findings), indent=2))
    else:
        _print_findings(findings)
    raise typer.Exit(1 if count_problems(findings) else 0)


def _print_findings(findings: list[Finding]) -> None:
    width = max(len(finding.topic) for finding in findings)
    for finding in findings:
        print(f"{finding.level:<7}  {finding.topic:<{width}}  {finding.found}")
        if finding.advice:
            print(f"{'':<{width + 11}}-> {finding.advice}")
