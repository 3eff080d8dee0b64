"""Long file names on Windows, which need another form to be opened."""

from __future__ import annotations

import ntpath
import os

# Windows accepts at most 260 characters, and 248 for a folder, unless LongPathsEnabled is set.
_LONGEST = 247
_NO_LIMIT = "\\\\?\\"


def reach(name: str) -> str:
    """Return the name to open a file or folder with; rows and messages keep the original name."""
    return lengthen(name) if os.name == "nt" else name


def lengthen(name: str) -> str:
    r"""Convert a Windows name that is too long to the form without a limit: `\\?\C:\...`, `\\?\UNC\...`."""
    if name.startswith(_NO_LIMIT):
        return name.replace("/", "\\")  # which is a letter like any other in this form, and not allowed
    whole = ntpath.abspath(name or ".")
    if len(whole) <= _LONGEST:
        return name
    return _NO_LIMIT + ("UNC\\" + whole[2:] if whole.startswith("\\\\") else whole)
