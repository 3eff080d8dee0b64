"""Describe this machine: processor, memory, disk and, on Windows, the runtime libraries that wheels need.

Nothing here raises if a fact cannot be found out: it is None, and the caller reports that.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from wetread.runtime.threads import count_processors, list_groups

# Names of a processor's features: in numpy, and in the flags of /proc/cpuinfo.
_FEATURES = {
    "SSE4.2": ("SSE42", "sse4_2"),
    "AVX2": ("AVX2", "avx2"),
    "AVX-512": ("AVX512_SKX", "avx512bw"),
    "AVX-512 VNNI": ("AVX512VNNI", "avx512_vnni"),
    "AVX-VNNI": ("", "avx_vnni"),
    "NEON": ("NEON", "asimd"),
    "NEON dot product": ("ASIMDDP", "asimddp"),
}
_INTEGER_DOT_PRODUCTS = ("AVX-512 VNNI", "AVX-VNNI", "NEON dot product")
# onnxruntime's Windows wheel imports these four; CPython brings the first two.
VISUAL_CPP_LIBRARIES = ("vcruntime140.dll", "vcruntime140_1.dll", "msvcp140.dll", "msvcp140_1.dll")


@dataclass(frozen=True)
class Processor:
    """A processor: its architecture, the number that this process may use, and its features by name."""

    architecture: str
    count: int
    features: tuple[str, ...]

    @property
    def integer_dot_product(self) -> str | None:
        """The instructions that make int8 fast (VNNI and similar ones), or None."""
        return next((name for name in _INTEGER_DOT_PRODUCTS if name in self.features), None)


def read_processor() -> Processor:
    """Describe the processor."""
    # numpy asks the processor itself and takes precedence: under an emulator /proc/cpuinfo is the host's.
    told, listed = _features_of_numpy(), _features_of_linux()
    features = tuple(name for name in _FEATURES if told.get(name, name in listed))
    return Processor(platform.machine() or "unknown", count_processors(), features)


def _features_of_numpy() -> dict[str, bool]:
    """Return the features that numpy knows, and whether the processor has them."""
    try:  # numpy's own detection, for its kernels; on Windows there is no other source
        known = import_module("numpy._core._multiarray_umath").__cpu_features__
    except (ImportError, AttributeError):
        return {}
    return {name: bool(known[key]) for name, (key, _) in _FEATURES.items() if key in known}


def _features_of_linux(cpuinfo: str = "/proc/cpuinfo") -> set[str]:
    try:
        lines = Path(cpuinfo).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    flags = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    words = set(flags.partition(":")[2].split())
    return {name for name, (_, flag) in _FEATURES.items() if flag in words}


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of the Windows API."""

    _fields_ = (
        ("length", ctypes.c_ulong),
        ("load", ctypes.c_ulong),
        *((name, ctypes.c_ulonglong) for name in ("total", "free", "a", "b", "c", "d", "e")),
    )


def _read_memory_status() -> _MemoryStatus | None:
    """What Windows says of its memory, or None."""
    status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
    windows = getattr(ctypes, "windll", None)
    done = windows is not None and windows.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
    return status if done else None


def read_memory() -> int | None:
    """Return the machine's memory in bytes, or None."""
    if sys.platform == "win32":
        status = _read_memory_status()
        return None if status is None else int(status.total)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def read_free_memory(
    meminfo: str = "/proc/meminfo", root: str = "/sys/fs/cgroup", own: str = "/proc/self/cgroup"
) -> int | None:
    """Return the bytes that this process and its children may still take, or None.

    On Linux what the kernel calls available, and what the limits of control groups leave.
    """
    if sys.platform == "win32":
        status = _read_memory_status()
        return None if status is None else int(status.free)
    left = [
        room
        for folder in list_groups(root, own, ("", "memory"))
        for room in (
            _read_room(folder, limit="memory.max", used="memory.current", cache="inactive_file"),
            _read_room(
                folder,
                limit="memory.limit_in_bytes",
                used="memory.usage_in_bytes",
                cache="total_inactive_file",
            ),
        )
        if room is not None
    ]
    return min([*left, *_read_available(meminfo)], default=None)


def _read_room(folder: Path, *, limit: str, used: str, cache: str) -> int | None:
    """Return the bytes that a control group leaves; None without a limit. Cached files count as free."""
    try:
        allowed, taken = (int((folder / name).read_text(encoding="utf-8")) for name in (limit, used))
        lines = (folder / "memory.stat").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):  # "max" is no limit
        return None
    cached = next((int(line.split()[1]) for line in lines if line.startswith(f"{cache} ")), 0)
    return allowed - taken + cached


def _read_available(meminfo: str) -> list[int]:
    try:
        lines = Path(meminfo).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")]


def read_free_disk(folder: str) -> int | None:
    """Return the free bytes of a folder's disk, or None."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def find_visual_cpp() -> Mapping[str, bool]:
    """Return which of the Visual C++ runtime's libraries Windows can load."""
    return {name: _can_load(name) for name in VISUAL_CPP_LIBRARIES}


def _can_load(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def read_system() -> dict[str, str]:
    """Describe the operating system: its name and, if wheels depend on it, its C library."""
    found = {"platform": platform.platform()}
    library, version = platform.libc_ver()
    return found | ({"libc": f"{library} {version}"} if library else {})
