"""Check that this processor can run the wheels: on an older one numpy ends with an illegal instruction.

The check runs before numpy is imported, and without it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from wetread.errors import SetupError

# What numpy's wheels for x86-64 are compiled for (x86-64-v2), as Linux names it: its bit in ECX of CPUID's
# leaf 1, and the number that Windows' IsProcessorFeaturePresent knows it by.
_NEEDED = {"ssse3": (9, 36), "sse4_1": (19, 37), "sse4_2": (20, 38)}
# Windows 10, version 2004: older ones answer no for every feature that they do not know.
_WINDOWS_BUILD = 19041


def check_processor() -> None:
    """Raise SetupError on an x86-64 processor that lacks instructions which numpy's wheels use."""
    missing = find_missing() if name_architecture() in ("x86_64", "AMD64") else ()
    if missing:
        names = ", ".join(name.upper().replace("_", ".") for name in missing)
        raise SetupError(
            f"This processor lacks {names}, so numpy, OpenCV and onnxruntime end with an illegal "
            "instruction. Use a machine with SSE4.2 (Intel since 2008, AMD since 2011)."
        )


def name_architecture() -> str:
    """Return the system's name for this architecture (`platform` is slow on Windows)."""
    if sys.platform == "win32":
        return os.environ.get("PROCESSOR_ARCHITECTURE", "")
    return os.uname().machine


def find_missing() -> tuple[str, ...]:
    """Return the missing instructions; none if they cannot be found out."""
    if sys.platform == "win32":
        return _ask_windows()
    flags = _ask_c_library()
    if flags is None:
        flags = read_flags()
    return tuple(name for name in _NEEDED if flags is not None and name not in flags)


def _ask_windows() -> tuple[str, ...]:
    if sys.platform != "win32" or sys.getwindowsversion().build < _WINDOWS_BUILD:
        return ()
    ask = ctypes.windll.kernel32.IsProcessorFeaturePresent
    return tuple(name for name, (_, number) in _NEEDED.items() if not ask(number))


def _ask_c_library() -> set[str] | None:
    """Read CPUID with glibc 2.33 or newer: under an emulator /proc/cpuinfo is the host's."""
    try:
        leaf = ctypes.CDLL(None).__x86_get_cpuid_feature_leaf
    except (AttributeError, OSError, TypeError):
        return None
    leaf.restype, leaf.argtypes = ctypes.POINTER(ctypes.c_uint32 * 4), [ctypes.c_uint]
    registers = leaf(0)
    if not registers:
        return None
    ecx = registers.contents[2]
    return {name for name, (bit, _) in _NEEDED.items() if ecx >> bit & 1}


def read_flags(cpuinfo: str = "/proc/cpuinfo") -> set[str] | None:
    """The flags of the first processor that Linux lists; None where it lists none."""
    try:
        lines = Path(cpuinfo).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), None)
