"""`wetread demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wetread.cli.app import app


@app.command(
    short_help="Run every step in a few minutes, on drawn images.",
    epilog="Example: wetread demo --output demo",
)
def demo(
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FOLDER", help="The folder to write everything to.")
    ] = "demo",
    data: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Your own images, FOLDER/<label>/*; default: drawn X-rays."),
    ] = None,
) -> None:
    """Run every step in a few minutes: draw X-rays, train, export, compare, score, verify."""
    from wetread.demo.walkthrough import describe_event, run_demo

    result = run_demo(Path(output), data=data, on_step=lambda event: print(describe_event(event), flush=True))
    print()
    for line in result.describe():
        print(line)
