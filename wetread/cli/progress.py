"""Progress on standard error: a bar on a terminal, a plain line at intervals elsewhere."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

    from wetread.runtime.scoring.run import ScoreOptions, Tally

_LINE_SECONDS = 30.0


@contextmanager
def show_progress(options: ScoreOptions | None, *, quiet: bool) -> Iterator[Callable[[Tally], None] | None]:
    """Yield a function to call after each chunk, or None if nothing is shown."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        with _bar(options) as watch:
            yield watch
    else:
        yield _lines()


def _lines() -> Callable[[Tally], None]:
    start = last = monotonic()
    first_row: int | None = None

    def watch(tally: Tally) -> None:
        nonlocal last, first_row
        first_row = tally.resumed if first_row is None else first_row
        if monotonic() - last >= _LINE_SECONDS:
            last = monotonic()
            rate = (tally.rows - first_row) / (last - start)
            print(
                f"wetread: {tally.rows:,} done, {tally.failed:,} without a score, {rate:,.0f}/s",
                file=sys.stderr,
            )

    return watch


@contextmanager
def _bar(options: ScoreOptions | None) -> Iterator[Callable[[Tally], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        SpinnerColumn(),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[failed]}", style="red"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("scoring", total=None, rate="", failed="")
        closing = threading.Event()
        counter = threading.Thread(target=_count, args=(bar, task, options, closing), daemon=True)
        if options is not None:
            counter.start()
        start = monotonic()

        def watch(tally: Tally) -> None:
            rate = (tally.rows - tally.resumed) / max(monotonic() - start, 1e-9)
            failed = f"{tally.failed:,} without a score" if tally.failed else ""
            bar.update(task, completed=tally.rows, rate=f"{rate:,.0f}/s", failed=failed)

        try:
            yield watch
        finally:
            closing.set()
            if options is not None:
                counter.join()


def _count(bar: Progress, task: object, options: ScoreOptions, closing: threading.Event) -> None:
    """Count the inputs while the run goes on, so that the bar can estimate the remaining time."""
    from wetread.errors import WetreadError
    from wetread.runtime.scoring.run import open_options
    from wetread.runtime.sources.manifest import Manifest
    from wetread.runtime.sources.name_list import read_name_list

    if any(source.startswith("gs://") for source in options.sources):
        return
    # A pipe can be read only once, and the run reads it.
    if options.from_file is not None and not os.path.isfile(options.from_file):
        return
    total = 0
    try:
        if options.from_manifest is not None:
            bar.update(task, total=Manifest(options.from_manifest, project=options.project).names)  # type: ignore[arg-type]
            return
        listed = options.from_file
        for _ in open_options(options).entries() if listed is None else read_name_list(listed):
            total += 1
            if closing.is_set():
                return
    except (WetreadError, OSError):
        return  # the run itself meets the same error and reports it
    bar.update(task, total=total)  # type: ignore[arg-type]
