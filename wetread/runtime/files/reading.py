"""Read local files: only regular ones, completely, in few system calls."""

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
    """Open a file without blocking, check that it is a regular file (not a pipe), and read it.

    It makes as few system calls as possible: at each of them a worker releases the interpreter to another.
    """
    try:
        descriptor = os.open(
            reach(name), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        )
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ImageError(Status.UNREADABLE, "This is not a regular file.")
            data = _read_whole(descriptor, size=status.st_size)
            return data, os.fstat(descriptor) if ask_again else status
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(Status.UNREADABLE, f"The file cannot be read: {reason}.") from error


def _read_whole(descriptor: int, *, size: int) -> bytes:
    """Read to the end of a file that should have this size; one more byte is requested, to see the end."""
    data = os.read(descriptor, size + 1)
    if len(data) == size:
        return data
    parts = [data]  # it grew or shrank, or the system returns it in pieces
    while part := os.read(descriptor, 1 << 20):
        parts.append(part)
    return b"".join(parts)


def find_entry(name: str) -> Entry:
    """Return the entry of a local name; only the name if the file does not exist."""
    try:
        status = os.stat(reach(name))
    except (OSError, ValueError):
        return Entry(name)
    return Entry.of_file(name, size=status.st_size, modified=status.st_mtime_ns)


def read_entry(entry: Entry) -> bytes:
    """Return the current bytes of a local entry, even if it has changed. Raises ImageError('unreadable')."""
    return read_local(entry.name)
