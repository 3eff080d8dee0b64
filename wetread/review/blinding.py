"""What of a row the page may know: in a blind study, nothing of the model before its answer was shown."""

from __future__ import annotations

import re
from typing import Any

from wetread.errors import UsageError
from wetread.evaluate.reviews import Review, Verdict
from wetread.review.journal import Journal
from wetread.review.scores_table import VERDICTS, Table
from wetread.review.worklist import REVIEWED, UNREVIEWED, Query

# Attributes of DICOM that tell who a patient is.
_PERSONAL = re.compile(r"^(Other)?Patient|Name(s)?$|BirthDate|Address|Telephone|AccessionNumber")
_BLIND_REVIEWS = ("", REVIEWED, UNREVIEWED, Verdict.UNSURE, Verdict.UNUSABLE)


class Veil:
    """Shows rows of a table to one reader. `names`: with the columns that tell who a patient is."""

    def __init__(self, table: Table, journal: Journal, *, names: bool) -> None:
        self._table, self._journal, self._names = table, journal, names
        self._blind = journal.study.blind

    def is_hidden(self, number: int) -> bool:
        """Whether a row's answer must not be told yet."""
        return self._blind and self._table.paths[number] not in self._journal.shown

    def check_query(self, query: Query) -> Query:
        """In a blind study, nothing may be filtered or ordered by what the model said."""
        if not self._blind:
            return query
        if query.review not in _BLIND_REVIEWS:
            raise UsageError("This study is blind: filter by reviewed, unreviewed, unsure or unusable.")
        return Query(sort="random", review=query.review)

    def summarize(self, number: int) -> dict[str, Any]:
        """A row in the worklist."""
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
        """What the reader said; not whether the model says the same, where that is hidden."""
        shown = {"label": review.label, "note": review.note, "time": review.time, "seconds": review.seconds}
        hides = self._blind and review.path not in self._journal.shown
        verdict = Verdict.LABELLED if hides and review.verdict.has_label else review.verdict
        return {**shown, "verdict": verdict}

    def show_answer(self, number: int) -> dict[str, Any]:
        """What the model said of a row, and what else the file holds of it."""
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
        """Of a blind study, leave only counts that tell nothing of the model."""
        if not self._blind:
            return counts
        verdicts = counts["verdicts"]
        said = sum(verdicts[name] for name in VERDICTS if name.has_label)
        kept = {name: verdicts[name] for name in VERDICTS if not name.has_label}
        hidden: dict[str, dict[str, int]] = {"labels": {}, "statuses": {}, "scopes": {}}
        return counts | {"verdicts": {Verdict.LABELLED: said, **kept}} | hidden


def _read_number(text: str) -> float | None:
    return float(text) if text else None
