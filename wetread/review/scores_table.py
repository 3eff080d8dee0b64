"""The rows of a scores file as columns in memory, so that 100,000 rows are filtered and sorted at once.

A row is identified by its number in the file. Columns that no filter uses are kept as one text for each row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wetread.evaluate.reviews import Review, Verdict
from wetread.runtime.model.spec import ModelSpec
from wetread.runtime.scoring.scores_file import Rows, ScoresFile

Floats = NDArray[np.float32]
_SEPARATOR = "\x1f"
VERDICTS = tuple(Verdict)
# Columns that identify a study, the best first; without them, the patient or group in the name.
_STUDIES = ("StudyInstanceUID", "PatientID")
SCOPE = "scope"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """How probabilities become an answer: labels in order, and for two the positive one and its threshold."""

    labels: tuple[str, ...]
    positive: str | None = None
    threshold: float = 0.5


class Codes:
    """Numbers words from 0, in the order in which they are met."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self._numbers: dict[str, int] = {}

    def encode(self, words: Sequence[str]) -> NDArray[np.int32]:
        """Return the numbers of words, int32 (n,); '' is -1."""
        for word in dict.fromkeys(words):
            if word not in self._numbers:
                self._numbers[word] = len(self.words) if word else -1
                if word:
                    self.words.append(word)
        return np.fromiter(map(self._numbers.__getitem__, words), np.int32, len(words))


