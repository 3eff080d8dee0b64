"""Compare the rows of two machines, without naming a picture."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wetread.bundle.selftest import TOLERANCE
from wetread.errors import Status, UsageError

Rows = dict[str, dict[str, str]]
# Columns that must be there; the last is the beginning of the columns with a label's probability.
_COLUMNS = ("path", "status", "label", "p_")


@dataclass(frozen=True)
class Difference:
    """How far two outputs are apart, in words."""

    is_same: bool
    text: str


def read_rows(path: str | os.PathLike[str]) -> Rows:
    """Read the rows of a CSV output by their names below the folder that holds all of them.

    Raises UsageError for a file without the columns of `wetread score`.
    """
    # A spreadsheet that saves the file puts a mark before its first column.
    with Path(path).open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file)
        rows, columns = list(reader), reader.fieldnames or []
    missing = [name for name in _COLUMNS if not any(column.startswith(name) for column in columns)]
    if missing:
        raise UsageError(f"{os.fspath(path)!r} lacks the column {missing[0]} of `wetread score --output`.")
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
    if not any(row["status"] == Status.OK for row in expected.values()):
        return Difference(False, f"none of {len(expected)} rows has a probability: nothing was compared")
    far = max(_measure(expected[name], found[name]) for name in expected)
    text = f"{len(expected)} rows with the same status and label; the probabilities differ by {far:.2g}"
    return Difference(far <= TOLERANCE, text)


def _measure(expected: Mapping[str, str], found: Mapping[str, str]) -> float:
    """Return the largest difference of a probability; infinite if one is missing, or is no finite number."""
    names = {name for name in (*expected, *found) if name == "probability" or name.startswith("p_")}
    pairs = [(expected.get(name) or "", found.get(name) or "") for name in names]
    if expected["status"] != Status.OK and not any(map("".join, pairs)):
        return 0.0
    far = [abs(float(one or "nan") - float(other or "nan")) for one, other in pairs]
    return max(far) if all(map(math.isfinite, far)) else math.inf
