from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wetread.errors import OutputError
from wetread.runtime.entries import Entry
from wetread.runtime.scoring.input_digest import InputDigest, check_inputs, mark_entry


def list_entries(count: int) -> list[Entry]:
    return [Entry(f"in/é{index:06d}.jpg", index, str(index)) for index in range(count)]


def digest(entries: list[Entry], *, chunk: int = 32) -> InputDigest:
    made = InputDigest()
    for at in range(0, len(entries), chunk):
        made.add("".join(map(mark_entry, entries[at : at + chunk])))
    return made


@given(cuts=st.lists(st.integers(0, 1500)))
def test_a_digest_is_the_same_however_it_was_taken_in(cuts):
    """As by a run of other workers, or one that was resumed."""
    marks = "".join(map(mark_entry, list_entries(1500)))
    ends = [0, *sorted(cuts), 1500]
    made = InputDigest()
    for start, stop in pairwise(ends):
        made.add(marks[8 * start : 8 * stop])
    assert made.describe() == digest(list_entries(1500)).describe()


@pytest.mark.parametrize("count", [0, 1, 2, 511, 512, 513, 1024, 1500, 20_000])
def test_the_same_listing_passes_and_what_is_kept_is_bounded(count):
    kept = digest(list_entries(count)).describe()
    assert kept["count"] == count
    assert len(kept["milestones"]) <= 8 * 511
    assert kept["every"] == 1 or len(kept["milestones"]) >= 8 * 256
    check_inputs(iter(list_entries(count)), kept, output="s.csv")


CHANGES = {
    "added": lambda entry: [Entry(entry.name + "b", 3, "3"), entry],
    "removed": lambda entry: [],
    "renamed": lambda entry: [entry._replace(name=entry.name + "b")],
    "resized": lambda entry: [entry._replace(size=-1)],
    "touched": lambda entry: [entry._replace(version="-1")],
}


@pytest.mark.parametrize("count", [3, 511, 512, 700, 3000])
@pytest.mark.parametrize("change", CHANGES)
def test_another_listing_is_refused_by_the_inputs_among_which_it_is(count, change):
    entries = list_entries(count)
    kept = digest(entries).describe()
    for at in {0, 1, count // 2, count - 2, count - 1}:
        changed = [*entries[:at], *CHANGES[change](entries[at]), *entries[at + 1 :]]
        with pytest.raises(OutputError, match=r"since 's.csv' was written.*--overwrite") as caught:
            check_inputs(iter(changed), kept, output="s.csv")
        named = re.search(r"Inputs? ([\d,]+)(?: to ([\d,]+))? changed since", str(caught.value))
        first, last = (int((one or named[1]).replace(",", "")) for one in named.groups())
        assert first <= at + 1 <= last <= min(count, first + kept["every"] - 1)


def test_one_input_more_or_less_at_the_end_is_named():
    entries = list_entries(4)
    kept = digest(entries[:3]).describe()
    with pytest.raises(OutputError, match=r"listing's end after input 3 changed.*now 'in/é000003.jpg'"):
        check_inputs(iter(entries), kept, output="s.csv")
    with pytest.raises(OutputError, match="Input 3 changed since.*now the end of the listing"):
        check_inputs(iter(entries[:2]), kept, output="s.csv")


def test_a_listing_is_not_read_on_after_the_change():
    entries = list_entries(20_000)
    kept = digest(entries).describe()
    listed = iter([*entries[:5], Entry("in/new.jpg"), *entries[5:]])
    with pytest.raises(OutputError, match="Inputs 1 to 64 changed"):
        check_inputs(listed, kept, output="s.csv")
    assert sum(1 for _ in listed) == 20_001 - 64
