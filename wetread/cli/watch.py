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
    GrowingColumns,
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
    """The folder to watch, and what to do with its files."""

    panel: ClassVar[str] = "Input"

    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="The folder in which files arrive.")]
    output: Annotated[
        str,
        typer.Option("--output", "-o", metavar="FILE", help="The file to append rows to: .csv or .jsonl."),
    ]
    include: Include = None
    done: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Move files with a score here, once their rows are written."),
    ] = None
    failed: Annotated[str | None, typer.Option(metavar="FOLDER", help="Move files without a score here.")] = (
        None
    )
    prune: Annotated[
        bool,
        typer.Option(
            "--prune", help="Remove folders that --done and --failed have left empty for ten minutes."
        ),
    ] = False
    poll: Annotated[
        float, typer.Option(metavar="S", help="Seconds between two scans of the folder; at least 0.05.")
    ] = 1.0
    settle: Annotated[
        float, typer.Option(metavar="S", help="Seconds a file must be unchanged before it is read.")
    ] = 2.0
    patience: Annotated[
        float,
        typer.Option(
            metavar="S", help="Seconds to retry a file without a score, in case it is still being copied."
        ),
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
    growing: GrowingColumns,
    workers: Workers = None,
    max_memory: MaxMemory = DEFAULT_MEMORY,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print problems only.")] = False,
) -> None:
    """Score each new file in FOLDER once, when it is completely written, until stopped.

    Stop it with Ctrl-C or SIGTERM (exit code 130 or 143). Started again, even after a power failure, it
    continues where it stopped: no row is lost or written twice.
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
        **growing.parse(),
    )
    classifier = chosen.load(quiet=quiet)
    if not quiet:
        say(f"watching {options.folder} on {classifier.device} -> {options.output}")
    with catch_signals() as caught:
        tally = watch_folder(
            classifier,
            options,
            stop=lambda: bool(caught),
            watch=None if quiet else count_lines(),
            report=say,
        )
    if not quiet:
        say(f"stopped: {describe_tally(tally)}")
    raise typer.Exit(128 + caught[0])


def count_lines() -> Callable[[Tally], None]:
    """Return a function that prints counts at intervals; never names, which may be patients'."""
    last = monotonic() - _LINE_SECONDS

    def show(tally: Tally) -> None:
        nonlocal last
        if monotonic() - last >= _LINE_SECONDS:
            last = monotonic()
            say(describe_tally(tally))

    return show


def describe_tally(tally: Tally) -> str:
    """Say how many files had which status."""
    found = ", ".join(f"{count:,} {status}" for status, count in sorted(tally.counts.items()))
    return f"{tally.rows:,} files: {found}" if found else "no files"


def say(text: str) -> None:
    """Print a line on standard error, whole: threads of a node print at the same time."""
    sys.stderr.write(f"wetread: {' '.join(text.split())}\n")
    sys.stderr.flush()
