"""One writer at a time: a lock that the system lets go of when its process ends, however it ends."""

from __future__ import annotations

import os
import sys
from typing import BinaryIO

# Windows locks bytes and then refuses to read them: this one lies beyond any file that wetread writes.
_FAR_BYTE = 1 << 40


def lock_file(file: BinaryIO) -> bool:
    """Lock an open file for this process without waiting; tell whether it was free."""
    try:
        if sys.platform == "win32":
            import msvcrt

            here = file.tell()
            file.seek(_FAR_BYTE)
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            finally:
                file.seek(here)
        else:
            import fcntl

            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if isinstance(error, BlockingIOError | PermissionError) or error.errno == getattr(os, "EDEADLK", 36):
            return False
        raise
    return True
