"""Write zip files whose bytes depend only on their contents."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

_EPOCH = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
_FILE, _PROGRAM = 0o100644 << 16, 0o100755 << 16


def write_archive(
    path: Path, files: Mapping[str, bytes | Path], *, programs: tuple[str, ...] = (), compress: bool = False
) -> None:
    """Write a zip file: names in order, no times, one owner.

    `files` maps names to bytes or to files; names that end with one of `programs` are executable.
    """
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.compress_type = _UNIX, method
            entry.external_attr = _PROGRAM if name.endswith(programs) and programs else _FILE
            content = files[name]
            archive.writestr(entry, content if isinstance(content, bytes) else content.read_bytes())
