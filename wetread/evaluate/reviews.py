"""Readers' reviews of images as a file: reviews.csv, which `wetread review` writes.

    path,label,verdict,reader,time,seconds,note,model,blind
    inbox/a.png,PNEUMONIA,disagree,Kim,2026-11-29T10:12:44Z,8.2,small effusion,6f0c...,false

`label` is empty where the reader was unsure or found the picture unusable.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from wetread.errors import SourceError
from wetread.runtime.gcs.bucket_folder import read_file
from wetread.runtime.scoring.rows import encode_csv


class Verdict(StrEnum):
    """A reader's verdict on the model's answer. LABELLED: a label where the model has no answer."""

    AGREE = "agree"
    DISAGREE = "disagree"
    LABELLED = "labelled"
    UNSURE = "unsure"
    UNUSABLE = "unusable"

    @property
    def has_label(self) -> bool:
        """Whether the reader gave a label."""
        return self not in (Verdict.UNSURE, Verdict.UNUSABLE)


@dataclass(frozen=True, kw_only=True)
class Review:
    """One reader's latest review of one image.

    `path`: its name in the scores file. `label`: '' if the verdict has none. `time`: of the decision, ISO
    8601, UTC. `seconds`: how long the picture was shown. `model`: the digest of the model that was reviewed
    ('': not known). `blind`: whether the decision was made before the model's answer was shown (None: not
    known).
    """

    path: str
    label: str
    verdict: Verdict
    reader: str
    time: str
    seconds: float
    note: str = ""
    model: str = ""
    blind: bool | None = None


COLUMNS = ("path", "label", "verdict", "reader", "time", "seconds", "note", "model", "blind")
_NEEDED = ("path", "label")
_BLIND = {"true": True, "false": False}


def encode_reviews(reviews: Iterable[Review]) -> bytes:
    """Write reviews as CSV; names that are not UTF-8 keep their bytes."""
    return encode_csv([COLUMNS, *map(_make_row, reviews)])


def _make_row(review: Review) -> list[str]:
    blind = "" if review.blind is None else str(review.blind).lower()
    written = {"seconds": f"{review.seconds:.1f}", "blind": blind}
    return [written[name] if name in written else str(getattr(review, name)) for name in COLUMNS]


def read_reviews(location: str) -> list[Review]:
    """Read reviews.csv, local or in a bucket. Other CSV files need the columns `path` and `label` only.

    Raises SourceError if it cannot be read, lacks a column, has an invalid row, or names a path twice.
    """
    try:
        text = read_file(location).decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise SourceError(
            f"The reviews file {location!r} cannot be read: {error.strerror}. Check the name."
        ) from error
    lines = csv.DictReader(io.StringIO(text, newline=""))
    _check_columns(lines.fieldnames or (), location)
    reviews = [_make_review(row, lines.line_num, location) for row in lines]
    _check_paths(reviews, location)
    return reviews


def _check_columns(names: Sequence[str], location: str) -> None:
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        raise SourceError(
            f"{location!r} must have the columns path and label, but lacks {' and '.join(missing)}. "
            "`wetread review` writes such a file."
        )


def _make_review(row: dict[str, str], line: int, location: str) -> Review:
    label = row["label"] or ""
    try:
        seconds = float(row.get("seconds") or 0)
        verdict = Verdict(row.get("verdict") or (Verdict.LABELLED if label else Verdict.UNSURE))
    except ValueError as error:
        raise SourceError(f"{location}, line {line}: {error}.") from error
    if bool(label) != verdict.has_label or not math.isfinite(seconds):
        raise SourceError(
            f"{location}, line {line}: the label is {label!r} and the verdict {str(verdict)!r}. The verdicts "
            "agree, disagree and labelled need a label; unsure and unusable must have none."
        )
    texts = {name: row.get(name) or "" for name in ("path", "reader", "time", "note", "model")}
    blind = _BLIND.get(row.get("blind") or "")
    return Review(**texts, label=label, verdict=verdict, seconds=seconds, blind=blind)


def _check_paths(reviews: Sequence[Review], location: str) -> None:
    seen: set[str] = set()
    for review in reviews:
        if review.path in seen:
            raise SourceError(f"{location!r} has two rows for {review.path!r}. Keep only one of them.")
        seen.add(review.path)
