"""By which name the system opens a file: on Windows, long ones need another form."""

from __future__ import annotations

import ntpath
import os

# Windows takes no more than 260 characters, and 248 for a folder, unless somebody set LongPathsEnabled.
_LONGEST = 247
_NO_LIMIT = "\\\\?\\"


def reach(name: str) -> str:
    """Return the name to open a file or folder by; rows and messages keep the one that was given."""
    return lengthen(name) if os.name == "nt" else name


def lengthen(name: str) -> str:
    r"""Bring a Windows name that is too long into the form without a limit: `\\?\C:\...`, `\\?\UNC\...`."""
    whole = ntpath.abspath(name or ".")
    if len(whole) <= _LONGEST or whole.startswith(_NO_LIMIT):
        return name
    return _NO_LIMIT + ("UNC\\" + whole[2:] if whole.startswith("\\\\") else whole)
