"""The typer application that every command module adds its command to."""

from __future__ import annotations

import sys
from typing import Annotated, BinaryIO

import typer

from wetread.standard_streams import Nowhere

app = typer.Typer(
    name="wetread",
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=False,
    help="Train a small CNN, export it to ONNX, and score folders of images with it. The same file gives the "
    "same probability on every machine, and never a silently wrong one.",
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
    """Return standard output for data, as bytes. Raises OutputError if it is closed.

    A closed standard output may swallow a command's messages, but not its rows.
    """
    from wetread.errors import OutputError

    if isinstance(sys.stdout, Nowhere):
        raise OutputError("Standard output is closed, so the rows cannot be written. Give --output FILE.")
    return sys.stdout.buffer
