"""The rows of a scores file as columns in memory, so that 100,000 rows are filtered and sorted at once.

A row is identified by its number in the file. A column that no filter uses is kept as one text for each batch
of rows that was read, and split when one of them is shown.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wetread.evaluate.reviews import Review, Verdict
from wetread.runtime.model.spec import ModelSpec
from wetread.runtime.scoring.scores_file import ScoresFile

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
        if not any(words):
            return np.full(len(words), -1, np.int32)
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
        self._firsts: list[int] = []  # of each batch, the number of its first row
        self._kept: list[dict[str, bytes]] = []  # of each batch, the texts of each column
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
        """Read new rows, as `read` does, all of them; return whether there are any. Raises SourceError."""
        before = self.version
        for _ in self.read(reviews, answer):
            pass
        return self.version != before

    def read(self, reviews: dict[str, Review], answer: Answer | None = None) -> Iterator[None]:
        """Read new rows, a batch for each step. Raises SourceError.

        `answer`: labels and threshold of the model, if it is known. Without it, the labels are those of the
        columns, and two labels have the threshold 0.5.
        """
        for batch in self.file.read_new():
            if self.file.generation != self.generation:
                self._empty()
            if not len(self):
                self.answer = answer or guess_answer(self.file.columns)
            self._add(dict(zip(self.file.columns, batch, strict=True)), reviews)
            self.version += 1
            yield

    def _add(self, columns: dict[str, Sequence[str]], reviews: dict[str, Review]) -> None:
        paths = columns["path"]
        blank = ("",) * len(paths)
        given = next((columns[name] for name in _STUDIES if name in columns), blank)
        studies = [known or self._find_study(path) for known, path in zip(given, paths, strict=True)]
        score, doubt = self._measure(columns)
        self.status = np.append(self.status, self.statuses.encode(columns["status"]))
        self.label = np.append(self.label, self.labels.encode(columns["label"]))
        self.scope = np.append(self.scope, self.scopes.encode(columns.get(SCOPE, blank)))
        self.study = np.append(self.study, self.studies.encode(studies))
        self.score, self.doubt = np.append(self.score, score), np.append(self.doubt, doubt)
        self.verdict = np.append(self.verdict, _number_verdicts(paths, reviews))
        self._firsts.append(len(self))
        self._kept.append({name: _pack(texts) for name, texts in columns.items() if name != "path"})
        self.paths += paths

    def _measure(self, columns: dict[str, Sequence[str]]) -> tuple[Floats, Floats]:
        """Compute the score and the doubt of rows."""
        names = [f"p_{label}" for label in self.answer.labels if f"p_{label}" in columns]
        if self.answer.positive is not None and f"p_{self.answer.positive}" in columns:
            score = _read_numbers(columns[f"p_{self.answer.positive}"])
            return score, np.abs(score - np.float32(self.answer.threshold))
        chosen = _read_numbers(columns["probability"])
        if len(names) < 2:
            return chosen, 1 - chosen
        ranked = np.sort(np.stack([_read_numbers(columns[name]) for name in names]), axis=0)
        return chosen, ranked[-1] - ranked[-2]

    def find(self, path: str) -> list[int]:
        """Return the numbers of the rows with a path: a file may have been listed twice."""
        found: list[int] = []
        with suppress(ValueError):  # the end of the list
            while True:
                found.append(self.paths.index(path, found[-1] + 1 if found else 0))
        return found

    def read_row(self, number: int) -> dict[str, str]:
        """Return all values of a row as text, by column."""
        batch = bisect_right(self._firsts, number) - 1
        place = number - self._firsts[batch]
        others = {name: _unpack(texts, place) for name, texts in self._kept[batch].items()}
        return {"path": self.paths[number], **others}

    def mark(self, path: str, review: Review | None) -> None:
        """Set the review of a path; None: not reviewed."""
        self.verdict[self.find(path)] = _number_verdict(review)

    def find_beside(self, number: int) -> list[int]:
        """Return the other rows of the same study, patient or group, without those of the same file."""
        same = np.flatnonzero(self.study == self.study[number]).tolist()
        return [other for other in same if self.paths[other] != self.paths[number]]


def _pack(texts: Sequence[str]) -> bytes:
    """Join the values of a column to one text; a separator within a value becomes a blank."""
    text = _SEPARATOR.join(texts)
    if text.count(_SEPARATOR) >= len(texts):
        text = _SEPARATOR.join(cell.replace(_SEPARATOR, " ") for cell in texts)
    return text.encode("utf-8", "surrogatepass")


def _unpack(texts: bytes, place: int) -> str:
    """Return the value at a place of a column's text."""
    return texts.split(_SEPARATOR.encode(), place + 1)[place].decode("utf-8", "surrogatepass")


def _number_verdict(review: Review | None) -> int:
    return -1 if review is None else VERDICTS.index(review.verdict)


def _number_verdicts(paths: Sequence[str], reviews: dict[str, Review]) -> NDArray[np.int8]:
    if not reviews:
        return np.full(len(paths), -1, np.int8)
    return np.array([_number_verdict(reviews.get(path)) for path in paths], np.int8)


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
