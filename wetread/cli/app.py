"""The typer application that every command module adds to, and what commands share."""

from __future__ import annotations

import sys
from typing import Annotated, BinaryIO

import typer

from wetread.runtime.images.limits import MAX_MEMORY
from wetread.streams import Nowhere

app = typer.Typer(
    name="wetread",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    no_args_is_help=False,
    help="Train a small CNN, export it to ONNX, and score folders of images with it: the same answer from "
    "file to probability on every machine, and never a silently wrong one.",
)

PublicKey = Annotated[
    str | None,
    typer.Option("--public-key", metavar="KEY", help="Demand the model's signature by this key (PEM)."),
]


DEFAULT_MEMORY = MAX_MEMORY >> 20
MaxMemory = Annotated[
    int,
    typer.Option(
        "--max-memory", metavar="MIB", help="MiB to decode one image in; one that needs more is 'too_large'."
    ),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"wetread {version('wetread')}")
        raise typer.Exit


Project = Annotated[
    str | None,
    typer.Option("--project", metavar="ID", help="The project to bill where a bucket's requesters pay."),
]


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def open_output() -> BinaryIO:
    """Return standard output for data, as bytes. Raises OutputError where it is closed.

    What a command says there of its work may be lost; rows that were asked for may not.
    """
    from wetread.errors import OutputError

    if isinstance(sys.stdout, Nowhere):
        raise OutputError("There is nowhere to write: standard output is closed. Give --output FILE.")
    return sys.stdout.buffer
