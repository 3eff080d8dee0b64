from __future__ import annotations

import re

from wetread.runtime.watch.faults import Faults, format_now


def test_a_fault_is_said_once_and_again_when_it_is_over():
    said: list[str] = []
    seconds = [100.0]
    faults = Faults(said.append, clock=lambda: seconds[0])
    faults.say("output", "")
    for _ in range(3):
        faults.say("output", "the disk is full")
        seconds[0] += 6
    faults.say("output", "")
    faults.say("output", "")
    began, over = said
    assert began == "the disk is full"
    assert re.fullmatch(
        r"over at \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ, 18 s after it began: the disk is full", over
    )


def test_topics_do_not_end_one_another_and_the_last_error_stays():
    faults = Faults(print)
    assert faults.describe() == {"last_error": None, "errors_now": []}
    faults.say("output", "full")
    faults.say("archive", "away")
    faults.say("archive", "")
    found = faults.describe()
    assert [each["what"] for each in found["errors_now"]] == ["full"]
    assert found["last_error"]["what"] == "away"
    assert found["last_error"]["ended"] is not None
    faults.say("output", "")
    assert faults.describe()["errors_now"] == []
    assert faults.describe()["last_error"]["what"] == "away"


def test_another_reason_is_said():
    said: list[str] = []
    faults = Faults(said.append)
    faults.say("output", "full")
    faults.say("output", "gone")
    assert said == ["full", "gone"]
    assert faults.describe()["last_error"]["ended"] is None


def test_another_reason_does_not_begin_it_anew():
    said: list[str] = []
    seconds = [100.0]
    faults = Faults(said.append, clock=lambda: seconds[0])
    for text in ("full", "gone", ""):
        faults.say("output", text)
        seconds[0] += 6
    assert said[-1].endswith(" 12 s after it began: gone")


def test_times_are_utc():
    assert re.fullmatch(r"2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\dZ", format_now())
