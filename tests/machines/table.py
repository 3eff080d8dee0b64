"""The table of machines: one row for each, as text and in docs/results/machines.md."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tests.machines.bundles import Used
from tests.machines.clock import Step
from tests.machines.golden import MODELS, Measured, Verdict
from tests.machines.machine import ROOT
from tests.machines.suites import Ran

PAGE = ROOT / "docs" / "results" / "machines.md"
_BEGIN, _END = "<!-- what `make test-machines` found -->", "<!-- end of it -->"
_HEAD = (
    "machine",
    "system, processor",
    "Python",
    "pixels",
    "statuses, labels, scope",
    "probabilities",
    "bundle",
    "tests",
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one machine gave."""

    name: str
    answer: str
    passed: bool
    system: str = ""
    python: str = ""
    pixels: str = ""
    labels: str = ""
    probabilities: str = ""
    bundle: str = "-"
    tests: str = "-"
    notes: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()

    @classmethod
    def of(cls, name: str, found: Measured, verdict: Verdict) -> Row:
        """Compare a machine with the repository."""
        exact = f"`{found.digest[:12]}`" + (f", {len(verdict.pixels)} files differ" if verdict.pixels else "")
        lossy = f"; lossy DICOM: {len(verdict.lossy)} differ" if verdict.lossy else ""
        notes = [*(f"pixels of {file}" for file in verdict.pixels), *verdict.rows]
        return cls(
            name=name,
            answer="the same answer" if verdict.passed else "ANOTHER ANSWER",
            passed=verdict.passed,
            system="{system}, {processors} of {processor}".format(**found.machine),
            python=found.machine["python"],
            pixels=exact + lossy,
            labels=f"{len(verdict.rows)} differ" if verdict.rows else "the same",
            probabilities=", ".join(f"{model} {verdict.largest[model]:.0e}" for model in MODELS),
            notes=tuple(notes),
        )

    def with_bundle(self, used: Used) -> Row:
        """Add what came of the bundle."""
        passed = self.passed and not used.faults
        notes = (*self.notes, *(f"bundle: {fault}" for fault in used.faults))
        return replace(self, bundle="; ".join(used.steps) or "not installed", passed=passed, notes=notes)

    def with_suites(self, ran: Ran, *, explain: Callable[[str], str]) -> Row:
        """Add what came of the tests; a failure that is explained is no difference."""
        counts = ", ".join(f"{count} {kind}" for kind, count in ran.counts.items())
        unexplained = [test for test in ran.failed if not explain(test)]
        notes = [f"{test}: {explain(test) or 'NOT EXPLAINED'}" for test in ran.failed]
        passed = self.passed and not unexplained
        return replace(self, tests=counts, passed=passed, notes=(*self.notes, *notes))

    @property
    def seconds(self) -> float:
        """How long all of it took."""
        return sum(step.seconds for step in self.steps)

    def cells(self) -> tuple[str, ...]:
        """The row in the table of the page."""
        if not self.system:
            return (self.name, self.answer, *["-"] * 6)
        answers = (self.pixels, self.labels, self.probabilities)
        return (self.name, self.system, self.python, *answers, self.bundle, self.tests)

    def to_text(self) -> str:
        """The row for the terminal, with every difference on a line of its own."""
        head = f"{self.name}: {self.answer}; {self.pixels}; largest differences {self.probabilities}"
        return "\n".join(
            [f"{head}; tests {self.tests}; {self.seconds:.0f} s", *(f"  {n}" for n in self.notes)]
        )


def describe_times(rows: Sequence[Row]) -> list[str]:
    """A table of the minutes of each machine's steps, by the wall, and of a processor in brackets."""
    timed = [row for row in rows if row.steps]
    names = list(dict.fromkeys(step.name for row in timed for step in row.steps))
    lines = [f"| machine | {' | '.join(names)} | all |", "| --- |" + " --- |" * (len(names) + 1)]
    for row in timed:
        found = {step.name: f"{step.seconds / 60:.1f} ({step.processor / 60:.1f})" for step in row.steps}
        cells = [row.name, *(found.get(name, "-") for name in names), f"{row.seconds / 60:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def write_page(rows: Sequence[Row], here: Measured, *, seconds: float) -> None:
    """Put the rows into the page, with the date, the versions and how long all of it took."""
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(_BEGIN)
    after = rest.split(_END)[1]
    names = ("numpy", "opencv-python-headless", "simplejpeg", "onnxruntime", "pydicom", "imagecodecs")
    versions = ", ".join(f"{name} {here.machine[name]}" for name in names)
    lines = [f"On {time.strftime('%Y-%m-%d')}, with {versions}:", ""]
    table = [_HEAD, ("---",) * len(_HEAD), *(row.cells() for row in rows)]
    lines += [f"| {' | '.join(cells)} |" for cells in table]
    notes = [f"- {row.name}: {note}" for row in rows for note in row.notes]
    if any(row.steps for row in rows):
        lines += ["", f"It took {seconds / 60:.0f} minutes, two machines at a time. Each step's minutes, and"]
        lines[-1] += " in brackets those of a processor:"
        lines.append("")
        lines += describe_times(rows)
    text = "\n".join([*lines, "", *notes]).rstrip()
    PAGE.write_text(f"{before}{_BEGIN}\n\n{text}\n\n{_END}{after}", encoding="utf-8")
