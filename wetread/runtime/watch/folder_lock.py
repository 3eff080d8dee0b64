"""Lock a watched folder: files that one watch moves would be missing from another watch's rows."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from wetread.errors import ShareWarning, SourceError
from wetread.runtime.files.locks import is_named, lock_file
from wetread.runtime.files.long_paths import reach

# A dot-file, so that no listing takes it for an input.
LOCK_NAME = ".wetread-watch.lock"


@contextmanager
def lock_folder(folder: str, *, moves: bool) -> Iterator[None]:
    """Lock a watched folder. Watches that move no files may share it; one that `moves` files is exclusive.

    Raises SourceError if a watch of the folder, or of one above it, excludes this one. If no lock file can be
    made (the folder is read-only), the watch goes on, with a ShareWarning if it moves files.
    """
    place = os.path.join(reach(folder), LOCK_NAME)
    for above in _list_folders_above(folder):
        _refuse_locked(above, folder)
    try:
        file = _take(place, moves=moves)
    except OSError as error:
        if moves:
            warnings.warn(
                f"no lock file can be made in the watched folder ({error.strerror}): two watches that move "
                "its files are not noticed. Start only one.",
                ShareWarning,
                stacklevel=3,
            )
        yield
        return
    if file is None:
        raise _in_use(folder)
    try:
        yield
    finally:
        _let_go(file, place)


def _let_go(file: BinaryIO, place: str) -> None:
    """Release a lock, and remove its file if no other watch has it open."""
    if os.name == "nt":  # it removes no open file: neither this one nor another watch's
        file.close()
        with suppress(OSError):
            os.remove(place)
        return
    if lock_file(file, patient=False):  # whoever can lock it exclusively is the last one
        with suppress(OSError):
            os.remove(place)
    file.close()


def _take(place: str, *, moves: bool) -> BinaryIO | None:
    """Open and lock a lock file; None if another process has the lock."""
    while True:
        file = open(place, "ab")  # noqa: SIM115 - it is held for the length of the watch
        if not lock_file(file, shared=not moves):
            file.close()
            return None
        if is_named(file, place):
            return file
        file.close()  # a watch that just ended removed it


def _list_folders_above(folder: str) -> Iterator[str]:
    path = os.path.realpath(folder)
    while (parent := os.path.dirname(path)) != path:
        yield parent
        path = parent


def _refuse_locked(above: str, folder: str) -> None:
    """Raise SourceError if a watch moves the files of a folder above this one."""
    with suppress(OSError), open(os.path.join(reach(above), LOCK_NAME), "rb") as file:
        if not lock_file(file, shared=True):
            raise _in_use(folder)


def _in_use(folder: str) -> SourceError:
    return SourceError(
        f"Another `wetread watch` works on {folder!r} or on a folder around it, and one of the two moves "
        "files with --done or --failed: each would miss what the other moves. End that watch, or watch "
        "another folder."
    )
