"""The typer application that every command module adds to, and what commands share."""

from __future__ import annotations

from typing import Annotated

import typer

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
