"""Move a scored file to another folder, without losing it or replacing another file."""

from __future__ import annotations

import errno
import filecmp
import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wetread.runtime.files.atomic import replace_file
from wetread.runtime.files.long_paths import reach

# A UID or a date has dots, too: 1.2.840.113 ends in no suffix.
_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,7}")


@dataclass(frozen=True, slots=True)
class Moved:
    """Where a file went, in the form in which the target was given, without Windows' prefix for long names.

    `is_renamed`: whether it is the same file there, so that a sender that has it open writes to it. False for
    a copy on another disk, and where a file with the same bytes was there before.
    """

    place: str
    is_renamed: bool


def move_aside(name: str, *, root: str, target: str) -> Moved:
    """Move a file under `root` to the same relative path under `target`.

    If a file with the same bytes exists there, it is kept for both. If its bytes differ, the moved file gets
    a number between name and suffix: `1.2.3 (2).dcm`, and `1.2.3 (2)` without a suffix. Raises OSError.
    """
    wanted = os.path.join(target, os.path.relpath(name, root))
    source = reach(name)
    Path(reach(os.path.dirname(wanted))).mkdir(parents=True, exist_ok=True)
    place, number = wanted, 1
    while (found := Path(reach(place))).exists():
        if filecmp.cmp(source, found, shallow=False):
            Path(source).unlink()
            return Moved(place, is_renamed=False)
        number += 1
        place = _number(wanted, number)
    try:
        Path(source).rename(found)
    except OSError as error:
        # EXDEV: another file system. Windows has its own number for it (17).
        if error.errno != errno.EXDEV and getattr(error, "winerror", None) != 17:
            raise
        _copy_over(source, found)
        return Moved(place, is_renamed=False)
    return Moved(place, is_renamed=True)


def _number(path: str, number: int) -> str:
    """Put a number into a path's name, before its suffix."""
    stem, suffix = os.path.splitext(path)
    if not _SUFFIX.fullmatch(suffix):
        stem, suffix = path, ""
    return f"{stem} ({number}){suffix}"


def _copy_over(name: str, place: Path) -> None:
    """Move to another file system: copy atomically, then delete the original."""
    with replace_file(place) as staged:
        staged.touch(mode=0o600)  # a picture that its owner alone may read stays so while it is copied
        shutil.copyfile(name, staged)
        with suppress(OSError):  # a share may refuse times or modes
            shutil.copystat(name, staged)
    Path(name).unlink()
