from __future__ import annotations

import pytest
from packaging.requirements import Requirement
from packaging.tags import Tag, parse_tag

from wetread.bundle.target import Target
from wetread.errors import UsageError

WINDOWS, LINUX = Target("win_amd64", "3.12"), Target("manylinux_x86_64", "3.11")


@pytest.mark.parametrize(
    ("target", "text", "needed"),
    [
        (WINDOWS, "colorama; sys_platform == 'win32'", True),
        (LINUX, "colorama; sys_platform == 'win32'", False),
        (WINDOWS, "x; platform_system == 'Windows' and os_name == 'nt'", True),
        (LINUX, "x; platform_machine == 'x86_64'", True),
        (WINDOWS, "x; platform_machine == 'AMD64'", True),
        (Target("manylinux_aarch64", "3.13"), "x; platform_machine == 'aarch64'", True),
        (LINUX, "x; python_version < '3.12'", True),
        (WINDOWS, "x; python_version < '3.12'", False),
        (WINDOWS, "x; implementation_name == 'pypy'", False),
        # Whatever patch release it is.
        (WINDOWS, "x; python_full_version < '3.12.4'", True),
        (WINDOWS, "x; python_full_version >= '3.12.4'", True),
        (WINDOWS, "x; python_full_version >= '3.13'", False),
        (WINDOWS, "x; extra == 'cpu'", True),
        (WINDOWS, "x; extra == 'train'", False),
        (WINDOWS, "x", True),
    ],
)
def test_markers_are_read_for_the_target_not_for_this_machine(target, text, needed):
    assert target.needs(Requirement(text), frozenset({"cpu", "dicom"})) is needed


def test_without_extras_nothing_of_an_extra_is_needed():
    assert not WINDOWS.needs(Requirement("x; extra == 'cpu'"), frozenset())
    assert WINDOWS.needs(Requirement("x; sys_platform == 'win32'"), frozenset())


@pytest.mark.parametrize(
    ("target", "tag", "fits"),
    [
        (WINDOWS, "cp312-cp312-win_amd64", True),
        (WINDOWS, "cp37-abi3-win_amd64", True),
        (WINDOWS, "py3-none-any", True),
        (WINDOWS, "py2.py3-none-any", True),
        (WINDOWS, "cp311-cp311-win_amd64", False),
        (WINDOWS, "cp312-cp312-win32", False),
        (WINDOWS, "cp312-cp312t-win_amd64", False),
        (WINDOWS, "cp313-abi3-win_amd64", False),
        (WINDOWS, "cp312-cp312-manylinux_2_17_x86_64", False),
        (LINUX, "cp311-cp311-manylinux_2_28_x86_64", True),
        (LINUX, "cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64", True),
        (LINUX, "cp311-cp311-manylinux_2_31_x86_64", False),
        (LINUX, "cp311-cp311-musllinux_1_2_x86_64", False),
    ],
)
def test_tags(target, tag, fits):
    assert bool(parse_tag(tag) & target.tags()) is fits
    assert Tag("py3", "none", "any") in target.tags()


@pytest.mark.parametrize(
    ("platform", "python"), [("win32", "3.12"), ("linux", "3.12"), ("win_amd64", "3.10"), ("win_amd64", "3")]
)
def test_other_targets_are_refused(platform, python):
    with pytest.raises(UsageError, match="--p(latform|ython) must be"):
        Target(platform, python)
