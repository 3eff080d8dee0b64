"""An ARM 64 Linux: Debian's own packages for it, run by qemu."""

from __future__ import annotations

import re
from pathlib import Path

from tests.machines.linux import compile_library, enter, unpack_system
from tests.machines.machine import OFFLINE, Machine, run

NEEDED = {"debootstrap": "debootstrap"}
_RELEASE = "bookworm"
# Debian 12's own qemu, 7.2, crashes inside onnxruntime.
_BACKPORTS = Path("/etc/apt/sources.list.d/wetread-machines.list")
_TAGS = tuple(f"manylinux{tag}_aarch64" for tag in ("_2_28", "_2_27", "_2_17", "2014"))


def build(folder: Path) -> Machine:
    """Make the machine under `folder`, or take the one that is there."""
    folder.mkdir(parents=True, exist_ok=True)
    root = unpack_system(folder, release=_RELEASE, architecture="arm64", include=("python3", "python3-venv"))
    emulator = folder / "qemu/usr/bin/qemu-aarch64"
    compile_library(root / "usr/lib/python3.11")
    shell = enter(root, emulator)
    return Machine(
        name="arm64",
        folder=folder,
        shell=shell,
        offline=(*OFFLINE, *shell),
        python=("/usr/bin/python3.11",),
        host="/host",
        tags=_TAGS,
    )


def fetch_emulator(folder: Path) -> None:
    """Fetch qemu's newest for this Debian, unless it is there. It asks apt: not beside another that does."""
    log = folder / "qemu.log"
    if (folder / "qemu/usr/bin/qemu-aarch64").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    listed = "".join(path.read_text() for path in Path("/etc/apt").rglob("*.sources"))
    where = re.findall(r"^URIs: (\S+/debian)/?$", listed, re.MULTILINE) or ["http://deb.debian.org/debian"]
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
    _BACKPORTS.write_text(f"deb [signed-by={keys}] {where[0]} {_RELEASE}-backports main\n")
    try:
        run(["apt-get", "update", "-qq"], log=log)
        run(["apt-get", "download", "-qq", f"qemu-user/{_RELEASE}-backports"], log=log, cwd=folder)
    finally:
        _BACKPORTS.unlink()
    (package,) = folder.glob("qemu-user_*.deb")
    run(["dpkg-deb", "-x", str(package), str(folder / "qemu")], log=log)
