"""An ARM 64 Linux: Debian's own packages for it, run by qemu."""

from __future__ import annotations

import re
from pathlib import Path

from tests.machines.machine import Machine, need, run

_RELEASE = "bookworm"
# Debian 12's own qemu, 7.2, crashes inside onnxruntime.
_BACKPORTS = Path("/etc/apt/sources.list.d/wetread-machines.list")
_TAGS = tuple(f"manylinux{tag}_aarch64" for tag in ("_2_28", "_2_27", "_2_17", "2014"))


def build(folder: Path) -> Machine:
    """Make the machine under `folder`, or take the one that is there."""
    folder.mkdir(parents=True, exist_ok=True)
    emulator, root = folder / "qemu/usr/bin/qemu-aarch64", folder / "root"
    if not emulator.exists():
        _fetch_emulator(folder)
    if not (root / "usr/bin/python3.11").exists():
        need({"debootstrap": "debootstrap"}, log=folder / "apt.log")
        _unpack_system(folder, root)
    enter = Path(__file__).with_name("enter-arm64.sh")
    shell = ("unshare", "-Ur", "-m", "sh", str(enter), str(root), "{folder}", str(emulator), "{variables}")
    offline = (*shell[:3], "-n", *shell[3:])
    return Machine(
        name="arm64",
        folder=folder,
        shell=shell,
        offline=offline,
        python=("/usr/bin/python3.11",),
        host="/host",
        tags=_TAGS,
    )


def _fetch_emulator(folder: Path) -> None:
    log = folder / "qemu.log"
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


def _unpack_system(folder: Path, root: Path) -> None:
    """Unpack Debian's packages without configuring them: their scripts would need the machine itself."""
    packages = folder / "packages"
    command = ["debootstrap", "--arch=arm64", "--variant=minbase", "--foreign"]
    command += ["--include=python3,python3-venv,ca-certificates", _RELEASE, str(packages)]
    run(command, log=folder / "debootstrap.log")
    root.mkdir(exist_ok=True)
    for package in sorted(packages.rglob("*.deb")):
        run(["dpkg-deb", "-x", str(package), str(root)], log=folder / "unpack.log")
