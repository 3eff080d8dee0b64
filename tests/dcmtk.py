"""dcmtk's own programs, by their paths.

pynetdicom installs Python programs of the same names (`storescu`, `echoscu`, `storescp`) into the
environment, and an activated environment comes first on the PATH: a bare name would let pynetdicom judge
itself.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path


def find_tool(name: str) -> str | None:
    """Return the path of a program on the PATH that is not of this Python environment, or None."""
    own = Path(sysconfig.get_path("scripts")).resolve()
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    others = [folder for folder in folders if folder and Path(folder).resolve() != own]
    return shutil.which(name, path=os.pathsep.join(others))


def require_tool(name: str) -> str:
    """Return the path of one of dcmtk's programs. Raises FileNotFoundError."""
    found = find_tool(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed: apt-get install dcmtk")
    return found
