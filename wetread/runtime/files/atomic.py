"""Files that take their names when they are whole, and outputs that take theirs together with a record.

Rows and record are two files, and no system renames two at once: `publish` sees to it that at no moment the
record of one run stands beside the rows of another.
"""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from wetread.errors import ShareWarning
from wetread.runtime.entries import RECORD_SUFFIX

# What a file system says that cannot sync a folder.
_WITHOUT_FOLDER_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF})


def publish(whole: str, path: str, record: str) -> None:
    """Give the file `whole` the name `path`, with its record beside it. Raises OSError.

    An output that stands there first gives up its name, then its record, and goes when the new ones stand:
    a kill between two steps leaves the name free and `whole` where it was. A failure puts all of it back.
    """
    if os.path.isdir(path) and not os.path.islink(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    place, aside = path + RECORD_SUFFIX, _aside(path)
    old_record, replaces = _read_text(place), os.path.lexists(path)
    with _staged(place, record) as staged:  # a full disk says so here, before anything is touched
        if replaces:
            os.replace(path, aside)
        recorded = False
        try:
            # The record first: a whole output without one could not be told from a user's own file.
            os.replace(staged, place)
            recorded = True
            os.replace(whole, path)
        except OSError:
            with suppress(OSError):
                if recorded:  # where this fails, the old rows must not come back to stand beside the new one
                    _put_back(place, old_record)
                if replaces:
                    os.rename(aside, path)
            raise
    sync_folder(path)
    remove_aside(path)


def remove_aside(path: str) -> None:
    """Remove the output that a whole one replaced, if a kill left it there."""
    with suppress(OSError):
        os.remove(_aside(path))


def _aside(path: str) -> str:
    return hide(path, ".old.tmp")


def _put_back(place: str, old_record: str | None) -> None:
    if old_record is not None:
        write_atomically(place, old_record)
    elif os.path.exists(place):
        os.remove(place)


def _read_text(path: str) -> str | None:
    """A text file byte for byte, whatever is in it; None where there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return None


def write_atomically(path: str, text: str) -> None:
    """Write a text file that appears whole or not at all."""
    with _staged(path, text) as staged:
        os.replace(staged, path)


@contextmanager
def _staged(path: str, text: str) -> Iterator[str]:
    """Write a text file beside its place, see it on the disk, and remove it if nobody renamed it."""
    staged = hide(path)
    try:
        with open(staged, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        yield staged
    finally:
        with suppress(FileNotFoundError):
            os.remove(staged)


def hide(path: str, suffix: str = ".tmp") -> str:
    """A dot-file's name beside `path`: one that a kill leaves behind is never taken for an input."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}{suffix}")


def sync_folder(path: str) -> None:
    """Make a rename survive a power cut, where the system can (not on Windows).

    Warns with a ShareWarning where the file system does not sync folders: the renamed file is whole, but a
    power cut soon afterwards may take its name away.
    """
    if os.name == "nt":
        return
    descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _WITHOUT_FOLDER_SYNC:
            raise
        warnings.warn(
            f"this file system does not sync folders ({error.strerror}): after a power cut, a file that was "
            "finished shortly before may be missing. Run the same command again then.",
            ShareWarning,
            stacklevel=2,
        )
    finally:
        os.close(descriptor)
