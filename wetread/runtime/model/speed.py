"""Measure how many images a second a model computes on one core of this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wetread.runtime.model.session import ModelSession

_IMAGES, _BATCH = 64, 8
_ROUNDS = 5


@dataclass(frozen=True)
class Speed:
    """Images a second of one session, without decoding: on the CPU of one core, else of the whole device."""

    images_per_second: float
    device: str
    provider: str

    def describe(self) -> str:
        """Return the speed as a sentence without a verb."""
        where = "on one core" if self.device == "cpu" else f"on {self.device}"
        return f"{self.images_per_second:,.0f} images/s {where} ({self.provider}), without decoding"


def measure_speed(session: ModelSession) -> Speed:
    """Compute random images for about a second, and return the speed of the fastest round.

    A round has up to 64 images: fewer of a network so large that they would take longer than a fifth of that.
    """
    shape = session.spec.pixels.shape
    start = time.perf_counter()
    session.classify(np.zeros((1, *shape), np.uint8))
    count = int(1.0 / _ROUNDS / max(time.perf_counter() - start, 1e-6))
    images = np.random.default_rng(0).integers(0, 256, (min(max(count, 1), _IMAGES), *shape), np.uint8)
    (speed,) = measure_speeds([session], images, seconds=1.0)
    return Speed(speed, session.device, session.provider)


def measure_speeds(
    sessions: Sequence[ModelSession], images: NDArray[np.uint8], *, seconds: float = 0.0
) -> list[float]:
    """Return the images/s of each session: of the fastest of rounds in which they take turns.

    `images`: uint8 (N, height, width, channels). There are at least five rounds, for at least `seconds`.
    """
    clocks = [_choose_clock(session.device, os.name) for session in sessions]
    best = [np.inf] * len(sessions)
    for _ in _take_rounds(seconds):
        for index, session in enumerate(sessions):
            start = clocks[index]()
            for first in range(0, len(images), _BATCH):
                session.classify(images[first : first + _BATCH])
            best[index] = min(best[index], clocks[index]() - start)
    return [len(images) / seconds for seconds in best]


def _choose_clock(device: str, system: str) -> Callable[[], float]:
    """Choose what times a session on a device; `system` is os.name.

    A session on the CPU computes on its caller's thread, whose own time a busy machine does not change much.
    Windows counts that in steps of 16 ms, though it names a resolution of 100 ns: a small model took no time.
    """
    return time.thread_time if device == "cpu" and system != "nt" else time.perf_counter


def _take_rounds(seconds: float) -> Iterator[int]:
    start, done = time.perf_counter(), 0
    while done < _ROUNDS or time.perf_counter() - start < seconds:
        yield done
        done += 1
