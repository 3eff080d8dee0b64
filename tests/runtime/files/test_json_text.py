"""Records as JSON that other readers take: without NaN and infinity."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wetread.runtime.files.json_text import write_record

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda some: st.lists(some, max_size=4) | st.dictionaries(st.text(max_size=3), some, max_size=4),
    max_leaves=8,
)


def without(value):
    if isinstance(value, dict):
        return {key: without(each) for key, each in value.items()}
    if isinstance(value, list):
        return list(map(without, value))
    return value if not isinstance(value, float) or math.isfinite(value) else None


@given(VALUES)
def test_it_is_json_that_says_the_same_but_for_what_json_lacks(values):
    assert json.loads(write_record(values), parse_constant=pytest.fail) == without(values)


def test_tuples_are_lists_and_the_text_ends_its_line():
    found = write_record({"a": (1.5, math.nan, (math.inf,))})
    assert found == json.dumps({"a": [1.5, None, [None]]}, indent=2) + "\n"
