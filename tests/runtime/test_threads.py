from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wetread.runtime.threads import map_in_order


@given(items=st.lists(st.integers()), threads=st.integers(1, 4), ahead=st.integers(1, 9))
def test_results_are_in_order_and_few_are_taken_ahead(items, threads, ahead):
    taken = 0

    def take():
        nonlocal taken
        for item in items:
            taken += 1
            yield item

    found = []
    for result in map_in_order(lambda x: x * 2, take(), threads=threads, ahead=ahead, name="test"):
        found.append(result)
        assert taken - len(found) < ahead
    assert found == [item * 2 for item in items]


def test_an_error_stands_in_its_place_and_the_threads_end():
    results = map_in_order(lambda x: 6 // x, [1, 2, 0, 3], threads=2, ahead=2, name="ends")
    assert [next(results), next(results)] == [6, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ends")]


def test_a_caller_that_goes_away_ends_the_threads():
    results = map_in_order(str, range(1000), threads=2, ahead=4, name="leaves")
    assert next(results) == "0"
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("leaves")]
