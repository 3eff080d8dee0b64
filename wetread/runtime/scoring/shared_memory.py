"""Memory that a process shares with those that it starts: arrays come back without a copy.

It has equal parts, trays. The main process lends one to a request, the worker process fills it with arrays,
and it can be lent again when the main process has let go of all of them.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from collections.abc import Callable
from math import prod
from pickle import PickleBuffer

import numpy as np
from numpy.typing import NDArray

Allocate = Callable[[tuple[int, ...]], NDArray[np.uint8]]
_ALIGNED = 64  # bytes: where an array may begin


def can_share() -> bool:
    """Whether this system has memory without a name, which is gone with the last process that holds it."""
    return hasattr(os, "memfd_create")


class Lease:
    """A tray that is lent to one request, until nothing refers to it or to its arrays."""

    def __init__(self, trays: Trays, number: int) -> None:
        self.number = number
        self._bytes = (ctypes.c_uint8 * trays.size).from_buffer(trays.memory, number * trays.size)
        self._end = weakref.finalize(self._bytes, trays.take_back, number)
        self._end.atexit = False

    def view(self, at: int, length: int) -> memoryview:
        """Return an array's bytes. Raises ValueError for a place that is not in the tray."""
        if not 0 <= at <= at + length <= len(self._bytes):
            raise ValueError("an array is not in its tray")
        return memoryview(self._bytes).cast("B")[at : at + length]


class Trays:
    """`count` trays of `size` bytes. It can be pickled for a process that inherits `descriptor`.

    Memory is taken as trays are filled, and `size` is rounded up to whole pages. Raises OSError where there
    is none.
    """

    def __init__(self, count: int, size: int) -> None:
        self.size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        self.descriptor = _make_memory()
        self._free = list(range(count))
        try:
            os.ftruncate(self.descriptor, count * self.size)
            self.memory = mmap.mmap(self.descriptor, 0)
        except (OSError, ValueError):
            os.close(self.descriptor)
            raise

    def __getstate__(self) -> tuple[int, int]:
        return self.descriptor, self.size

    def __setstate__(self, state: tuple[int, int]) -> None:
        self.descriptor, self.size = state
        self._free = []
        self.memory = mmap.mmap(self.descriptor, 0)

    def lend(self) -> Lease | None:
        """Lend a tray; None where all are lent."""
        try:
            number = self._free.pop()
        except IndexError:
            return None
        return Lease(self, number)

    def take_back(self, number: int) -> None:
        """Let a tray be lent again."""
        self._free.append(number)

    def fill(self, number: int) -> Filling:
        """Begin to fill a tray, in the process to which it is lent."""
        return Filling(memoryview(self.memory)[number * self.size : (number + 1) * self.size])

    def close(self) -> None:
        """Let no further process have this memory. What holds arrays in it may go on using them."""
        os.close(self.descriptor)


def _make_memory() -> int:
    """Return a descriptor that no standard stream of a process takes the place of. Raises OSError."""
    made = os.memfd_create("wetread", os.MFD_CLOEXEC)
    if made > 2:
        return made
    import fcntl

    try:
        return fcntl.fcntl(made, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(made)


class Filling:
    """A tray while its arrays are made."""

    def __init__(self, tray: memoryview) -> None:
        self._tray, self._filled = tray, 0
        self._start = _find_address(tray)

    def allocate(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Make an array in the tray, or elsewhere where the tray is full. Its values are what was there."""
        size = prod(shape)
        if self._filled + size > len(self._tray):
            return np.empty(shape, np.uint8)
        found = np.ndarray(shape, np.uint8, self._tray, self._filled)
        self._filled += -(-size // _ALIGNED) * _ALIGNED
        return found

    def find(self, array: PickleBuffer) -> int | None:
        """Return where in the tray an array begins; None of one that is elsewhere."""
        at = _find_address(array.raw()) - self._start
        return at if 0 <= at < len(self._tray) else None


def _find_address(content: memoryview) -> int:
    return int(np.frombuffer(content, np.uint8).ctypes.data) if len(content) else -1
