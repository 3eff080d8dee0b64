"""A demo's progress events, its folders, and its result."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from wetread.demo.inbox import Scored


@dataclass(frozen=True, kw_only=True)
class StepStarted:
    """Step `number` begins; `command` is the equivalent command line ('' if there is none)."""

    number: int
    title: str
    command: str = ""


@dataclass(frozen=True, kw_only=True)
class StepSaid:
    """A line of output from the current step."""

    text: str


@dataclass(frozen=True, kw_only=True)
class StepEnded:
    """The current step is done, after `seconds`."""

    seconds: float


Event = StepStarted | StepSaid | StepEnded
OnStep = Callable[[Event], object]


def describe_event(event: Event) -> str:
    """Write an event as a line or two of text."""
    match event:
        case StepStarted():
            how = f"\n    $ {event.command}" if event.command else ""
            return f"[{event.number}] {event.title}{how}"
        case StepSaid():
            return f"    {event.text}"
        case StepEnded():
            return f"    ({event.seconds:.0f} s)"


class Teller:
    """Sends events to the listener, and counts steps."""

    def __init__(self, on_step: OnStep) -> None:
        self._tell, self._number = on_step, 0

    def say(self, text: str) -> None:
        """Send a line of output from the current step."""
        self._tell(StepSaid(text=text))

    @contextmanager
    def step(self, title: str, *command: object) -> Iterator[None]:
        """Send the begin and, unless it fails, the end of a step. `command`: the words after `wetread`."""
        start, self._number = perf_counter(), self._number + 1
        shown = shlex.join(["wetread", *map(str, command)]) if command else ""
        self._tell(StepStarted(number=self._number, title=title, command=shown))
        yield
        self._tell(StepEnded(seconds=perf_counter() - start))


@dataclass(frozen=True, kw_only=True)
class Places:
    """The files and folders of a demo."""

    folder: Path
    data: Path
    run: Path
    model: Path
    int8: Path
    inbox: Path
    scores: Path

    @classmethod
    def under(cls, folder: Path, *, data: Path | None = None) -> Places:
        """Return the layout of a demo's folder; `data`: the user's own images."""
        return cls(
            folder=folder,
            data=folder / "data" if data is None else data,
            run=folder / "run",
            model=folder / "model.onnx",
            int8=folder / "model-int8.onnx",
            inbox=folder / "inbox",
            scores=folder / "scores.csv",
        )


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """The result of a demo.

    `int8` is None if no int8 form was close enough to Keras; `refusal` says why. `metrics`: of the validation
    images, as in metrics.json; `scored`: the check of the fresh folder's scores.
    """

    places: Places
    int8: Path | None
    refusal: str
    metrics: dict[str, Any]
    scored: Scored
    seconds: float

    def describe(self) -> list[str]:
        """Write the result as lines of text."""
        places = self.places
        int8 = f"{self.int8}  (int8)" if self.int8 else f"no int8 file: {self.refusal}"
        return [
            f"All steps done in {self.seconds:.0f} s. Everything is in {places.folder}:",
            f"  {places.data}  (the labelled images)",
            f"  {places.run}  (the run: network, split, metrics, history.png, augmentation.png)",
            f"  {places.model}  (float32: all that a workstation needs)",
            f"  {int8}",
            f"  {places.inbox}  (the images that were scored, with four broken files)",
            f"  {places.scores}  (a row for each file; {places.scores.name}.run.json is its record)",
        ]
