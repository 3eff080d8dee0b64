"""Another Linux, unpacked from Debian's packages without running any of their scripts."""

from __future__ import annotations

import compileall
import sys
from pathlib import Path

from tests.machines.machine import run

_ENTER = Path(__file__).with_name("enter-linux.sh")
NO_EMULATOR = "-"
_MIRROR = "http://deb.debian.org/debian"


def unpack_system(folder: Path, *, release: str, architecture: str, include: tuple[str, ...]) -> Path:
    """Unpack a small Debian into `folder`/root, unless it is there; return the root.

    Nothing is configured: the packages' scripts would need the machine itself, or minutes of an emulator.
    """
    root, packages = folder / "root", folder / "packages"
    if (folder / "system-ready").exists():
        return root
    command = ["debootstrap", f"--arch={architecture}", "--variant=minbase", "--download-only"]
    command += [f"--include={','.join((*include, 'ca-certificates'))}", release, str(packages)]
    # Older ones know no newer release by name: all of them are made as the next one is.
    run([*command, _MIRROR, "sid"], log=folder / "debootstrap.log")
    root.mkdir(exist_ok=True)
    for package in sorted(packages.rglob("*.deb")):
        run(["dpkg-deb", "-x", str(package), str(root)], log=folder / "unpack.log")
    (folder / "system-ready").touch()
    return root


def compile_library(library: Path) -> None:
    """Compile a standard library here, if it is of this interpreter's version: an emulator takes minutes."""
    same = library.name == f"python{sys.version_info[0]}.{sys.version_info[1]}"
    if same and not (library / "__pycache__").exists():
        compileall.compile_dir(library, quiet=2, stripdir=str(library.parents[2]), prependdir="/")


def enter(root: Path, emulator: Path | str) -> tuple[str, ...]:
    """The command that runs a program in a root, as `Machine.shell`."""
    return ("unshare", "-Ur", "-m", "sh", str(_ENTER), str(root), "{folder}", str(emulator), "{variables}")
