"""An output that grows for months, for `watch` and `node`: options, rows, counts, faults and the heartbeat.

rows = GrowingRows(classifier, options, calls, read=..., identity=..., find_state=...)
with rows.opened():
    for chunk in rows.score(entries):
        rows.append(chunk, keys)      # waits while the disk is full, and says so
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from wetread.errors import OutputError, UsageError
from wetread.runtime.entries import Entry
from wetread.runtime.images.limits import MAX_MEMORY
from wetread.runtime.scoring.batches import Chunk, map_chunks
from wetread.runtime.scoring.chunk_scorer import ChunkOptions, ChunkPredictor, ReadFile
from wetread.runtime.scoring.classifier import Classifier
from wetread.runtime.scoring.dicom_columns import check_tags
from wetread.runtime.scoring.rows import Prediction, check_band, choose_format, list_optional
from wetread.runtime.scoring.run import Stop, Tally, Watch
from wetread.runtime.scoring.scope_columns import check_scope
from wetread.runtime.scoring.standing_processes import InThreads, Standing, StoppedError, stand_by
from wetread.runtime.sources.chunks import DEFAULT_BATCH
from wetread.runtime.threads import count_processors
from wetread.runtime.watch.faults import Faults, Report, format_now
from wetread.runtime.watch.journal import Journal, open_journal
from wetread.runtime.watch.status import Heartbeat, State

SCORED_AT, MODEL = "scored_at", "model"
COLUMNS = (SCORED_AT, MODEL)
OWNER_ONLY = 0o600
_STEP = 0.2


@dataclass(frozen=True, kw_only=True)
class GrowingOptions:
    """What every output that grows was asked for.

    `columns`: 'scored_at' (UTC, when the row was made) and 'model' (the model's SHA-256), after all others.
    `mode`: the permissions of a new output and of what stands beside it; Windows ignores them. `status`: the
    file of the heartbeat. `isolated`: score in processes of their own, so that a file that ends its process
    ends no more than that. The others as in `ScoreOptions`.
    """

    output: str
    workers: int | None = None
    batch_size: int = DEFAULT_BATCH
    max_memory: int = MAX_MEMORY
    uncertain: bool = False
    dicom_tags: tuple[str, ...] = ()
    refuse_outside: bool = False
    columns: tuple[str, ...] = ()
    mode: int = OWNER_ONLY
    status: str | None = None
    isolated: bool = True

    def check_rows(self) -> None:
        """Check the values. Raises UsageError."""
        counts = {"--workers": self.workers, "--batch-size": self.batch_size, "--max-memory": self.max_memory}
        for name, count in counts.items():
            if count is not None and count < 1:
                raise UsageError(f"{name} must be 1 or more, not {count}.")
        for name in self.columns:
            if name not in COLUMNS:
                raise UsageError(f"--columns takes {' and '.join(COLUMNS)}; {name!r} is neither.")
        if not 0o600 <= self.mode <= 0o777 or self.mode & 0o600 != 0o600:
            raise UsageError(
                f"--mode takes permissions in octal with which the owner reads and writes, such as 600 or "
                f"640, not {self.mode:o}."
            )
        check_tags(self.dicom_tags)


@dataclass(frozen=True, kw_only=True)
class Calls:
    """Whom a running command calls: `stop` ends it, `watch` sees the counts, `report` takes lines."""

    stop: Stop
    watch: Watch | None = None
    report: Report | None = None


class GrowingRows:
    """Scores inputs and appends their rows, and knows what is in the way.

    `read` returns an input's bytes, in another process: a function of a module, or a partial one.
    Raises UsageError if the model lacks the band or the scope that the options need, and OutputError if the
    output is not free.
    """

    def __init__(
        self,
        classifier: Classifier,
        options: GrowingOptions,
        calls: Calls,
        *,
        read: ReadFile,
        identity: Mapping[str, Any],
        find_state: State,
    ) -> None:
        if options.uncertain:
            check_band(classifier.spec)
        if options.refuse_outside:
            check_scope(classifier.spec)
        how = ChunkOptions(
            dicom_tags=options.dicom_tags,
            refuse_outside=options.refuse_outside,
            batch_size=options.batch_size,
            max_memory=options.max_memory,
        )
        self._division = ChunkPredictor(classifier, how, read=read).divide(classifier, read=read)
        self._standing: Standing[Any] = InThreads(self._division.work)
        self.tally = Tally()
        self.faults = Faults(calls.report or (lambda _: None))
        self._classifier, self._options, self._calls = classifier, options, calls
        self.journal = Journal(
            options.output,
            labels=classifier.spec.labels,
            kind=choose_format(options.output),
            identity=identity,
            optional=(
                *list_optional(classifier.spec, uncertain=options.uncertain, dicom_tags=options.dicom_tags),
                *options.columns,
            ),
            mode=options.mode,
        )
        model = {"name": Path(classifier.name).name, "sha256": classifier.digest}
        self.heartbeat = Heartbeat(
            options.status,
            about={"model": model, "device": classifier.device},
            find_state=lambda: {"rows_since_start": dict(sorted(self.tally.counts.items())), **find_state()},
            faults=self.faults,
        )

    @contextmanager
    def opened(self) -> Iterator[GrowingRows]:
        """Read the journal, start what scores, and release both at the end. Raises OutputError."""
        how = self._options
        with open_journal(self.journal):
            try:
                if not how.isolated:
                    yield self
                    return
                with stand_by(
                    self._division.work,
                    self._division.opening,
                    workers=how.workers,
                    stop=self._calls.stop,
                    report=lambda text: self.faults.say("processes", text),
                    beat=self.heartbeat.beat,
                ) as self._standing:
                    yield self
            finally:
                self.heartbeat.close()

    def score(self, entries: Sequence[Entry]) -> Iterator[Chunk]:
        """Yield the scored chunks of inputs, in order, with the columns that were asked for.

        Fewer than all, where the command is to stop and no process can be started.
        """
        how, workers = self._options, self._options.workers or count_processors()
        if how.isolated:  # more threads than processes would have them in no order
            workers = min(workers, count_processors())
        size = how.batch_size
        if self._classifier.device == "cpu":  # few inputs are divided among all workers
            size = min(size, max(1, ceil(len(entries) / workers)))
        try:
            for chunks in map_chunks(self._score, entries, workers=workers, batch_size=size):
                self.heartbeat.beat()
                yield from chunks
        except StoppedError:
            return

    def _score(self, entries: list[Entry]) -> list[Chunk]:
        return [chunk for part in self._standing.work_on(entries) for chunk in self._division.finish(*part)]

    def rest(self) -> None:
        """Let go of what nothing needs just now. To be called now and then while nothing comes."""
        self._standing.rest()

    def append(self, chunk: Chunk, keys: list[str], *, pause: float = _STEP) -> bool:
        """Append rows, every `pause` seconds while the output cannot be written; False if stopped before."""
        rows = self._stamp(chunk.predictions)
        while not self.try_writing(lambda: self.journal.append(rows, keys)):
            if self._calls.stop():
                return False
            self.wait(pause)
        self.tally.add_chunk(chunk)
        if self._calls.watch is not None:
            self._calls.watch(self.tally)
        return True

    def try_writing(self, write: Callable[[], None]) -> bool:
        """Write to the output or its journal; False, and a fault, if that is not possible now."""
        try:
            write()
        except OutputError as error:
            self.faults.say("output", str(error))
            return False
        self.faults.say("output", "")
        return True

    def _stamp(self, predictions: list[Prediction]) -> list[Prediction]:
        if not self._options.columns:
            return predictions
        stamps = {SCORED_AT: format_now(), MODEL: self._classifier.digest}
        return [replace(row, optional={**row.optional, **stamps}) for row in predictions]

    def wait(self, seconds: float) -> None:
        """Sleep, but wake up early when the command is to stop; the heart goes on beating."""
        self.rest()
        end = monotonic() + seconds
        while not self._calls.stop() and (left := end - monotonic()) > 0:
            self.heartbeat.beat()
            sleep(min(left, _STEP))
