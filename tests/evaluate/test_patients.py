from __future__ import annotations

import pytest

from wetread.errors import ConfigError
from wetread.evaluate.patients import (
    DEFAULT_GROUP_REGEX,
    compile_group_regex,
    count_unmatched,
    find_group,
    merge_groups,
)


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("PNEUMONIA/person1199_bacteria_3149.jpeg", "person1199"),
        ("train/PNEUMONIA/person1_virus_6_1.jpeg", "person1"),
        ("NORMAL/IM-0115-0001.jpeg", "IM-0115"),
        ("NORMAL/NORMAL2-IM-0007-0001-0002.jpeg", "NORMAL2-IM-0007"),
        ("NORMAL/IM-0115.jpeg", "NORMAL/IM-0115.jpeg"),
        ("person12_ward/scan.png", "person12_ward/scan.png"),
        ("a/scan.png", "a/scan.png"),
    ],
)
def test_the_default_finds_the_patient(name: str, group: str) -> None:
    assert find_group(name, compile_group_regex(DEFAULT_GROUP_REGEX)) == group


def test_an_expression_of_ones_own() -> None:
    assert find_group("a/p7-x.png", compile_group_regex(r"p\d+")) == "p7"
    assert find_group("a/p7-x.png", compile_group_regex(r"/(p\d+)-(\w)")) == "p7"
    assert find_group("a/q.png", compile_group_regex(r"p*")) == "a/q.png"
    assert find_group("a/scan_1.png", compile_group_regex(r"(p\d+)?_")) == "a/scan_1.png"
    assert find_group("a/p7_1.png", compile_group_regex(r"(p\d+)?_")) == "p7"
    assert count_unmatched(["scan_1.png", "p7_1.png", "x.png"], r"(p\d+)?_") == 2
    with pytest.raises(ConfigError, match="regular expression"):
        compile_group_regex("(")


def test_groups_that_share_a_key_are_joined() -> None:
    groups = ["d", "c", "b", "a", "e"]
    digests = ["1", "1", "2", "", ""]
    looks = ["x", "y", "y", "z", ""]
    assert merge_groups(groups, [digests]) == ("c", "c", "b", "a", "e")
    assert merge_groups(groups, [digests, looks]) == ("b", "b", "b", "a", "e")
