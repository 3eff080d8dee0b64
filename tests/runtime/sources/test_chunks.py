from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wetread.errors import SourceError
from wetread.runtime.entries import Entry
from wetread.runtime.sources.chunks import group_entries, join_chunks


@given(
    sizes=st.lists(st.one_of(st.none(), st.integers(0, 5 << 20)), max_size=60),
    batch_size=st.integers(1, 9),
    most=st.lists(st.integers(0, 40), min_size=1, max_size=9),
)
def test_joined_chunks_are_cut_at_the_same_places_again(sizes, batch_size, most):
    listed = [Entry(f"{index}.jpg", size) for index, size in enumerate(sizes)]
    chunks = list(group_entries(listed, batch_size=batch_size))
    turn = iter(range(10**6))
    joined = list(join_chunks(map(list, chunks), most=lambda: most[next(turn) % len(most)]))
    cut = [chunk for entries in joined for chunk in group_entries(entries, batch_size=batch_size)]
    assert cut == chunks
    assert all(len(entries) <= max(*most, batch_size) for entries in joined)


def test_chunks_are_joined_up_to_a_number_that_may_change():
    chunks = group_entries([Entry(f"{index}") for index in range(50)], batch_size=4)
    most = 0
    joined = join_chunks(chunks, most=lambda: most)
    assert len(next(joined)) == 4
    most = 15
    assert [len(next(joined)) for _ in range(2)] == [12, 12]
    most = 100
    assert len(next(joined)) == 22
    assert list(joined) == []


def test_what_was_listed_before_an_error_comes_before_it():
    def list_files():
        for index in range(10):
            yield Entry(f"{index}")
        raise SourceError("The disk is gone.")

    joined = join_chunks(group_entries(list_files(), batch_size=4), most=lambda: 100)
    assert [entry.name for entry in next(joined)] == [str(index) for index in range(8)]
    with pytest.raises(SourceError, match="gone"):
        next(joined)
