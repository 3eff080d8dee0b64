"""The peak memory of this process alone."""

from __future__ import annotations

import re
from pathlib import Path


def read_peak() -> int:
    """The most that this process had in memory since its program began, in bytes (Linux).

    `getrusage`'s ru_maxrss outlives exec: a small program started by a large one is given the large one's.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)[1]) * 1024  # type: ignore[index]
