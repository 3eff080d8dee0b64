"""The table of machines: one row for each, as text and in docs/results/machines.md."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tests.machines.bundles import Used
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
    "statuses, labels",
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
    seconds: float = 0

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
            system=f"{found.machine['system']}, {found.machine['processor']}",
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

    def after(self, seconds: float) -> Row:
        """Add how long it took."""
        return replace(self, seconds=seconds)

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


def write_page(rows: Sequence[Row], here: Measured) -> None:
    """Put the rows into the page, with the date and the versions."""
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(_BEGIN)
    after = rest.split(_END)[1]
    names = ("numpy", "opencv-python-headless", "simplejpeg", "onnxruntime", "pydicom", "imagecodecs")
    versions = ", ".join(f"{name} {here.machine[name]}" for name in names)
    lines = [f"On {time.strftime('%Y-%m-%d')}, with {versions}:", ""]
    table = [_HEAD, ("---",) * len(_HEAD), *(row.cells() for row in rows)]
    lines += [f"| {' | '.join(cells)} |" for cells in table]
    notes = [f"- {row.name}: {note}" for row in rows for note in row.notes]
    text = "\n".join([*lines, "", *notes]).rstrip()
    PAGE.write_text(f"{before}{_BEGIN}\n\n{text}\n\n{_END}{after}", encoding="utf-8")
