"""Run whole processes in turn and measure each: wall time, processor time, peak memory.

Standard library only: on Linux a child's peak memory starts at its parent's, so the parent stays small.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

NOT_RUN = 9
"""Exit code of a peer that cannot run here; its last line says why."""

# TensorFlow's greetings are not results, and an installed package has its bytecode beside it.
_ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONDONTWRITEBYTECODE": ""}


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One whole process: seconds, processor seconds, and the peak of its largest single process in MB.

    `inner` are the process's own seconds from its first file to its last answer, start-up left out.
    """

    wall: float
    cpu: float
    peak_mb: float
    code: int
    last_line: str
    images: int = 0
    inner: float = 0.0


Figure = Callable[[Measurement], float]


@dataclass
class Contender:
    """One way to do the same work: a command, the CSV it answers in, the folder that it reads."""

    name: str
    command: Sequence[str]
    answers: Path | None = None
    root: Path | None = None
    runs: list[Measurement] = field(default_factory=list)
    not_run: str = ""

    def run_once(self) -> None:
        """Run and measure once more; what cannot run here is not asked again."""
        if self.not_run:
            return
        run = measure(self.command)
        if run.code == NOT_RUN:
            self.not_run = run.last_line
        elif run.code not in (0, 3):
            self.not_run = f"it failed: {run.last_line}"
        else:
            self.runs.append(self._read_record(run))

    def _read_record(self, run: Measurement) -> Measurement:
        """wetread says in its run record what the peers print."""
        record = Path(f"{self.answers}.run.json")
        if run.images or not record.exists():
            return run
        found = json.loads(record.read_text())
        return replace(run, images=found["rows"], inner=found["rows"] / (found["images_per_second"] or 1))

    def middle(self, figure: Figure) -> float:
        """The median of a figure over the runs."""
        return median(figure(run) for run in self.runs)


def measure(command: Sequence[str]) -> Measurement:
    """Run one process to its end and measure it."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = perf_counter()
        child = subprocess.Popen(command, stdout=out, stderr=err, env=os.environ | _ENVIRONMENT)
        _, status, usage = os.wait4(child.pid, 0)
        wall = perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        printed, complaint = (_last_line(stream) for stream in (out, err))
    report = parse_report(printed)
    return Measurement(
        wall=wall,
        cpu=usage.ru_utime + usage.ru_stime,
        peak_mb=usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10),
        code=child.returncode,
        last_line=complaint if child.returncode not in (0, NOT_RUN) else printed,
        images=report.get("images", 0),
        inner=report.get("seconds", 0.0),
    )


def _last_line(stream: Any) -> str:
    stream.seek(0)
    lines = stream.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def parse_report(line: str) -> dict[str, Any]:
    """Read a peer's last line: JSON with `images` and `seconds`; nothing where it is something else."""
    try:
        report = json.loads(line)
    except ValueError:
        return {}
    return report if isinstance(report, dict) else {}


def interleave(contenders: Sequence[Contender], *, repeats: int) -> None:
    """Run all of them in turn, `repeats` times over, so that a slow minute of the machine hits each alike."""
    for repeat in range(repeats):
        for one in contenders:
            one.run_once()
            state = one.not_run or f"{one.runs[-1].wall:.2f} s"
            print(f"  {repeat + 1}/{repeats} {one.name}: {state}", file=sys.stderr, flush=True)


def median_ratio(one: Contender, other: Contender, figure: Figure) -> float:
    """The median, over rounds, of one's figure over the other's in the same round."""
    return median(figure(a) / figure(b) for a, b in zip(one.runs, other.runs, strict=True))
