"""The typer application that every command module adds to, and what commands share."""

from __future__ import annotations

import sys
from typing import Annotated, BinaryIO

import typer

from wetread.streams import Nowhere

app = typer.Typer(
    name="wetread",
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=False,
    help="Train a small CNN, export it to ONNX, and score folders of images with it: the same answer from "
    "file to probability on every machine, and never a silently wrong one.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from wetread.packages import find_own_version

        print(f"wetread {find_own_version()}")
        raise typer.Exit


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
