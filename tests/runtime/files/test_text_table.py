from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wetread.runtime.files import text_table
from wetread.runtime.files.text_table import TextTable

KEYS = st.integers(0, 60).map(str)
STEPS = st.lists(st.tuples(KEYS, st.one_of(st.none(), st.binary(min_size=2, max_size=2))), max_size=300)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, least=st.sampled_from([2, 8, 64]))
def test_it_knows_what_a_dictionary_knows(steps, least):
    """Few slots, so that many texts want the same one, and it grows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_table, "_LEAST", least)
        table = TextTable(2)
    known: dict[str, bytes] = {}
    for text, value in steps:
        if value is None:
            table.discard(text)
            known.pop(text, None)
        else:
            table.put(text, value)
            known[text] = value
        assert len(table) == len(known)
    assert [table.get(str(number)) for number in range(61)] == [
        known.get(str(number)) for number in range(61)
    ]


def test_a_text_takes_few_bytes():
    table = TextTable(17)
    for number in range(20_000):
        table.put(f"1.2.840.113.{number}", bytes(17))
        assert table.size <= max(1024 * 34, 3.1 * 34 * len(table))
    assert table.size < 1.2e6
    assert "1.2.840.113.19999" in table and "1.2.840.113.20000" not in table


def test_values_of_another_width_are_refused():
    with pytest.raises(ValueError, match="a value of 2 bytes is wanted, not of 1"):
        TextTable(2).put("a", b"x")
    table = TextTable(0)
    table.put("a\udcff", b"")
    assert table.get("a\udcff") == b""
