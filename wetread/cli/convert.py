"""`wetread convert`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from wetread.cli.app import app
from wetread.cli.options import Quiet, SourceOptions, expand_options


@app.command(
    short_help="Turn a Keras network of any form into a .keras file.",
    epilog="Example: wetread convert keras_model.h5 --output model.keras",
)
@expand_options
def convert(
    network: Annotated[
        str,
        typer.Argument(
            metavar="NETWORK", help="A .keras or .h5 file, a SavedModel folder, or JSON with --weights."
        ),
    ],
    *,
    output: Annotated[
        str,
        typer.Option("--output", "-o", metavar="FILE.keras", help="The file; one that is there is replaced."),
    ],
    source: SourceOptions,
    quiet: Quiet = False,
) -> None:
    """Turn a Keras network of any form into a .keras file of Keras 3.

    The file appears only after Keras has loaded it in safe mode and found it to answer as the network does.
    """
    from wetread.export.forms.saving import convert_network

    result = convert_network(source.make(network), output=output)
    if not quiet:
        for note in result.notes:
            print(f"wetread: {note}", file=sys.stderr)
        print(f"{output} ({result.size:,} bytes): takes {result.takes}, gives {result.gives}")
