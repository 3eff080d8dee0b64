"""A reader's decisions: `reviews.csv.journal`, and reviews.csv, which is made from it.

The journal is JSON Lines. Each line is synced to the disk before the decision is confirmed. The first line
holds the study; then there is one for each decision, for each undo and, in a blind study, for each answer
that was shown. A kill can leave one incomplete line at the end, which was never confirmed; the next start
removes it. The page gives every decision an identity, so that a decision that is sent twice is written once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from wetread.errors import OutputError
from wetread.evaluate.reviews import Review, Verdict, encode_reviews
from wetread.runtime.entries import REVIEWS_SUFFIX
from wetread.runtime.files.atomic import write_file
from wetread.runtime.files.line_log import BusyLogError, DamagedLogError, LineLog, explain_writing

_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Study:
    """The reader and the kind of study that a journal belongs to. `seed`: of the order of a blind study."""

    reader: str
    blind: bool = False
    seed: int = 0


class Journal:
    """Writes one reader's decisions. Raises OutputError if the file cannot be written or belongs to another
    study, or if another process writes it.

    `reviews`: the reader's latest review of each path. `shown`: in a blind study, the paths whose answer the
    reader has seen.
    """

    def __init__(self, output: str, study: Study) -> None:
        self.output, self.study = output, study
        self.reviews: dict[str, Review] = {}
        self.shown: set[str] = set()
        self._said: list[tuple[str, Review | None]] = []  # the identity, and the review that it replaced
        self._done: dict[str, str] = {}
        with explain_writing(self.path):
            try:
                self._lines = LineLog(self.path)
            except BusyLogError as error:
                raise OutputError(
                    f"Another `wetread review` writes {output!r}. Stop it, or choose another --output."
                ) from error
        try:
            self._recover()
        except BaseException:
            self._lines.close()
            raise

    @property
    def path(self) -> str:
        """The journal's file name."""
        return self.output + REVIEWS_SUFFIX

    @property
    def last(self) -> str | None:
        """The path of the latest decision that was not undone; None if there is none."""
        return self._done[self._said[-1][0]] if self._said else None

    def close(self) -> None:
        """Write reviews.csv and close the journal."""
        try:
            self.write_reviews()
        finally:
            self._lines.close()

    def say(self, identity: str, review: Review) -> Review:
        """Write a decision to the disk, and return it. A decision that is already there is returned as it is.

        Raises OutputError; the decision then does not count.
        """
        known = self._done.get(identity)
        if known is not None:
            return self.reviews.get(known, review)
        self._write_line({"said": identity, **asdict(review)})
        self._take_review(identity, review)
        return review

    def take_back(self, identity: str) -> Review | None:
        """Undo the latest decision and return it; None if there is none. Raises OutputError."""
        known = self._done.get(identity)
        if known is not None or not self._said:
            return None
        last = self._said[-1][0]
        self._write_line({"undone": last, "by": identity})
        return self._undo(last, identity)

    def show(self, path: str) -> None:
        """Record that the reader of a blind study sees the answer of a path: the review is then final."""
        if path not in self.shown:
            self._write_line({"shown": path})
            self.shown.add(path)

    def write_reviews(self) -> None:
        """Write reviews.csv from the reviews. Raises OutputError."""
        with explain_writing(self.output):
            write_file(self.output, encode_reviews(self.reviews.values()))

    def _take_review(self, identity: str, review: Review) -> None:
        self._said.append((identity, self.reviews.pop(review.path, None)))
        self._done[identity] = review.path
        self.reviews[review.path] = review

    def _undo(self, last: str, identity: str) -> Review | None:
        if not self._said or self._said[-1][0] != last:
            raise ValueError(last)
        before = self._said.pop()[1]
        path = self._done[last]
        self._done[identity] = path
        gone = self.reviews.pop(path, None)
        if before is not None:
            self.reviews[path] = before
        return gone

    def _recover(self) -> None:
        """Read the journal; write the first line if it is new."""
        with explain_writing(self.path):
            try:
                self._lines.read(self._take_in)
            except DamagedLogError as error:
                raise OutputError(
                    f"Line {error.number} of {self.path!r} is damaged. Restore the file from a copy, or "
                    "choose another --output."
                ) from error
            if self._lines.is_empty:
                self._check_new()
                self._lines.append({"version": _VERSION, **asdict(self.study)})

    def _check_new(self) -> None:
        if os.path.exists(self.output) and os.path.getsize(self.output):
            os.remove(self.path)
            raise OutputError(
                f"{self.output!r} already exists and has no journal of `wetread review`. Choose another "
                "--output, or move it away."
            )

    def _take_in(self, found: Mapping[str, Any], is_first: bool) -> None:
        if ("version" in found) != is_first:
            raise ValueError("only the first line may hold the study")
        if "version" in found:
            _check_study(found, self.study, output=self.output)
        elif "said" in found:
            values = {name: value for name, value in found.items() if name != "said"}
            self._take_review(found["said"], Review(**{**values, "verdict": Verdict(values["verdict"])}))
        elif "undone" in found:
            self._undo(found["undone"], found["by"])
        else:
            self.shown.add(found["shown"])

    def _write_line(self, line: Mapping[str, Any]) -> None:
        with explain_writing(self.path):
            self._lines.append(line)


@contextmanager
def open_journal(output: str, study: Study) -> Iterator[Journal]:
    """Open a reader's journal, and write reviews.csv at the end. Raises OutputError."""
    journal = Journal(output, study)
    try:
        yield journal
    finally:
        journal.close()


def _check_study(found: Mapping[str, Any], study: Study, *, output: str) -> None:
    if found["version"] != _VERSION:
        raise OutputError(
            f"The journal of {output!r} has version {found['version']!r}, and this program reads {_VERSION}. "
            "Continue with the program that began it."
        )
    asked: dict[str, tuple[Any, Callable[[Any], str]]] = {
        "reader": (study.reader, lambda value: f"--reader {value}"),
        "blind": (study.blind, lambda value: "--blind" if value else "no --blind"),
        "seed": (study.seed, lambda value: f"--seed {value}"),
    }
    for name, (value, words) in asked.items():
        if found[name] != value:
            raise OutputError(
                f"{output!r} was begun with {words(found[name])}, not {words(value)}. "
                "Use the same option, or choose another --output."
            )
