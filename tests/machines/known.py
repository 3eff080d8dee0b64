"""Tests that fail on an emulated machine by the emulator's fault, and why we think so."""

from __future__ import annotations

from fnmatch import fnmatch

# By machine, then by test: the whole name, or a pattern.
KNOWN: dict[str, dict[str, str]] = {
    "windows": {
        "tests/runtime/watch/test_watcher.py::test_two_watches_of_one_output_are_refused": (
            "Wine's C library gives the number of an earlier error for a lock that another process holds"
        ),
        "tests/runtime/model/test_packaged.py::test_where_a_bundle_installed_it_*": (
            "Wine makes a link and does not resolve it"
        ),
    },
    "arm64": {},
}


def explain(machine: str, test: str) -> str:
    """Say why a test fails on a machine; '' where nobody knows."""
    # Where the tests lie there is no part of their name.
    name = "tests/" + test.replace("\\", "/").partition("tests/")[2]
    return next((why for pattern, why in KNOWN.get(machine, {}).items() if fnmatch(name, pattern)), "")
