"""This Linux on older processors, run by qemu: the same interpreter and the same wheels."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.machines.machine import ROOT, Machine

NEEDED = {"qemu-x86_64-static": "qemu-user-static"}
# Without AVX; with AVX alone; with AVX2.
OLD = ("Nehalem", "SandyBridge", "Haswell")
# The last of Intel's without SSE4.1: numpy's wheels do not run on it.
TOO_OLD = "Conroe"


def build(folder: Path, processor: str) -> Machine:
    """Take this machine's environment to another processor."""
    folder.mkdir(parents=True, exist_ok=True)
    shell = (
        "env",
        "-C",
        "{folder}",
        f"PYTHONPATH={ROOT}",
        "{variables}",
        "qemu-x86_64-static",
        "-cpu",
        processor,
    )
    return Machine(name=processor.lower(), folder=folder, shell=shell, python=(sys.executable,))
