"""One writer at a time: a lock that the system lets go of when its process ends, however it ends."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from typing import BinaryIO

from wetread.errors import ShareWarning

# Windows locks bytes and then refuses to read them: this one lies beyond any file that wetread writes.
_FAR_BYTE = 1 << 40


# What a file system says that has no locks, or whose lock service is not there (NFS without lockd, some
# FUSE and SMB mounts).
_WITHOUT_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


def lock_file(file: BinaryIO) -> bool:
    """Lock an open file for this process without waiting; tell whether it was free.

    On a file system without locks it counts as free, with a ShareWarning: two runs that write one output at
    the same time are not noticed there.
    """
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
        if error.errno not in _WITHOUT_LOCKS:
            raise
        warnings.warn(
            f"this file system has no locks ({error.strerror}): two runs that write one output at the same "
            "time are not noticed. Start one at a time.",
            ShareWarning,
            stacklevel=2,
        )
    return True
