"""The estimate of the time left, beside a clock that is made up."""

from __future__ import annotations

import itertools

import pytest

from wetread.train.events import (
    EpochEnded,
    FoldStarted,
    ImagesRead,
    StageStarted,
    StepEnded,
    TrainingStarted,
    TrialStarted,
)
from wetread.train.time_left import RunClock, describe_left


class Made:
    """A clock that a test turns."""

    time = 100.0

    def __call__(self) -> float:
        return self.time


def play(clock: RunClock, time: Made, *, epochs: int, steps: int, first: int = 1, rest=2.0, compiling=0.0):
    """Yield after each event of a network's run; a step takes a second, an epoch's end `rest`.

    The first step, and the end of the first epoch, take `compiling` seconds more.
    """
    clock.listen(
        TrainingStarted(architecture="x", parameters=1, epochs=epochs, steps=steps, first_epoch=first)
    )
    for epoch in range(first, epochs + 1):
        for number in range(1, steps + 1):
            time.time += 1.0 + compiling * (epoch == first and number == 1)
            clock.listen(StepEnded(epoch=epoch, epochs=epochs, step=number, steps=steps, loss=0.5))
            yield
        time.time += rest + compiling * (epoch == first)
        clock.listen(EpochEnded(epoch=epoch, epochs=epochs, metrics={}))
        yield


def test_nothing_is_said_before_two_steps() -> None:
    time = Made()
    clock = RunClock(time)
    clock.listen(ImagesRead(done=3, total=9))
    assert clock.left() is None
    run = play(clock, time, epochs=3, steps=10)
    next(run)
    assert clock.left() is None and describe_left(clock.left()) == ""
    next(run)
    assert clock.left() == pytest.approx(28.0)


@pytest.mark.parametrize("first", [1, 6])
@pytest.mark.parametrize("compiling", [0.0, 60.0])
def test_a_run_is_estimated_by_its_epochs(first: int, compiling: float) -> None:
    """From the end of the first epoch on within an eighth of what it then took, however long it compiled."""
    time = Made()
    clock = RunClock(time)
    run = play(clock, time, epochs=10, steps=20, first=first, compiling=compiling)
    found = [(time.time, clock.left()) for _ in run]
    end = time.time
    for now, left in found[20:]:
        assert left == pytest.approx(end - now, rel=0.125, abs=3)
    assert found[-1][1] == 0


def test_a_stage_has_a_pace_of_its_own() -> None:
    """Five epochs at a second a step, then five at six: from its first epoch on the second one's counts."""
    time = Made()
    clock = RunClock(time)
    started = TrainingStarted(architecture="x", parameters=1, epochs=10, steps=20, first_epoch=1)
    clock.listen(started)
    found = []
    for epoch in range(1, 11):
        if epoch in (1, 6):
            clock.listen(
                StageStarted(first_epoch=epoch, last_epoch=10, trained=1, parameters=1, learning_rate=1)
            )
        for number in range(1, 21):
            time.time += 6.0 if epoch > 5 else 1.0
            clock.listen(StepEnded(epoch=epoch, epochs=10, step=number, steps=20, loss=0.5))
        clock.listen(EpochEnded(epoch=epoch, epochs=10, metrics={}))
        found.append((time.time, clock.left()))
    for now, left in found[5:]:
        assert left == pytest.approx(time.time - now, rel=0.05)
    assert found[3][1] == pytest.approx(6 * 20, rel=0.05)  # until then nobody knows


def test_folds_and_trials_are_counted() -> None:
    """Five folds and the run itself; the networks of folds have fewer steps."""
    time = Made()
    clock, found = RunClock(time), []
    for fold in range(6):
        clock.listen(FoldStarted(fold=fold, folds=5))
        run = play(clock, time, epochs=4, steps=16 if fold < 5 else 20)
        found += [(time.time, clock.left()) for _ in run]
    end = time.time
    for now, left in found[33:]:
        assert left == pytest.approx(end - now, rel=0.15, abs=6)
    clock = RunClock(time)
    clock.listen(TrialStarted(number=0, options={}, left=9))
    for _ in itertools.islice(play(clock, time, epochs=4, steps=10, rest=0), 22):
        pass
    assert clock.left() == pytest.approx(40 * 10 - 20, rel=0.05)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.2, "0 s left"),
        (75, "75 s left"),
        (150, "2.5 min left"),
        (720, "12 min left"),
        (9000, "2.5 h left"),
    ],
)
def test_seconds_are_written_in_a_unit_that_suits(seconds: float | None, text: str) -> None:
    assert describe_left(seconds) == text


def test_train_and_tune_print_it(capsys) -> None:
    """The listener of both commands, off a terminal: at the end of each epoch."""
    from wetread.cli.training_progress import print_lines

    listen = print_lines()
    for event in (
        TrialStarted(number=0, options={}, left=1),
        TrainingStarted(architecture="x", parameters=1, epochs=2, steps=2, first_epoch=1),
        StepEnded(epoch=1, epochs=2, step=1, steps=2, loss=0.5),
        StepEnded(epoch=1, epochs=2, step=2, steps=2, loss=0.5),
        EpochEnded(epoch=1, epochs=2, metrics={"loss": 0.5}),
    ):
        listen(event)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("epoch 1/2: loss 0.5000 (") and lines[-1].endswith(" s left)")
    assert len(lines) == 3
