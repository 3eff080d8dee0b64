"""Move a scored file aside, so that it is never lost and never replaces another."""

from __future__ import annotations

import errno
import filecmp
import os
import shutil
from contextlib import suppress
from pathlib import Path

from wetread.runtime.files.atomic import replace_file
from wetread.runtime.files.long_paths import reach


def move_aside(name: str, *, root: str, target: str) -> str:
    """Move a file under `root` to the same place under `target`; return its new name.

    One that is there already with the same bytes stands for both; one with others keeps its name, and
    the new one gets a number. Raises OSError.
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
        place = wanted.with_name(f"{wanted.stem} ({number}){wanted.suffix}")
    try:
        Path(name).rename(place)
    except OSError as error:
        # EXDEV: another file system. Windows says so by its own number (17).
        if error.errno != errno.EXDEV and getattr(error, "winerror", None) != 17:
            raise
        _copy_over(name, place)
    return str(place)


def _copy_over(name: str, place: Path) -> None:
    """Move to another file system: the copy appears whole, and only then the original goes."""
    with replace_file(place) as staged:
        shutil.copyfile(name, staged)
        with suppress(OSError):  # a share may take no times or modes
            shutil.copystat(name, staged)
    Path(name).unlink()
