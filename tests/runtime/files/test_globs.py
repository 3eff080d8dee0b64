from __future__ import annotations

import pytest

from wetread.errors import UsageError
from wetread.runtime.files.globs import compile_glob, matches


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*.jpg", "a/b.jpg", True),
        ("a/*.jpg", "a/b.jpg", True),
        ("a/*.jpg", "a/b/c.jpg", False),
        ("a/**/c.jpg", "a/c.jpg", True),
        ("a/**", "a/b/c", True),
        ("**/c.jpg", "a//c.jpg", True),
        ("**/c.jpg", "/c.jpg", True),
        ("[ab]?.p*", "b1.png", True),
        ("[!ab]?.p*", "b1.png", False),
        ("x[", "x[", True),
        ("a.b", "axb", False),
    ],
)
def test_globs(pattern, name, expected):
    assert matches(compile_glob(pattern), name) is expected


def test_a_set_that_runs_backwards_is_refused():
    with pytest.raises(UsageError, match="bad character range"):
        compile_glob("[z-a]*")
