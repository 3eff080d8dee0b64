"""Replace closed standard streams: a service, `2>&-`, or pythonw on Windows starts a process without them.

The next file that such a process opens gets the missing stream's number, and what a library prints to
standard error ends up between its rows. So the null device is opened under those numbers first.
"""

from __future__ import annotations

import io
import os
import sys

_NAMES = ("stdin", "stdout", "stderr")


class Nowhere(io.TextIOWrapper):
    """A replacement for a closed standard stream: it discards what is written to it."""


def open_missing() -> None:
    """Open the null device in place of every standard stream that is closed, for children as well."""
    for number, name in enumerate(_NAMES):
        if not is_open(number):
            _occupy(number)
        if getattr(sys, name) is None:
            raw = io.FileIO(number, "r" if number == 0 else "w", closefd=False)
            buffered = io.BufferedReader(raw) if number == 0 else io.BufferedWriter(raw)
            setattr(sys, name, Nowhere(buffered, "utf-8", errors="backslashreplace"))


def is_open(number: int) -> bool:
    """Whether a file descriptor is open."""
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _occupy(number: int) -> None:
    opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number, which need not be this one
    if opened == number:
        os.set_inheritable(number, True)
        return
    os.dup2(opened, number)
    os.close(opened)
