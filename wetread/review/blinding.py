"""Which values of a row the page may show.

In a blind study, these hold nothing from the model until the reader has asked for its answer.
"""

from __future__ import annotations

import re
from typing import Any

from wetread.errors import UsageError
from wetread.evaluate.reviews import Review, Verdict
from wetread.review.journal import Journal
from wetread.review.scores_table import VERDICTS, Table
from wetread.review.worklist import REVIEWED, UNREVIEWED, Query

# DICOM attributes that identify a patient.
_PERSONAL = re.compile(r"^(Other)?Patient|Name(s)?$|BirthDate|Address|Telephone|AccessionNumber")
_BLIND_REVIEWS = ("", REVIEWED, UNREVIEWED, Verdict.UNSURE, Verdict.UNUSABLE)


class Veil:
    """Shows rows of a table to one reader. `names`: with the columns that identify a patient."""

    def __init__(self, table: Table, journal: Journal, *, names: bool) -> None:
        self._table, self._journal, self._names = table, journal, names
        self._blind = journal.study.blind

    def is_hidden(self, number: int) -> bool:
        """Whether the model's answer for a row must still be hidden."""
        return self._blind and self._table.paths[number] not in self._journal.shown

    def check_query(self, query: Query) -> Query:
        """Refuse to filter or sort a blind study by the model's answers. Raises UsageError."""
        if not self._blind:
            return query
        if query.review not in _BLIND_REVIEWS:
            raise UsageError("This study is blind: filter by reviewed, unreviewed, unsure or unusable.")
        return Query(sort="random", review=query.review)

    def summarize(self, number: int) -> dict[str, Any]:
        """Return a row as the worklist shows it."""
        verdict = self._table.verdict[number]
        word = VERDICTS[verdict] if verdict >= 0 else None
        if self.is_hidden(number):
            said = Verdict.LABELLED if word is not None and word.has_label else word
            return {"number": number, "hidden": True, "verdict": said}
        score, status = float(self._table.score[number]), self._table.status[number]
        label = self._table.label[number]
        return {
            "number": number,
            "hidden": False,
            "verdict": word,
            "path": self._table.paths[number],
            "status": self._table.statuses.words[status] if status >= 0 else "",
            "label": self._table.labels.words[label] if label >= 0 else "",
            "score": None if score != score else round(score, 6),
        }

    def show_review(self, review: Review) -> dict[str, Any]:
        """Return a review, without its agreement with the model where that is hidden."""
        shown = {"label": review.label, "note": review.note, "time": review.time, "seconds": review.seconds}
        hides = self._blind and review.path not in self._journal.shown
        verdict = Verdict.LABELLED if hides and review.verdict.has_label else review.verdict
        return {**shown, "verdict": verdict}

    def show_answer(self, number: int) -> dict[str, Any]:
        """Return the model's answer for a row, and the other columns of the file."""
        row = self._table.read_row(number)
        labels = {label: row.pop(f"p_{label}", "") for label in self._table.answer.labels}
        more = {
            name: value
            for name, value in row.items()
            if name not in ("path", "status", "label", "probability", "error")
            and (self._names or not _PERSONAL.search(name))
        }
        return {
            "probability": _read_number(row["probability"]),
            "probabilities": {label: _read_number(text) for label, text in labels.items()},
            "error": row.get("error", ""),
            "more": more,
        }

    def hide_counts(self, counts: dict[str, Any]) -> dict[str, Any]:
        """Remove from the counts of a blind study whatever depends on the model."""
        if not self._blind:
            return counts
        verdicts = counts["verdicts"]
        said = sum(verdicts[name] for name in VERDICTS if name.has_label)
        kept = {name: verdicts[name] for name in VERDICTS if not name.has_label}
        hidden: dict[str, dict[str, int]] = {"labels": {}, "statuses": {}, "scopes": {}}
        return counts | {"verdicts": {Verdict.LABELLED: said, **kept}} | hidden


def _read_number(text: str) -> float | None:
    return float(text) if text else None
