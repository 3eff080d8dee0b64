"""Read a RUN directory for an evaluation: its split, its history, its augmented samples.

`train` writes these files; the two packages share nothing else.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wetread.errors import SourceError


@dataclass(frozen=True, kw_only=True)
class SplitRow:
    """One image of the run: its label, its patient, and its split ('train', 'val', ...)."""

    label: str
    group: str
    split: str


@dataclass(frozen=True, kw_only=True)
class Run:
    """A RUN directory, read. `splits` by name below DATA; `history`: a row of numbers for each epoch."""

    folder: Path
    splits: dict[str, SplitRow]
    history: tuple[dict[str, float], ...]
    config: dict[str, Any]
    data: str | None

    @property
    def sides(self) -> tuple[str, ...]:
        """The names of the splits."""
        return tuple(sorted({row.split for row in self.splits.values()}))

    def read_samples(self) -> bytes | None:
        """Return the PNG of augmented training images, if the run has one."""
        path = self.folder / "augmentation.png"
        return path.read_bytes() if path.is_file() else None


def read_run(folder: str) -> Run:
    """Read a RUN directory. Raises SourceError if it is not one."""
    place = Path(folder)
    try:
        splits = {
            row["name"]: SplitRow(label=row["label"], group=row["group"], split=row["split"])
            for row in _read_table(place / "splits.csv")
        }
        config = json.loads((place / "config.json").read_text(encoding="utf-8"))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise SourceError(
            f"{folder} is not a RUN directory of `wetread train`, which has splits.csv and config.json: "
            f"{error}. Check the name."
        ) from error
    return Run(
        folder=place,
        splits=splits,
        history=_read_history(place),
        config=config,
        data=_read_fingerprint(place),
    )


def _read_table(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
        yield from csv.DictReader(lines)


def _read_history(place: Path) -> tuple[dict[str, float], ...]:
    """The rows of history.csv; none if no epoch was done. Values that are not numbers are left out."""
    path = place / "history.csv"
    if not path.is_file():
        return ()
    try:
        return tuple(
            {name: float(value) for name, value in row.items() if value and math.isfinite(float(value))}
            for row in _read_table(path)
        )
    except (TypeError, ValueError) as error:
        raise SourceError(f"{path} must contain numbers: {error}.") from error


def _read_fingerprint(place: Path) -> str | None:
    path = place / "inputs.json"
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8")).get("data")
    return found if isinstance(found, str) else None
