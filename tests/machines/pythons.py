"""This Linux with other versions of Python: an environment for each interpreter that is found."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.machines.machine import ROOT, Machine, MachineError, run

VERSIONS = ("3.12", "3.13", "3.14")


def build(folder: Path, version: str) -> Machine:
    """Make an environment of a Python on the PATH or among pyenv's. Raises MachineError without one."""
    python = folder / "env/bin/python"
    if not python.exists():
        folder.mkdir(parents=True, exist_ok=True)
        run([find_interpreter(version), "-m", "venv", str(folder / "env")], log=folder / "venv.log")
    shell = ("env", "-C", "{folder}", "-u", "PYTHONPATH", "{variables}")
    install = (str(python), "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt"))
    return Machine(
        name=f"python {version}", folder=folder, shell=shell, python=(str(python),), installer=install
    )


def find_interpreter(version: str) -> str:
    """Find an interpreter of a version: pyenv's own command of that name may be one that only complains."""
    found = sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}.*"))
    if found:
        return str(found[-1] / "bin" / "python")
    if command := shutil.which(f"python{version}"):
        return command
    raise MachineError(f"no Python {version} on the PATH or in pyenv")
