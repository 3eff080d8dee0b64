from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wetread.node import known_objects
from wetread.node.known_objects import DONE, HELD, OTHER, KnownObjects

NAMES = [f"1.2.{number}.dcm" for number in range(12)]
OTHERS = [f"1.2.{number}{OTHER}00.dcm" for number in range(3)]
NAME = st.sampled_from([*NAMES, *OTHERS])
DIGESTS = st.sampled_from([bytes([number]) * 16 for number in range(1, 4)])
WAYS = [f"sr A{number}@h:1" for number in range(10)]
STEPS = st.one_of(
    st.tuples(st.just("learn"), st.dictionaries(st.sampled_from(NAMES), DIGESTS, max_size=6)),
    st.tuples(st.sampled_from([DONE, HELD]), st.lists(NAME, max_size=6)),
    st.tuples(st.sampled_from([*WAYS, "sr OLD@h:1"]), NAME),
    st.tuples(st.just("look"), st.none()),
)


@settings(max_examples=100, deadline=None)
@given(
    steps=st.lists(STEPS, max_size=30), many=st.sampled_from([1, 7, 4096]), few=st.sampled_from([0, 3, 99])
)
def test_it_knows_what_dictionaries_know(steps, many, few):
    """However much of it is gathered before it is asked, and written one by one or all at a time."""
    digests: dict[str, bytes] = {}
    states: dict[str, int] = {}
    sent: dict[str, set[str]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(known_objects, "_MANY", many)
        patch.setattr(known_objects, "_FEW", few)
        known = KnownObjects(WAYS)
        for what, value in [*steps, ("look", None)]:
            if what == "learn":
                known.learn(value)
                digests |= value
            elif what in (DONE, HELD):
                known.add_state(value, what)
                states |= {name: states.get(name, 0) | what for name in value}
            elif what == "look":
                assert known.open == sum(not states.get(name, 0) & DONE for name in digests)
            else:
                known.add_sent(value, what)
                if what in WAYS:
                    sent.setdefault(value, set()).add(what)
    everything = [*NAMES, *OTHERS]
    seen = {*digests, *states, *sent}
    assert [known.find_state(name) for name in everything] == [states.get(name, 0) for name in everything]
    assert [known.find_digest(name) for name in everything] == [
        digests.get(name, bytes(16) if name in seen else None) for name in everything
    ]
    assert [known.list_sent(name) for name in everything] == [sent.get(name, set()) for name in everything]
    found, is_known, count = known.find_states(everything)
    assert found.tolist() == [states.get(name, 0) for name in everything]
    assert is_known.tolist() == [name in seen for name in everything]
    assert count == known.open


def test_what_is_no_digest_and_no_name_is_refused():
    known = KnownObjects(())
    with pytest.raises(ValueError, match="16 bytes"):
        known.learn({"1.2.dcm": b"short"})
    with pytest.raises(TypeError):
        known.add_state([5], DONE)  # type: ignore[list-item]
    assert known.open == 0 and "1.2.dcm" not in known
    assert known.is_all_sent("1.2.dcm")
