"""Standard streams that are closed: a service, `2>&-`, or pythonw on Windows starts a process without them.

The next file that such a process opens takes the number of the missing stream, and what a library prints
to standard error lands between its rows. So the null device takes those numbers before anything else does.
"""

from __future__ import annotations

import io
import os
import sys

_NAMES = ("stdin", "stdout", "stderr")


class Nowhere(io.TextIOWrapper):
    """What stands in for a standard stream that is closed: what is written to it is lost."""


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
    """Tell whether a file descriptor is open."""
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