class Table:
    """The rows read so far. `find_study` finds a row's patient or group in its path.

    Arrays, all (N,): `status`, `label`, `scope` and `study` numbers of words (-1: none); `score` float32,
    with two labels the positive one's probability, else the chosen one's (NaN: none); `doubt` float32, the
    distance to the threshold, or to the second label; `verdict` int8, the place in VERDICTS (-1: not
    reviewed).
    """

    def __init__(self, file: ScoresFile, find_study: Callable[[str], str] = str) -> None:
        self.file = file
        self.version = 0
        self.answer = Answer(labels=())
        self._find_study = find_study
        self._empty()

    def _empty(self) -> None:
        self.generation = self.file.generation
        self.paths: list[str] = []
        self._rest = bytearray()  # of all rows, one after the other; `_ends` has the end of each
        self._ends = np.zeros(1, np.int64)
        self._places: dict[str, int] = {}
        self._repeated: dict[str, list[int]] = {}
        self.statuses, self.labels, self.scopes, self.studies = Codes(), Codes(), Codes(), Codes()
        self.status = self.label = self.scope = self.study = np.empty(0, np.int32)
        self.score = self.doubt = np.empty(0, np.float32)
        self.verdict = np.empty(0, np.int8)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def has_scope(self) -> bool:
        """Whether the file has the scope of each image."""
        return SCOPE in self.file.columns

    def refresh(self, reviews: dict[str, Review], answer: Answer | None = None) -> bool:
        """Read new rows; return whether there are any. Raises SourceError.

        `answer`: labels and threshold of the model, if it is known. Without it, the labels are those of the
        columns, and two labels have the threshold 0.5.
        """
        changed = False
        for rows in self.file.read_new():
            if self.file.generation != self.generation:
                self._empty()
            if not len(self):
                self.answer = answer or guess_answer(self.file.columns)
            self._add(rows, reviews)
            changed = True
        self.version += changed
        return changed

    def _add(self, rows: Rows, reviews: dict[str, Review]) -> None:
        columns = dict(zip(self.file.columns, zip(*rows, strict=True), strict=True))
        paths, first = list(columns["path"]), len(self)
        self._place(paths, first)
        blank = ("",) * len(rows)
        given = next((columns[name] for name in _STUDIES if name in columns), blank)
        studies = [known or self._find_study(path) for known, path in zip(given, paths, strict=True)]
        score, doubt = self._measure(columns)
        verdicts = [_number_verdict(reviews.get(path)) for path in paths]
        self.status = np.append(self.status, self.statuses.encode(columns["status"]))
        self.label = np.append(self.label, self.labels.encode(columns["label"]))
        self.scope = np.append(self.scope, self.scopes.encode(columns.get(SCOPE, blank)))
        self.study = np.append(self.study, self.studies.encode(studies))
        self.score, self.doubt = np.append(self.score, score), np.append(self.doubt, doubt)
        self.verdict = np.append(self.verdict, np.array(verdicts, np.int8))
        self._keep(rows)
        self.paths += paths

    def _keep(self, rows: Rows) -> None:
        """Keep all values of rows but their paths, which are kept apart."""
        path = self.file.columns.index("path")
        packed = [_pack(row[:path] + row[path + 1 :]) for row in rows]
        self._ends = np.append(self._ends, self._ends[-1] + np.cumsum([len(text) for text in packed]))
        self._rest += b"".join(packed)

    def _place(self, paths: list[str], first: int) -> None:
        for number, path in enumerate(paths, first):
            if self._places.setdefault(path, number) != number:
                self._repeated.setdefault(path, []).append(number)

    def _measure(self, columns: dict[str, tuple[str, ...]]) -> tuple[Floats, Floats]:
        """Compute the score and the doubt of rows."""
        names = [f"p_{label}" for label in self.answer.labels if f"p_{label}" in columns]
        chosen = _read_numbers(columns["probability"])
        if self.answer.positive is not None and f"p_{self.answer.positive}" in columns:
            score = _read_numbers(columns[f"p_{self.answer.positive}"])
            return score, np.abs(score - np.float32(self.answer.threshold))
        if len(names) < 2:
            return chosen, 1 - chosen
        ranked = np.sort(np.stack([_read_numbers(columns[name]) for name in names]), axis=0)
        return chosen, ranked[-1] - ranked[-2]

    def find(self, path: str) -> list[int]:
        """Return the numbers of the rows with a path: a file may have been listed twice."""
        if path not in self._places:
            return []
        return [self._places[path], *self._repeated.get(path, ())]

    def read_row(self, number: int) -> dict[str, str]:
        """Return all values of a row as text, by column."""
        text = self._rest[self._ends[number] : self._ends[number + 1]].decode("utf-8", "surrogatepass")
        others = [name for name in self.file.columns if name != "path"]
        return {"path": self.paths[number], **dict(zip(others, text.split(_SEPARATOR), strict=True))}

    def mark(self, path: str, review: Review | None) -> None:
        """Set the review of a path; None: not reviewed."""
        self.verdict[self.find(path)] = _number_verdict(review)

    def find_beside(self, number: int) -> list[int]:
        """Return the other rows of the same study, patient or group, without those of the same file."""
        same = np.flatnonzero(self.study == self.study[number]).tolist()
        return [other for other in same if self.paths[other] != self.paths[number]]


def _pack(row: list[str]) -> bytes:
    """Join a row's values to one text; a separator within a value becomes a blank."""
    text = _SEPARATOR.join(row)
    if text.count(_SEPARATOR) >= len(row):
        text = _SEPARATOR.join(cell.replace(_SEPARATOR, " ") for cell in row)
    return text.encode("utf-8", "surrogatepass")


def _number_verdict(review: Review | None) -> int:
    return -1 if review is None else VERDICTS.index(review.verdict)


def _read_numbers(texts: Sequence[str]) -> NDArray[np.float32]:
    return np.array([float(text) if text else math.nan for text in texts], np.float32)


def guess_answer(columns: Sequence[str]) -> Answer:
    """Guess the answer from the columns: the labels, and of two the last as positive, at 0.5."""
    before = list(columns[: list(columns).index("error")]) if "error" in columns else list(columns)
    labels = tuple(name.removeprefix("p_") for name in before if name.startswith("p_"))
    return Answer(labels=labels, positive=labels[-1] if len(labels) == 2 else None)


def make_answer(spec: ModelSpec | None) -> Answer | None:
    """Return the answer that a model's spec defines; None without a spec."""
    if spec is None:
        return None
    return Answer(labels=spec.labels, positive=spec.positive, threshold=spec.threshold)
