"""Compare the rows of two machines, without naming a picture."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wetread.bundle.selftest import TOLERANCE

Rows = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Difference:
    """How far two outputs are apart, in words."""

    is_same: bool
    text: str


def read_rows(path: str | os.PathLike[str]) -> Rows:
    """Read the rows of a CSV output by their names below the folder that holds all of them."""
    with Path(path).open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [row["path"].replace("\\", "/") for row in rows]
    folders = {name.rpartition("/")[0] for name in names}
    common = os.path.commonpath(folders) if folders and "" not in folders else ""
    return {name[len(common) :].lstrip("/"): row for name, row in zip(names, rows, strict=True)}


def compare_rows(expected: Mapping[str, dict[str, str]], found: Mapping[str, dict[str, str]]) -> Difference:
    """Compare names, statuses and labels, and probabilities within the tolerance of a bundle."""
    if expected.keys() != found.keys():
        missing, more = len(expected.keys() - found.keys()), len(found.keys() - expected.keys())
        return Difference(False, f"{missing} files have no row here, and {more} have none there")
    others = [
        sum(expected[name][column] != found[name][column] for name in expected)
        for column in ("status", "label")
    ]
    if any(others):
        return Difference(
            False, f"of {len(expected)} rows {others[0]} have another status, {others[1]} label"
        )
    far = max((_measure(expected[name], found[name]) for name in expected), default=0.0)
    text = f"{len(expected)} rows with the same status and label; the probabilities differ by {far:.2g}"
    return Difference(far <= TOLERANCE, text)


def _measure(expected: Mapping[str, str], found: Mapping[str, str]) -> float:
    """Return the largest difference of a probability; infinite if one is missing."""
    names = [name for name in expected if name == "probability" or name.startswith("p_")]
    if any(bool(expected[name]) != bool(found.get(name)) for name in names):
        return float("inf")
    return max((abs(float(expected[n]) - float(found[n])) for n in names if expected[n]), default=0.0)
