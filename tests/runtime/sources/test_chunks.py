from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wetread.errors import SourceError
from wetread.runtime.entries import Entry
from wetread.runtime.sources.chunks import CHUNK_BYTES, group_entries, join_chunks


@given(
    sizes=st.lists(st.one_of(st.none(), st.integers(0, 5 << 20), st.integers(0, 9_000)), max_size=60),
    batch_size=st.integers(1, 9),
    most=st.lists(st.integers(0, 40), min_size=1, max_size=9),
)
@example(sizes=[5 << 20, *[0] * 9], batch_size=9, most=[2])
@example(sizes=[0, None], batch_size=1, most=[2])
def test_joined_chunks_are_cut_at_the_same_places_again(sizes, batch_size, most):
    listed = [Entry(f"{index}.jpg", size) for index, size in enumerate(sizes)]
    chunks = list(group_entries(listed, batch_size=batch_size))
    turn = iter(range(10**6))
    joined = join_chunks(chunks, most_entries=lambda: most[next(turn) % len(most)], seconds=60)
    given = list(joined)
    assert [chunk for entries in given for chunk in group_entries(entries, batch_size=batch_size)] == chunks
    for entries in given:
        if entries not in chunks:
            assert len(entries) <= max(most)
            # One of unknown size stands beside empty files alone.
            assert sum(CHUNK_BYTES if one.size is None else one.size for one in entries) <= CHUNK_BYTES


def test_chunks_are_joined_up_to_a_number_that_may_change():
    chunks = group_entries([Entry(f"{index}", 9) for index in range(50)], batch_size=4)
    most = 0
    joined = join_chunks(chunks, most_entries=lambda: most, seconds=60)
    assert len(next(joined)) == 4
    most = 15
    assert [len(next(joined)) for _ in range(2)] == [12, 12]
    most = 100
    assert len(next(joined)) == 22
    assert list(joined) == []


def test_large_files_are_not_joined_because_small_ones_were():
    listed = [*[Entry("small", 9_000)] * 64, *[Entry("large", 19 << 20)] * 3]
    joined = join_chunks(group_entries(listed, batch_size=32), most_entries=lambda: 128, seconds=60)
    # The 65th file, a large one, ends the third chunk, alone.
    assert [len(entries) for entries in joined] == [64, 1, 1, 1]


def test_a_slow_listing_is_not_waited_for():
    def list_slowly():
        for index in range(40):
            time.sleep(0.01)
            yield Entry(f"{index}", 9)

    chunks = group_entries(list_slowly(), batch_size=1)
    joined = list(join_chunks(chunks, most_entries=lambda: 128, seconds=0.1))
    assert all(len(entries) <= 11 for entries in joined) and sum(map(len, joined)) == 40


def test_no_chunk_waits_for_the_next_where_none_is_joined():
    taken = 0

    def count():
        nonlocal taken
        for index in range(40):
            taken += 1
            yield Entry(f"{index}", 9)

    joined = join_chunks(group_entries(count(), batch_size=4), most_entries=lambda: 0, seconds=60)
    assert len(next(joined)) == taken == 4


def test_what_was_listed_before_an_error_comes_before_it():
    def list_files():
        for index in range(10):
            yield Entry(f"{index}", 9)
        raise SourceError("The disk is gone.")

    chunks = group_entries(list_files(), batch_size=4)
    joined = join_chunks(chunks, most_entries=lambda: 100, seconds=60)
    assert [entry.name for entry in next(joined)] == [str(index) for index in range(8)]
    with pytest.raises(SourceError, match="gone"):
        next(joined)
