"""Build wetread's own wheel from the files that are installed here."""

from __future__ import annotations

import base64
import hashlib
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from wetread.bundle.archive import write_archive
from wetread.errors import SetupError

_WHEEL = b"Wheel-Version: 1.0\nGenerator: wetread\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def build_own_wheel(folder: Path) -> Path:
    """Write wetread's wheel into a folder; the same files give the same bytes. Raises SetupError."""
    installed = metadata.distribution("wetread")
    info = f"wetread-{installed.version}.dist-info"
    files = {f"wetread/{name}": data for name, data in _read_package().items()}
    for name in ("METADATA", "entry_points.txt"):
        text = installed.read_text(name)
        if text is None:
            raise SetupError(f"The installed wetread has no {name} to build a wheel from. Give --wheel FILE.")
        files[f"{info}/{name}"] = text.encode()
    files |= {f"{info}/licenses/{name}": data for name, data in _read_licences(installed).items()}
    files[f"{info}/WHEEL"] = _WHEEL
    files[f"{info}/RECORD"] = _record(files, f"{info}/RECORD")
    path = folder / f"wetread-{installed.version}-py3-none-any.whl"
    write_archive(path, files, compress=True)
    return path


def _read_package() -> dict[str, bytes]:
    spec = find_spec("wetread")
    if spec is None or not spec.submodule_search_locations:
        raise SetupError("wetread's own files are not in a folder. Give --wheel FILE.")
    root = Path(spec.submodule_search_locations[0])
    files = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return {
        path.as_posix(): (root / path).read_bytes()
        for path in sorted(files)
        if not any(part == "__pycache__" or part.startswith(".") for part in path.parts)
    }


def _read_licences(installed: metadata.Distribution) -> dict[str, bytes]:
    """Read the licence files of an installed distribution."""
    found = {}
    for file in installed.files or []:
        if file.parts[0].endswith(".dist-info") and "licen" in file.as_posix().lower():
            path = Path(str(installed.locate_file(file)))
            if path.is_file():
                found[path.name] = path.read_bytes()
    return found


def _record(files: dict[str, bytes], own: str) -> bytes:
    lines = []
    for name, data in sorted(files.items()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(data)}\n")
    return ("".join(lines) + f"{own},,\n").encode()
