"""Lock a watched folder: files that one watch moves away would be missing from another's rows."""

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
    """Hold a watched folder. Watches that move no files may share it; one that `moves` files is alone.

    Raises SourceError where the folder, or one that holds it, is watched so already. Where no lock file can
    be made (a folder that may only be read), the watch goes on: with a ShareWarning where it moves files.
    """
    place = os.path.join(reach(folder), LOCK_NAME)
    for above in _list_folders_above(folder):
        _refuse_locked(above, folder)
    try:
        file = _take(place, moves=moves)
    except OSError as error:
        if moves:
            warnings.warn(
                f"the watched folder takes no lock file ({error.strerror}): two watches that move its files "
                "are not noticed. Start one alone.",
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
        # Who can lock it alone is the last one; on Windows an open file stays, unlocked.
        if lock_file(file):
            with suppress(OSError):
                os.remove(place)
        file.close()


def _take(place: str, *, moves: bool) -> BinaryIO | None:
    """Open and lock a lock file; None where another process holds it."""
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
    """Raise SourceError where a watch moves the files of a folder that holds this one."""
    with suppress(OSError), open(os.path.join(reach(above), LOCK_NAME), "rb") as file:
        if not lock_file(file, shared=True):
            raise _in_use(folder)


def _in_use(folder: str) -> SourceError:
    return SourceError(
        f"Another `wetread watch` works on {folder!r} or on a folder around it, and one of the two moves "
        "files by --done or --failed: each would miss what the other moves. End that watch, or watch another "
        "folder."
    )
