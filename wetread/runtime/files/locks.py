"""Lock files, so that only one process writes; the system releases a lock when its process ends."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from time import monotonic, sleep
from typing import BinaryIO

from wetread.errors import ShareWarning

# On Windows locked bytes cannot be read, so they are chosen beyond any file that wetread writes. There are no
# shared locks here: a shared lock takes one of the bytes, an exclusive lock all.
_FAR_BYTE = 1 << 40
_BYTES = 64
# What Windows says of locked bytes; Wine's C library gives no number.
_TAKEN = (errno.EACCES, 0)

# Errors of file systems without locks, or without a lock service (NFS without lockd, some FUSE and SMB
# mounts).
_WITHOUT_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


# A process that is killed while it starts another one leaves its locks to that one until it has begun.
_MOMENT_SECONDS = 1.0


def lock_file(file: BinaryIO, *, shared: bool = False, patient: bool = True) -> bool:
    """Lock an open file for this process; return whether it was free, now or, if `patient`, in a moment.

    `shared`: several processes may share the lock (at most 64 on Windows). A lock that this file already
    has changes its kind; on Windows it counts as taken. On a file system without locks, the file counts as
    free, with a ShareWarning: two runs that write one output at the same time are not noticed there.
    """
    end = monotonic() + _MOMENT_SECONDS
    while not (is_locked := _try_locking(file, shared=shared)) and patient and monotonic() < end:
        sleep(0.02)
    return is_locked


def _try_locking(file: BinaryIO, *, shared: bool) -> bool:
    try:
        if sys.platform == "win32":
            return _lock_bytes(file, shared=shared)
        import fcntl

        fcntl.flock(file.fileno(), (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if isinstance(error, BlockingIOError | PermissionError) or error.errno == getattr(os, "EDEADLK", 36):
            return False
        if error.errno not in _WITHOUT_LOCKS:
            raise
        warnings.warn(
            f"this file system has no locks ({error.strerror}): two runs that write the same output at the "
            "same time are not noticed. Start one at a time.",
            ShareWarning,
            stacklevel=3,
        )
    return True


def _lock_bytes(file: BinaryIO, *, shared: bool) -> bool:
    """Lock all bytes at the far offset, or the first free one: Windows' replacement for flock."""
    import msvcrt

    here = file.tell()
    try:
        for start, count in [(n, 1) for n in range(_BYTES)] if shared else [(0, _BYTES)]:
            file.seek(_FAR_BYTE + start)
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, count)  # type: ignore[attr-defined,unused-ignore]
            except OSError as error:
                if error.errno not in _TAKEN:
                    raise
                continue
            return True
        return False
    finally:
        file.seek(here)


def is_named(file: BinaryIO, path: str) -> bool:
    """Whether an open file still has its name: a run that just ended may have removed it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
