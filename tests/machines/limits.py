"""This machine with little of itself: one core, half of its time, and 1 GB, by Linux's control groups."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.machines.machine import ROOT, Machine, MachineError

MEMORY = 1 << 30
# Of a period of 100 ms.
QUOTA = 50_000
_GROUPS = Path("/sys/fs/cgroup")
_NAME = "wetread-machines"


def build(folder: Path) -> Machine:
    """Describe the machine. Raises MachineError where control groups cannot be made."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = list(choose_settings())
    script = Path(__file__).with_name("enter-limits.sh")
    shell = ("sh", str(script), _NAME, *settings, "--", "taskset", "--cpu-list", "0")
    shell += ("env", "-C", "{folder}", f"PYTHONPATH={ROOT}", "{variables}")
    return Machine(name="small", folder=folder, shell=shell, python=(sys.executable,))


def choose_settings() -> list[str]:
    """FILE=VALUE of each limit, for version 2 of control groups or version 1."""
    if (_GROUPS / "cgroup.controllers").exists():
        return [f"{_GROUPS}/memory.max={MEMORY}", f"{_GROUPS}/cpu.max={QUOTA} 100000"]
    if (_GROUPS / "memory").is_dir() and (_GROUPS / "cpu").is_dir():
        memory, quota = "memory.limit_in_bytes", "cpu.cfs_quota_us"
        return [f"{_GROUPS}/memory/{memory}={MEMORY}", f"{_GROUPS}/cpu/{quota}={QUOTA}"]
    raise MachineError(f"no control groups for memory and processors under {_GROUPS}")
