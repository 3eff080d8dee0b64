"""Estimate how long a whole run still takes: all its epochs, the networks of its folds, a search's trials.

    clock = RunClock()
    for event in events:
        clock.listen(event)
    clock.left()        seconds, or None while nothing is known

The pace is that of the steps so far, of the present stage where there are several, validation and saving
included. Early stopping and pruned trials can only make a run shorter.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from wetread.train.events import (
    EpochEnded,
    Event,
    FoldStarted,
    StageStarted,
    StepEnded,
    TrainingStarted,
    TrialStarted,
)

_HOUR, _MINUTE = 3600, 60
_EXACT = 10  # below so many seconds, minutes or hours a unit's fraction is shown


class RunClock:
    """Listens to a run's events and estimates the seconds that are left.

    `now`: a clock in seconds.
    """

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        # The first step compiles the step, and the end of the first epoch the validation: neither counts.
        self._begun: float | None = None
        self._warm = False
        self._seen = 0  # steps since `_begun`
        self._pace: float | None = None  # seconds for each
        self._epochs = self._steps = 0  # of the present network
        self._done = 0  # its steps that are done, those of an earlier process too
        self._others = 0.0  # networks as large that come after it

    def listen(self, event: Event) -> None:
        """Note what an event says of the work that is done and that is left."""
        match event:
            case FoldStarted():
                self._others = count_networks(event.fold, event.folds)
            case TrialStarted():
                self._others = event.left
            case TrainingStarted():
                self._epochs, self._steps = event.epochs, event.steps
                self._done = (event.first_epoch - 1) * event.steps
            case StageStarted():  # other layers train: it compiles again, and has another pace
                self._begun, self._seen, self._warm = None, 0, False
            case StepEnded():
                self._done = (event.epoch - 1) * event.steps + event.step
                self._measure(steps=1)
            case EpochEnded():
                self._done = event.epoch * self._steps
                self._end_epoch()
            case _:
                return

    def _measure(self, *, steps: int) -> None:
        """Measure the pace from `_begun` to now."""
        if self._begun is None:
            self._begun = self._now()
            return
        self._seen += steps
        if self._seen:
            self._pace = (self._now() - self._begun) / self._seen

    def _end_epoch(self) -> None:
        if self._warm or self._pace is None:
            self._measure(steps=0)
        else:
            self._warm, self._begun, self._seen = True, self._now(), 0

    def left(self) -> float | None:
        """Return the seconds that the whole run still takes at its present pace; None before two steps."""
        if self._pace is None or not self._steps:
            return None
        whole = self._epochs * self._steps
        return self._pace * (whole - self._done + self._others * whole)


def count_networks(fold: int, folds: int) -> float:
    """How many networks come after a fold's; the run's own trains on all images, and so counts more."""
    return 0.0 if fold == folds else folds - 1 - fold + folds / (folds - 1)


def describe_left(seconds: float | None) -> str:
    """Write seconds as '40 s left', '12 min left' or '2.5 h left'; '' for None."""
    if seconds is None:
        return ""
    for size, unit in ((_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= 1.5 * size:
            count = seconds / size
            return f"{count:.1f} {unit} left" if count < _EXACT else f"{count:.0f} {unit} left"
    return f"{seconds:.0f} s left"
