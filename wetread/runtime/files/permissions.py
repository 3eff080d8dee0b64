"""Permissions of new files: who may read an output, whatever the umask says."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress


def make_opener(mode: int) -> Callable[[str, int], int]:
    """Return an `opener` for `open` that gives a new file the permissions `mode`; an old one keeps its own.

    Windows has no such permissions: there a file inherits its folder's.
    """

    def open_file(path: str, flags: int) -> int:
        if not flags & os.O_CREAT:
            return os.open(path, flags)
        try:
            descriptor = os.open(path, flags | os.O_EXCL, mode)
        except FileExistsError:
            return os.open(path, flags, mode)
        if os.name != "nt":
            with suppress(OSError):  # a share may refuse; the umask can only have taken permissions away
                os.fchmod(descriptor, mode)
        return descriptor

    return open_file
