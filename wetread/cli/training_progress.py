"""Progress of `train` and `tune` on standard error: a bar on a terminal, a line for each epoch elsewhere."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wetread.train.events import Event, OnEvent


@contextmanager
def show_training(*, quiet: bool) -> Iterator[OnEvent]:
    """Yield the listener of a training run. Both forms say how long the whole run still takes."""
    from wetread.train.events import ignore_event

    if quiet:
        yield ignore_event
    elif sys.stderr.isatty():
        with _bar() as listen:
            yield listen
    else:
        yield print_lines()


def print_lines() -> OnEvent:
    """Return a listener that prints a line for each event but the small ones."""
    from wetread.train.events import EpochEnded, ImagesRead, StepEnded, describe_event
    from wetread.train.time_left import RunClock, describe_left

    clock = RunClock()

    def listen(event: Event) -> None:
        clock.listen(event)
        if isinstance(event, ImagesRead | StepEnded):
            return
        left = describe_left(clock.left()) if isinstance(event, EpochEnded) else ""
        print(f"{describe_event(event)}{f' ({left})' if left else ''}", file=sys.stderr, flush=True)

    return listen


@contextmanager
def _bar() -> Iterator[OnEvent]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from wetread.train.events import ImagesRead, StepEnded, describe_event
    from wetread.train.time_left import RunClock, describe_left

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TextColumn("{task.fields[left]}"),
    )
    clock = RunClock()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading images", total=None, loss="", left="")

        def listen(event: Event) -> None:
            clock.listen(event)
            if isinstance(event, ImagesRead):
                progress.update(task, completed=event.done, total=event.total)
            elif isinstance(event, StepEnded):
                what, loss = f"epoch {event.epoch}/{event.epochs}", f"loss {event.loss:.4f}"
                left = describe_left(clock.left())
                progress.update(
                    task, description=what, completed=event.step, total=event.steps, loss=loss, left=left
                )
            else:
                progress.console.print(describe_event(event), highlight=False, markup=False)

        yield listen
