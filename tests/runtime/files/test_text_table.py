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


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(st.tuples(st.lists(KEYS, max_size=60), st.binary(min_size=2, max_size=2)), max_size=8),
    few=st.sampled_from([0, 5, 1000]),
    least=st.sampled_from([2, 64]),
)
def test_many_at_a_time_are_as_one_by_one(parts, few, least):
    """Also where a text comes twice, and where several want the same slot."""
    known: dict[str, bytes] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_table, "_LEAST", least)
        patch.setattr(text_table, "_FEW", few)
        table = TextTable(2)
        for texts, value in parts:
            table.put_many(texts, value)
            known |= dict.fromkeys(texts, value)
            if texts:
                table.discard(texts[0])
                known.pop(texts[0], None)
            assert len(table) == len(known)
            assert 3 * len(table) <= 2 * table.size // 19 or table.size == least * 19
    assert [table.get(str(number)) for number in range(61)] == [
        known.get(str(number)) for number in range(61)
    ]
    rows = table.find_many([str(number) for number in range(61)])
    assert [None if row < 0 else table.values[row].tobytes() for row in rows] == [
        known.get(str(number)) for number in range(61)
    ]


def test_a_table_of_many_grows_as_one_of_few():
    one, many = TextTable(1), TextTable(1)
    texts = [f"1.2.{number}" for number in range(30_000)]
    for text in texts:
        one.put(text, b"a")
    for start in range(0, 30_000, 700):
        many.put_many(texts[start : start + 700], b"a")
    assert (many.size, len(many)) == (one.size, len(one))
    assert (many.find_many(texts) >= 0).all() and many.find_many(["1.3"]) == [-1]


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
