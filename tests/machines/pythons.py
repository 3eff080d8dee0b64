"""This Linux with other versions of Python: an interpreter that is found, or one out of Debian's packages."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.machines.linux import NO_EMULATOR, enter, unpack_system
from tests.machines.machine import ROOT, Machine, MachineError, run

VERSIONS = ("3.12", "3.13", "3.14")
NEEDED = {"debootstrap": "debootstrap"}
# The Debian whose packages have a version.
_DEBIANS = {"3.13": "trixie", "3.14": "forky"}
_TAGS = tuple(f"manylinux{tag}_x86_64" for tag in ("_2_28", "_2_27", "_2_17", "2014"))


def build(folder: Path, version: str) -> Machine:
    """Make the machine under `folder`, or take the one that is there. Raises MachineError with no Python."""
    folder.mkdir(parents=True, exist_ok=True)
    python = folder / "env/bin/python"
    interpreter = None if python.exists() else find_interpreter(version)
    if interpreter is None and not python.exists():
        return _unpack(folder, version)
    if interpreter is not None:
        run([interpreter, "-m", "venv", str(folder / "env")], log=folder / "venv.log")
    shell = ("env", "-C", "{folder}", "-u", "PYTHONPATH", "{variables}")
    install = (str(python), "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt"))
    return Machine(
        name=f"python {version}", folder=folder, shell=shell, python=(str(python),), installer=install
    )


def find_interpreter(version: str) -> str | None:
    """Find an interpreter of a version: pyenv's own command of that name may be one that only complains."""
    found = sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}.*"))
    return str(found[-1] / "bin" / "python") if found else shutil.which(f"python{version}")


def _unpack(folder: Path, version: str) -> Machine:
    if version not in _DEBIANS:
        raise MachineError(f"no Python {version} on the PATH, in pyenv, or in a Debian")
    include = (f"python{version}", "libstdc++6", "zlib1g")
    root = unpack_system(folder, release=_DEBIANS[version], architecture="amd64", include=include)
    return Machine(
        name=f"python {version}",
        folder=folder,
        shell=enter(root, NO_EMULATOR),
        python=(f"/usr/bin/python{version}",),
        host="/host",
        tags=_TAGS,
        version=version,
    )
