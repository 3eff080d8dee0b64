"""Move a scored file to another folder, without losing it or replacing another file."""

from __future__ import annotations

import errno
import filecmp
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from wetread.runtime.files.atomic import replace_file
from wetread.runtime.files.long_paths import reach

# A UID or a date has dots, too: 1.2.840.113 ends in no suffix.
_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,7}")


def move_aside(name: str, *, root: str, target: str) -> str:
    """Move a file under `root` to the same relative path under `target`; return its new name.

    If a file with the same bytes exists there, it is kept for both. If its bytes differ, the moved file gets
    a number between name and suffix: `1.2.3 (2).dcm`, and `1.2.3 (2)` without a suffix. Raises OSError.
    """
    wanted = Path(reach(os.path.join(target, os.path.relpath(name, root))))
    name = reach(name)
    wanted.parent.mkdir(parents=True, exist_ok=True)
    place, number = wanted, 1
    while place.exists():
        if filecmp.cmp(name, place, shallow=False):
            Path(name).unlink()
            return str(place)
        number += 1
        place = wanted.with_name(_number(wanted.name, number))
    try:
        Path(name).rename(place)
    except OSError as error:
        # EXDEV: another file system. Windows has its own number for it (17).
        if error.errno != errno.EXDEV and getattr(error, "winerror", None) != 17:
            raise
        _copy_over(name, place)
    return str(place)


def _number(name: str, number: int) -> str:
    """Put a number into a name, before its suffix."""
    stem, suffix = os.path.splitext(name)
    if not _SUFFIX.fullmatch(suffix):
        stem, suffix = name, ""
    return f"{stem} ({number}){suffix}"


def _copy_over(name: str, place: Path) -> None:
    """Move to another file system: copy atomically, then delete the original."""
    with replace_file(place) as staged:
        shutil.copyfile(name, staged)
        with suppress(OSError):  # a share may refuse times or modes
            shutil.copystat(name, staged)
    Path(name).unlink()
