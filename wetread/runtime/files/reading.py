"""Read local files: only regular ones, completely, in few system calls."""

from __future__ import annotations

import os
import stat

from wetread.errors import ImageError, Status
from wetread.runtime.entries import Entry
from wetread.runtime.files.long_paths import reach

# Without blocking: a pipe is opened, and then refused.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def read_local(name: str, *, size: int | None = None) -> bytes:
    """Return a regular file's bytes. Raises ImageError('unreadable').

    `size`: its size as listed. A file that still has it is read in three system calls: at each of them a
    worker releases the interpreter to another.
    """
    try:
        descriptor = os.open(reach(name), _FLAGS)
        try:
            return _read_listed(descriptor, size) if size else _read_regular(descriptor)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        raise _explain(error) from error


def read_regular(name: str) -> tuple[bytes, os.stat_result]:
    """Return a regular file's bytes, and its status after they were read. Raises ImageError('unreadable')."""
    try:
        descriptor = os.open(reach(name), _FLAGS)
        try:
            return _read_regular(descriptor), os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        raise _explain(error) from error


def _read_listed(descriptor: int, size: int) -> bytes:
    """Read a file that had `size` bytes, more than 0. Pipes and devices have none; a folder cannot be read.

    Only a file that does not have it any more is checked.
    """
    try:
        data = os.read(descriptor, size + 1)
    except OSError:
        _require_regular(descriptor)
        raise
    if len(data) == size:
        return data
    _require_regular(descriptor)
    return _read_rest(descriptor, data)


def _read_regular(descriptor: int) -> bytes:
    return _read_whole(descriptor, size=_require_regular(descriptor).st_size)


def _require_regular(descriptor: int) -> os.stat_result:
    """Return the status of an open file. Raises ImageError('unreadable') unless it is a regular file."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(Status.UNREADABLE, "This is not a regular file.")
    return status


def _explain(error: OSError | ValueError) -> ImageError:
    reason = getattr(error, "strerror", None) or str(error)
    number = getattr(error, "errno", None)
    return ImageError(Status.UNREADABLE, f"The file cannot be read: {reason}.", errno=number)


def _read_whole(descriptor: int, *, size: int) -> bytes:
    """Read to the end of a file that should have this size; one more byte is requested, to see the end."""
    data = os.read(descriptor, size + 1)
    return data if len(data) == size else _read_rest(descriptor, data)


def _read_rest(descriptor: int, data: bytes) -> bytes:
    """Read on after `data`: the file grew or shrank, or the system returns it in pieces."""
    parts = [data]
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
    return read_local(entry.name, size=entry.size)
