"""`wetread watch`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from wetread.cli.app import app
from wetread.cli.options import (
    DEFAULT_MEMORY,
    ColumnOptions,
    Include,
    MaxMemory,
    ModelOptions,
    Workers,
    expand_options,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from wetread.runtime.scoring.run import Tally

_LINE_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class FolderOptions:
    """What is watched, and what becomes of the files."""

    panel: ClassVar[str] = "Input"

    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="The folder in which files arrive.")]
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help=".csv or .jsonl; rows are appended.")
    ]
    include: Include = None
    done: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Move files with a score here, once they have a row.")
    ] = None
    failed: Annotated[str | None, typer.Option(metavar="FOLDER", help="Move files without a score here.")] = (
        None
    )
    poll: Annotated[
        float, typer.Option(metavar="S", help="Seconds between two scans of the folder; at least 0.05.")
    ] = 1.0
    settle: Annotated[
        float, typer.Option(metavar="S", help="Seconds a file must be unchanged before it is read.")
    ] = 2.0
    patience: Annotated[
        float,
        typer.Option(metavar="S", help="Seconds to retry a file without a score: it may be a slow copy."),
    ] = 30.0


@app.command(
    short_help="Score new files in a folder as they come.",
    epilog="Example: wetread watch incoming --output scores.csv --done scored --failed failed",
)
@expand_options
def watch(
    *,
    watched: FolderOptions,
    chosen: ModelOptions,
    columns: ColumnOptions,
    workers: Workers = None,
    max_memory: MaxMemory = DEFAULT_MEMORY,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print problems only.")] = False,
) -> None:
    """Score new files in FOLDER once each, when they are completely written, until stopped.

    Stop it with Ctrl-C or SIGTERM (exit code 130 or 143), or however the machine stops: started again, it
    goes on where it was, without a row lost or written twice.
    """
    from wetread.cli.score import catch_signals
    from wetread.runtime.watch.watcher import WatchOptions, watch_folder

    options = WatchOptions(
        **vars(watched),
        workers=workers,
        max_memory=max_memory << 20,
        uncertain=columns.uncertain,
        dicom_tags=columns.keywords,
        refuse_outside=columns.refuse_outside,
    )
    classifier = chosen.load(quiet=quiet)
    if not quiet:
        _say(f"watching {options.folder} on {classifier.device} -> {options.output}")
    with catch_signals() as caught:
        tally = watch_folder(
            classifier,
            options,
            stop=lambda: bool(caught),
            watch=None if quiet else _count_lines(),
            report=_say,
        )
    if not quiet:
        _say(f"stopped: {_describe(tally)}")
    raise typer.Exit(128 + caught[0])


def _count_lines() -> Callable[[Tally], None]:
    """A line every so often with what was scored: counts only, for names may be patients'."""
    last = monotonic() - _LINE_SECONDS

    def show(tally: Tally) -> None:
        nonlocal last
        if monotonic() - last >= _LINE_SECONDS:
            last = monotonic()
            _say(_describe(tally))

    return show


def _describe(tally: Tally) -> str:
    found = ", ".join(f"{count:,} {status}" for status, count in sorted(tally.counts.items()))
    return f"{tally.rows:,} files: {found}" if found else "no files"


def _say(text: str) -> None:
    print(f"wetread: {' '.join(text.split())}", file=sys.stderr, flush=True)
