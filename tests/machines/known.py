"""Tests that fail on an emulated machine by the emulator's fault, and why we think so."""

from __future__ import annotations

from fnmatch import fnmatch

# By machine, then by test: the whole name, or a pattern.
KNOWN: dict[str, dict[str, str]] = {"windows": {}, "arm64": {}}


def explain(machine: str, test: str) -> str:
    """Say why a test fails on a machine; '' where nobody knows."""
    # Where the tests lie there is no part of their name.
    name = "tests/" + test.replace("\\", "/").partition("tests/")[2]
    return next((why for pattern, why in KNOWN.get(machine, {}).items() if fnmatch(name, pattern)), "")
