"""`wetread accept`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from wetread.cli.app import app
from wetread.errors import UsageError


@app.command(
    short_help="Accept an installation, and write a protocol to file.",
    epilog="Example: wetread accept --model model.onnx --certificate certificate.html --output accepted.html",
)
def accept(
    output: Annotated[
        str,
        typer.Option("--output", "-o", metavar="FILE.html", help="The protocol; JSON is written beside it."),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", metavar="MODEL.onnx", help="The model file; default: the packaged one."
        ),
    ] = None,
    certificate: Annotated[
        str | None, typer.Option(metavar="FILE", help="The certificate of parity (.json, .txt, .html).")
    ] = None,
    pictures: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Local pictures that another machine has scored.")
    ] = None,
    expected: Annotated[
        str | None, typer.Option(metavar="SCORES.csv", help="The other machine's rows of --pictures.")
    ] = None,
) -> None:
    """Run the acceptance table of the guide on this machine; exit code 1 if a step fails.

    It takes a minute or two. The protocol has no names of pictures.
    """
    from wetread.bundle.acceptance.protocol import (
        identify_model,
        make_protocol,
        run_steps,
        summarize,
        write_protocol,
    )
    from wetread.bundle.acceptance.steps import AcceptOptions
    from wetread.runtime.model.packaged import choose_model

    place = Path(output)
    if place.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--output must end in .html, and is {output!r}.")
    if not place.absolute().parent.is_dir():
        raise UsageError(f"The folder of --output {output!r} does not exist. Create it first.")
    options = AcceptOptions(
        model=choose_model(model), certificate=certificate, pictures=pictures, expected=expected
    )
    model_identity = identify_model(options)
    protocol = make_protocol(model_identity, run_steps(options, report=print))
    beside = write_protocol(protocol, place)
    print(summarize(protocol))
    print(f"wetread: wrote {place} and {beside}", file=sys.stderr)
    raise typer.Exit(0 if protocol["accepted"] else 1)
