"""How fast a model is on one core."""

from __future__ import annotations

import time

import numpy as np
import pytest

from wetread.runtime.model import speed
from wetread.runtime.model.session import ModelSession
from wetread.runtime.model.spec import ModelSpec


class Sleeper:
    """A session that takes a known time for each image."""

    device = "other"

    def __init__(self, seconds: float) -> None:
        self.seconds, self.images = seconds, 0

    def classify(self, images):
        self.images += len(images)
        time.sleep(self.seconds * len(images))


def test_the_speed_is_that_of_the_work():
    slow, fast = Sleeper(2e-3), Sleeper(0.5e-3)
    images = np.zeros((16, 4, 4, 1), np.uint8)
    found = speed.measure_speeds([slow, fast], images)  # type: ignore[list-item]
    # A sleep never ends early, so no machine can be faster than this.
    assert 0 < found[0] <= 500
    assert found[0] < found[1] <= 2000
    assert slow.images == fast.images == 5 * 16


def test_rounds_fill_the_time():
    start = time.perf_counter()
    sleeper = Sleeper(1e-4)
    speed.measure_speeds([sleeper], np.zeros((8, 4, 4, 1), np.uint8), seconds=0.1)  # type: ignore[list-item]
    assert time.perf_counter() - start >= 0.1
    assert sleeper.images > 5 * 8


@pytest.mark.parametrize(("seconds", "most"), [(0.05, 8), (1e-5, 64)])
def test_a_large_network_takes_no_more_than_its_second(monkeypatch, seconds, most):
    """At 20 images/s, rounds of 64 would take 16 s."""
    rounds = []
    monkeypatch.setattr(speed, "measure_speeds", lambda _, images, seconds: rounds.append(images) or [1.0])
    sleeper = Sleeper(seconds)
    sleeper.spec, sleeper.provider = ModelSpec(labels=("a", "b")), "P"
    speed.measure_speed(sleeper)  # type: ignore[arg-type]
    ((images,),) = [rounds]
    assert 1 <= len(images) <= most and (seconds > 1e-3 or len(images) > 8)
    assert images.shape[1:] == (64, 64, 1) and sleeper.images == 1


def test_a_model_tells_its_speed(toy_model):
    found = speed.measure_speed(ModelSession(toy_model, device="cpu"))
    assert found.images_per_second > 0
    assert found.describe().endswith(" images/s on one core (CPUExecutionProvider), without decoding")


def test_a_device_that_is_no_processor_has_no_cores():
    found = speed.Speed(1234.5, "cuda", "CUDAExecutionProvider")
    assert found.describe() == "1,234 images/s on cuda (CUDAExecutionProvider), without decoding"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_only_the_processor_is_timed_by_its_thread(monkeypatch, device):
    asked = []
    monkeypatch.setattr(speed.time, "thread_time", lambda: asked.append("thread") or len(asked))
    monkeypatch.setattr(speed.os, "name", "posix")
    sleeper = Sleeper(0)
    sleeper.device = device
    speed.measure_speeds([sleeper], np.zeros((8, 4, 4, 1), np.uint8))  # type: ignore[list-item]
    assert bool(asked) == (device == "cpu")


def test_windows_counts_a_threads_time_too_coarsely():
    """A model so small that a round is over within a step of 16 ms took no time there: a division by zero."""
    assert speed._choose_clock("cpu", "nt") is time.perf_counter
    assert speed._choose_clock("cpu", "posix") is time.thread_time
    assert speed._choose_clock("cuda", "posix") is time.perf_counter
