"""Read local files: regular ones alone, whole, in few system calls."""

from __future__ import annotations

import os
import stat

from wetread.errors import ImageError, Status
from wetread.runtime.entries import Entry
from wetread.runtime.files.long_paths import reach


def read_local(name: str) -> bytes:
    """Return a regular file's bytes. Raises ImageError('unreadable')."""
    return _read_regular(name, ask_again=False)[0]


def read_regular(name: str) -> tuple[bytes, os.stat_result]:
    """Return a regular file's bytes, and its status after they were read. Raises ImageError('unreadable')."""
    return _read_regular(name, ask_again=True)


def _read_regular(name: str, *, ask_again: bool) -> tuple[bytes, os.stat_result]:
    """Read a file that is opened without waiting and only then asked what it is: a pipe is not read.

    In as few system calls as there can be: at each of them a worker hands the interpreter to another.
    """
    try:
        descriptor = os.open(
            reach(name), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        )
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ImageError(Status.UNREADABLE, "Expected a regular file. Received something else.")
            data = _read_whole(descriptor, size=status.st_size)
            return data, os.fstat(descriptor) if ask_again else status
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(Status.UNREADABLE, f"Expected a readable file. Received: {reason}.") from error


def _read_whole(descriptor: int, *, size: int) -> bytes:
    """Read to the end of a file that should have this size: one byte more is asked for, to see the end."""
    data = os.read(descriptor, size + 1)
    if len(data) == size:
        return data
    parts = [data]  # it grew or shrank, or the system gives it in pieces
    while part := os.read(descriptor, 1 << 20):
        parts.append(part)
    return b"".join(parts)


def find_entry(name: str) -> Entry:
    """The entry of a local name; of one that is not there, the name alone."""
    try:
        status = os.stat(reach(name))
    except (OSError, ValueError):
        return Entry(name)
    return Entry.of_file(name, size=status.st_size, modified=status.st_mtime_ns)


def read_entry(entry: Entry) -> bytes:
    """Return the bytes of a local entry, whatever it is by now. Raises ImageError('unreadable')."""
    return read_local(entry.name)
