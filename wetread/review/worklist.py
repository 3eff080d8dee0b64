"""Which rows a reader sees, in which order: filters, sorting, counts, a histogram, and the next row.

query = Query(sort="doubt", status="ok", low=0.3, high=0.7)
worklist.list_rows(query)       # intp, numbers of rows in order
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wetread.errors import Status, UsageError
from wetread.review.scores_table import VERDICTS, Codes, Table

SORTS = ("probability", "doubt", "status", "path", "study", "file", "random")
REVIEWED, UNREVIEWED = "reviewed", "unreviewed"
BINS = 50
_KEPT = 16

Rows = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Query:
    """Filters and sorting. '' and None filter nothing.

    `sort`: one of SORTS; `down`: the largest first. `label`, `status` and `scope`: values in the file;
    `review`: a verdict, or 'reviewed' or 'unreviewed'. `low` and `high`: the range of the score,
    inclusive. `text`: a part of the path, ignoring case. Raises UsageError for an unknown sort or review.
    """

    sort: str = "file"
    down: bool = False
    label: str = ""
    status: str = ""
    scope: str = ""
    review: str = ""
    low: float | None = None
    high: float | None = None
    text: str = ""

    def __post_init__(self) -> None:
        if self.sort not in SORTS:
            raise UsageError(f"sort must be one of {', '.join(SORTS)}, not {self.sort!r}.")
        if self.review not in ("", REVIEWED, UNREVIEWED, *VERDICTS):
            raise UsageError(f"review must be a verdict, not {self.review!r}.")


class Worklist:
    """Filters and sorts a table. `seed`: of the order 'random'."""

    def __init__(self, table: Table, *, seed: int = 0) -> None:
        self._table = table
        self._seed = seed
        self._order = lru_cache(_KEPT)(self._compute_order)
        self._rank = lru_cache(2)(self._rank_paths)

    def rank_paths(self) -> None:
        """Rank the paths now, so that the first list in their order does not wait for it."""
        self._rank("path", self._table.version)

    def list_rows(self, query: Query) -> Rows:
        """Return the numbers of the rows that pass the filters, intp (n,), in order."""
        whole = replace(query, review="")
        order = self._order(whole, self._table.version)
        return order if not query.review else order[self._pass_review(query.review)[order]]

    def find_place(self, query: Query, number: int) -> int:
        """Return the place of a row among those that pass; -1 if it does not pass."""
        found = np.flatnonzero(self.list_rows(query) == number)
        return int(found[0]) if len(found) else -1

    def find_next(self, query: Query, number: int | None, *, step: int = 1) -> int | None:
        """Return the next row that passes, after (step 1) or before (-1) a row; None at the end.

        The given row need not pass itself. `number` None: the first row.
        """
        order = self._order(replace(query, review=""), self._table.version)
        passes = self._pass_review(query.review)[order]
        found = np.flatnonzero(order == number) if number is not None else np.empty(0, np.intp)
        at = int(found[0]) if len(found) else (-1 if step > 0 else len(order))
        ahead = np.flatnonzero(passes[at + 1 :]) + at + 1 if step > 0 else np.flatnonzero(passes[:at])[::-1]
        return int(order[ahead[0]]) if len(ahead) else None

    def count(self) -> dict[str, Any]:
        """Count the rows by status, by label, by scope and by verdict."""
        table = self._table
        verdicts = np.bincount(table.verdict + 1, minlength=len(VERDICTS) + 1).tolist()
        return {
            "rows": len(table),
            "statuses": _count(table.status, table.statuses),
            "labels": _count(table.label, table.labels),
            "scopes": _count(table.scope, table.scopes),
            "reviewed": len(table) - verdicts[0],
            "verdicts": dict(zip(VERDICTS, verdicts[1:], strict=True)),
        }

    def draw_histogram(self, query: Query) -> list[int]:
        """Count the rows that pass, whatever their score, in 50 equal parts of 0 to 1."""
        rows = self.list_rows(replace(query, low=None, high=None))
        scores = self._table.score[rows]
        scores = scores[~np.isnan(scores)]
        counts: list[int] = np.histogram(scores, BINS, (0, 1))[0].tolist()
        return counts

    def _pass_review(self, review: str) -> NDArray[np.bool_]:
        verdict = self._table.verdict
        if review in ("", REVIEWED, UNREVIEWED):
            return {"": verdict >= -1, REVIEWED: verdict >= 0, UNREVIEWED: verdict < 0}[review]
        passes: NDArray[np.bool_] = verdict == [str(word) for word in VERDICTS].index(review)
        return passes

    def _compute_order(self, query: Query, version: int) -> Rows:
        """Return the rows that pass all filters but the review, sorted; ties keep their order in the file."""
        rows = np.flatnonzero(self._filter(query))
        keys = self._find_keys(query.sort)[rows]
        unknown = np.isnan(keys)
        known = rows[~unknown]
        keys = keys[~unknown]
        known = known[np.argsort(-keys if query.down else keys, kind="stable")]
        return np.append(known, rows[unknown])

    def _filter(self, query: Query) -> NDArray[np.bool_]:
        table = self._table
        passes = np.ones(len(table), bool)
        for word, codes, column in (
            (query.label, table.labels, table.label),
            (query.status, table.statuses, table.status),
            (query.scope, table.scopes, table.scope),
        ):
            if word:
                passes &= column == (codes.words.index(word) if word in codes.words else -2)
        if query.low is not None:
            passes &= table.score >= np.float32(query.low)
        if query.high is not None:
            passes &= table.score <= np.float32(query.high)
        if query.text:
            text = query.text.lower()
            passes &= np.fromiter((text in path.lower() for path in table.paths), bool, len(table))
        return passes

    def _find_keys(self, sort: str) -> NDArray[np.float64]:
        """Return the sort key of each row, float64 (N,); NaN sorts last."""
        table = self._table
        if sort == "probability":
            return table.score.astype(np.float64)
        if sort == "doubt":
            return table.doubt.astype(np.float64)
        if sort == "status":  # failures by their status, then rows with a score
            words = sorted(table.statuses.words, key=lambda word: (word == Status.OK, word))
            ranks = np.array([words.index(word) for word in table.statuses.words] or [0], np.float64)
            return ranks[table.status]
        if sort == "random":
            return np.random.default_rng(self._seed).random(len(table))
        if sort == "file":
            return np.arange(len(table), dtype=np.float64)
        return self._rank(sort, table.version)

    def _rank_paths(self, sort: str, version: int) -> NDArray[np.float64]:
        table = self._table
        known = table.studies.words
        words = table.paths if sort == "path" else [known[code] for code in table.study.tolist()]
        # Not of a set: paths are in order as a rule, and sorting what is sorted takes no time.
        ranks = {word: rank for rank, word in enumerate(sorted(dict.fromkeys(words)))}
        return np.array([ranks[word] for word in words], np.float64)


def _count(column: NDArray[np.int32], codes: Codes) -> dict[str, int]:
    counts = np.bincount(column[column >= 0], minlength=len(codes.words)).tolist()
    return dict(zip(codes.words, counts, strict=True))
