"""This Linux on a computer of two sockets, each with memory of its own, as qemu makes one of the whole disk.

The kernel is Debian's; the files are this machine's own. All of it is emulated, for a machine that is a
virtual one itself need not run another.
"""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.machines.machine import ROOT, Machine, MachineError, run

NEEDED = {"qemu-system-x86_64": "qemu-system-x86", "cpio": "cpio"}
# What finds the disk: a folder of this machine, shared over 9p.
_MODULES = ("virtio_pci", "9pnet_virtio", "9p")
_INIT = r"""#!/bin/busybox sh
PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
for module in $(cat /modules); do insmod /$module; done
mount -t 9p -o trans=virtio,version=9p2000.L,msize=1048576,cache=loose root /root || poweroff -f
mount -t proc proc /root/proc
mount -t sysfs sysfs /root/sys
mount -t devtmpfs devtmpfs /root/dev
folder=$(sed 's/.*folder=\([^ ]*\).*/\1/' /proc/cmdline)
chroot /root /bin/sh "$folder/command"
echo $? >"/root$folder/code"
sync
poweroff -f
"""


def build(folder: Path) -> Machine:
    """Make the kernel's first disk under `folder`, or take the one that is there. Raises MachineError."""
    script = Path(__file__).with_name("enter-sockets.sh")
    kernels = sorted((folder / "kernel/boot").glob("vmlinuz-*"))
    if not kernels:
        raise MachineError(f"no kernel under {folder / 'kernel'}")
    disk = folder / "first-disk.gz"
    if not disk.exists():
        _pack(folder / "kernel", kernels[-1].name.removeprefix("vmlinuz-"), disk)
    shell = ("sh", str(script), str(kernels[-1]), str(disk), "{folder}", f"PYTHONPATH={ROOT}", "{variables}")
    return Machine(name="two sockets", folder=folder, shell=shell, python=(sys.executable,))


def fetch_kernel(folder: Path) -> None:
    """Fetch Debian's kernel and busybox, unless they are there. It asks apt: not beside another that does."""
    if (folder / "kernel").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "kernel.log"
    asked = ["apt-cache", "depends", "--important", "linux-image-amd64"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    names = [line.split()[1] for line in done.stdout.splitlines() if line.strip().startswith("Depends:")]
    if not names:
        raise MachineError(f"apt knows no kernel for linux-image-amd64: {done.stdout}{done.stderr}")
    run(["apt-get", "download", "-qq", names[0], "busybox-static"], log=log, cwd=folder)
    for package in folder.glob("*.deb"):
        run(["dpkg-deb", "-x", str(package), str(folder / "kernel")], log=log)


def _pack(kernel: Path, version: str, disk: Path) -> None:
    """Pack busybox, the modules in the order in which they are needed, and what is run first."""
    place = disk.with_name("first-disk")
    for name in ("bin", "proc", "root"):
        (place / name).mkdir(parents=True, exist_ok=True)
    (place / "bin/busybox").write_bytes((kernel / "bin/busybox").read_bytes())
    found = {path.name.removesuffix(".ko").replace("-", "_"): path for path in kernel.rglob("*.ko")}
    modules = list(dict.fromkeys(name for wanted in _MODULES for name in _order(wanted, found)))
    for name in modules:
        (place / name).write_bytes(found[name].read_bytes())
    (place / "modules").write_text(" ".join(modules), encoding="ascii")
    (place / "init").write_text(_INIT, encoding="ascii")
    for name in ("init", "bin/busybox"):
        (place / name).chmod(0o755)
    names = "\n".join(str(path.relative_to(place)) for path in sorted(place.rglob("*")))
    command = ["cpio", "--quiet", "-o", "-H", "newc"]
    packed = subprocess.run(command, input=names.encode(), stdout=subprocess.PIPE, cwd=place, check=True)
    disk.write_bytes(gzip.compress(packed.stdout, 1))


def _order(module: str, found: dict[str, Path]) -> Iterator[str]:
    """A module after those that it needs; what is not a file is part of the kernel."""
    if module not in found:
        return
    said = re.search(rb"\0depends=([^\0]*)\0", found[module].read_bytes())
    for need in filter(None, said[1].decode().split(",") if said else ()):
        yield from _order(need.replace("-", "_"), found)
    yield module
