"""The reading room: a scores file, its pictures and a reader's journal, and every call of the page's API."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

from wetread.errors import OutputError, SetupError, SourceError, UsageError
from wetread.evaluate.model_of_scores import KnownModel, find_model
from wetread.evaluate.patients import DEFAULT_GROUP_REGEX, compile_group_regex, find_group
from wetread.evaluate.reviews import Review, Verdict
from wetread.review.blinding import Veil
from wetread.review.heat_map import Heats
from wetread.review.journal import Journal
from wetread.review.options import Decision, RoomOptions
from wetread.review.pictures import Moved, Sent, find_moved, pack_picture, read_image
from wetread.review.scores_table import Table, make_answer
from wetread.review.worklist import Query, Worklist
from wetread.runtime.images.stored_picture import read_stored
from wetread.runtime.scoring.scores_file import ScoresFile

# Pictures that are decoded at once.
_AT_ONCE = 2
MOST_ROWS = 500
_BESIDE = 24


class Room:
    """Serves one reader. Safe to use from several threads. Its methods raise WetreadErrors.

    `scores`: the scores file on this disk; `options.scores` is the name that the user gave. A new room has
    checked both, and has read the first rows only: `load` reads the others, and every other method waits for
    it.
    """

    def __init__(self, options: RoomOptions, journal: Journal, *, scores: str) -> None:
        self.options, self._journal = options, journal
        self._lock = threading.RLock()
        self._decoding = threading.Semaphore(_AT_ONCE)
        file = ScoresFile(scores)
        file.find()
        self.model: KnownModel = find_model(file.read_head(), options.model)
        self._answer = make_answer(self.model.spec)
        self._heats = self._make_heats()
        pattern = compile_group_regex(options.group_regex or DEFAULT_GROUP_REGEX)
        self.table = Table(file, lambda path: find_group(path, pattern))
        self._worklist = Worklist(self.table, seed=options.seed)
        self._veil = Veil(self.table, journal, names=options.names)
        self._moved: Moved | None = None
        self._unwritten = False
        self.problem = ""
        self._loaded = threading.Event()
        self._failure: Exception | None = None
        self._batches = self.table.read(journal.reviews, self._answer)
        next(self._batches, None)

    def load(self, *, is_stopped: Callable[[], bool] = bool) -> None:
        """Read the rows, until `is_stopped` returns True. What is raised, the waiting calls raise as well."""
        try:
            for _ in self._batches:
                if is_stopped():
                    raise SetupError("The server was stopped before it had read all rows. Start it again.")
            if self.options.images is not None and len(self.table):
                self._moved = find_moved(self.options.images, self.table.paths)
        except Exception as error:
            self._failure = error
            raise
        finally:
            self._loaded.set()
        with self._hold():
            self._worklist.rank_paths()

    @contextmanager
    def _hold(self) -> Iterator[None]:
        """Keep the rows as they are during the block, when they have been read."""
        self._loaded.wait()
        if self._failure is not None:
            raise self._failure
        with self._lock:
            yield

    def _make_heats(self) -> Heats | None:
        if self.model.file is None:
            return None
        return Heats(self.model.file, device=self.options.device, max_memory=self.options.max_memory)

    def refresh(self) -> None:
        """Read new rows, and write reviews.csv if there is a new decision. Sets `problem` if either fails."""
        found = [self._try(self._refresh_rows), self._try(self._write_reviews)]
        self.problem = " ".join(filter(None, found))

    def _try(self, step: Callable[[], None]) -> str:
        try:
            with self._hold():
                step()
        except (SourceError, OutputError) as error:
            return str(error)
        return ""

    def _refresh_rows(self) -> None:
        before = self.table.generation
        self.table.refresh(self._journal.reviews, self._answer)
        if self.table.generation != before and self._heats is not None:
            self._heats.forget()

    def _write_reviews(self) -> None:
        if self._unwritten:
            self._journal.write_reviews()
            self._unwritten = False

    # -- reading -----------------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """Return what does not change while the server runs."""
        with self._hold():
            answer, study = self.table.answer, self._journal.study
            return {
                "scores": PurePath(self.options.scores).name,
                "labels": list(answer.labels),
                "positive": answer.positive,
                "threshold": answer.threshold if answer.positive is not None else None,
                "model": {"name": PurePath(self.model.name).name, "digest": self.model.digest},
                "heat": self._heats is not None,
                "reader": study.reader,
                "blind": study.blind,
                "output": PurePath(self.options.output).name,
                "scope": self.table.has_scope and not study.blind,
            }

    def count(self) -> dict[str, Any]:
        """Return the present counts; in a blind study, those that do not depend on the model."""
        with self._hold():
            found = self._worklist.count()
            found |= {"version": self.table.version, "generation": self.table.generation}
            found |= {"growing": self.table.file.is_growing, "problem": self.problem}
            return self._veil.hide_counts(found)

    def list_rows(self, query: Query, *, first: int, most: int) -> dict[str, Any]:
        """Return a part of the worklist: at most `most` rows from place `first`. Raises UsageError."""
        query = self._veil.check_query(query)
        with self._hold():
            rows = self._worklist.list_rows(query)
            shown = rows[first : first + min(most, MOST_ROWS)].tolist()
            return {
                "total": len(rows),
                "first": first,
                "version": self.table.version,
                "generation": self.table.generation,
                "rows": [self._veil.summarize(number) for number in shown],
            }

    def find_next(self, query: Query, number: int | None, *, step: int) -> dict[str, Any]:
        """Return the row after (or before) another, and its place in the list; null at the end."""
        query = self._veil.check_query(query)
        with self._hold():
            found = self._worklist.find_next(query, number, step=step)
            place = -1 if found is None else self._worklist.find_place(query, found)
            return {"number": found, "place": place, "generation": self.table.generation}

    def draw_histogram(self, query: Query) -> list[int]:
        """Return the histogram of scores; empty in a blind study."""
        if self._journal.study.blind:
            return []
        with self._hold():
            return self._worklist.draw_histogram(query)

    def read_row(self, number: int) -> dict[str, Any]:
        """Return what the page shows of a row; in a blind study, nothing that depends on the model."""
        with self._hold():
            self._check_number(number)
            review = self._journal.reviews.get(self.table.paths[number])
            beside = self.table.find_beside(number)[:_BESIDE]
            return {
                **self._veil.summarize(number),
                "generation": self.table.generation,
                "review": None if review is None else self._veil.show_review(review),
                "beside": beside,
                **({} if self._veil.is_hidden(number) else self._veil.show_answer(number)),
            }

    def show_answer(self, number: int) -> dict[str, Any]:
        """Show the answer of a row after its review, which in a blind study is then final."""
        with self._hold():
            self._check_number(number)
            path = self.table.paths[number]
            if path not in self._journal.reviews:
                raise UsageError("The model's answer is hidden until you have decided on this picture.")
            if self._journal.study.blind:
                self._journal.show(path)
            return self.read_row(number)

    def read_picture(self, number: int) -> Sent:
        """Return a row's picture. Raises ImageError if it cannot be read."""
        data = self._read_image(number)
        with self._decoding:
            return pack_picture(read_stored(data, max_memory=self.options.max_memory))

    def explain(self, number: int) -> dict[str, Any]:
        """Return a row's heat map. Raises ImageError, SetupError, and UsageError if it can have none."""
        with self._hold():
            self._check_number(number)
            row = self.table.read_row(number)
            if self._veil.is_hidden(number):
                raise UsageError("The heat map is hidden until the model's answer is shown.")
        if self._heats is None:
            raise UsageError(
                "There is no heat map without the model. Name the one that made these scores with --model."
            )
        if not row["label"]:
            raise UsageError("There is no heat map: the model has no answer for this picture.")
        return self._heats.explain(number, self._read_image(number), row).to_dict()

    # -- deciding ----------------------------------------------------------------------------------------

    def decide(self, decision: Decision) -> dict[str, Any]:
        """Save a decision; it is on the disk when this returns. Raises UsageError and OutputError."""
        with self._hold():
            self._check_number(decision.number)
            if decision.generation != self.table.generation:
                raise UsageError("The scores file has been replaced. Reload the page.")
            if decision.label and decision.label not in self._list_labels():
                raise UsageError(f"The label must be one of {', '.join(self._list_labels())}.")
            path = self.table.paths[decision.number]
            self._check_open(path)
            self._journal.say(decision.identity, self._make_review(decision, path))
            self._note(path)
            return {"row": self.read_row(decision.number), "counts": self.count()}

    def undo(self, identity: str) -> dict[str, Any]:
        """Undo the latest decision; `number` is its row, or null if there was none."""
        with self._hold():
            last = self._journal.last
            if last is None:
                return {"number": None, "counts": self.count()}
            self._check_open(last)
            self._journal.take_back(identity)
            self._note(last)
            places = self.table.find(last)
            return {"number": places[0] if places else None, "counts": self.count()}

    def _note(self, path: str) -> None:
        self.table.mark(path, self._journal.reviews.get(path))
        self._unwritten = True

    def _check_open(self, path: str) -> None:
        if self._journal.study.blind and path in self._journal.shown:
            raise UsageError(
                "Your decision is final: this study is blind, and you have seen the model's answer."
            )

    def _make_review(self, decision: Decision, path: str) -> Review:
        row = self.table.read_row(decision.number)
        if decision.verdict:
            verdict = Verdict(decision.verdict)
        elif not row["label"]:
            verdict = Verdict.LABELLED
        else:
            verdict = Verdict.AGREE if decision.label == row["label"] else Verdict.DISAGREE
        return Review(
            path=path,
            label=decision.label,
            verdict=verdict,
            reader=self._journal.study.reader,
            time=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            seconds=round(decision.seconds, 1),
            note=decision.note,
            model=self.model.digest,
            blind=self._journal.study.blind,
        )

    # -- checks and files --------------------------------------------------------------------------------

    def _list_labels(self) -> tuple[str, ...]:
        return self.table.answer.labels

    def _check_number(self, number: int) -> None:
        if not 0 <= number < len(self.table):
            raise UsageError(f"There is no row {number}: rows have the numbers 0 to {len(self.table) - 1}.")

    def _read_image(self, number: int) -> bytes:
        with self._hold():
            self._check_number(number)
            path = self.table.paths[number]
            if self.options.images is not None and self._moved is None:
                self._moved = find_moved(self.options.images, self.table.paths)
            moved = self._moved
        return read_image(path, moved, project=self.options.project)
