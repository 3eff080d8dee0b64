"""`wetread demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wetread.cli.app import app


@app.command(
    short_help="Walk the whole way in a few minutes, on drawn images.",
    epilog="Example: wetread demo --output demo",
)
def demo(
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FOLDER", help="Where everything goes.")
    ] = "demo",
    data: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Your images, FOLDER/<label>/*; default: drawn ones.")
    ] = None,
) -> None:
    """Walk the whole way in a few minutes: draw phantoms, train, export, compare, score, verify."""
    from wetread.demo.walkthrough import describe_event, run_demo

    result = run_demo(Path(output), data=data, on_step=lambda event: print(describe_event(event), flush=True))
    print()
    for line in result.describe():
        print(line)
