"""Keep the memory of a process that runs for months in one place."""

from __future__ import annotations

import ctypes
import platform

_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h


def share_one_arena() -> bool:
    """Let glibc give all threads memory of one arena; call it before they start. False without glibc.

    By itself it makes one for each thread, up to 8 for each processor, and what a short thread frees there
    another cannot use: a node, with threads for each association, grew by a MiB for each thousand objects.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    return bool(ctypes.CDLL(None).mallopt(_ARENA_MAX, 1))
