"""Score a folder's new files as they arrive, once each, for as long as it runs.

By asking the folder again and again: that works on every system and every network share, where
notifications do not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import monotonic, sleep

from wetread.errors import ImageError, OutputError, SourceError, UsageError
from wetread.runtime.arrivals import Arrivals
from wetread.runtime.classifier import Classifier
from wetread.runtime.files import read_local
from wetread.runtime.globs import compile_glob, matches
from wetread.runtime.journal import Journal, key_file, open_journal
from wetread.runtime.moving import move_aside
from wetread.runtime.paths import reach
from wetread.runtime.pixels import MAX_PIXELS
from wetread.runtime.results import UNCERTAIN, Prediction, check_band, choose_format
from wetread.runtime.runs import Stop, Tally, Watch
from wetread.runtime.scoring import DEFAULT_BATCH, Chunk, score_chunks
from wetread.runtime.sources import (
    JOURNAL_SUFFIX,
    Entry,
    is_bucket_location,
    walk,
)
from wetread.runtime.tagging import Tagging, check_tags

Report = Callable[[str], None]
_STEP = 0.2


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """What a watch was asked for, as `wetread watch` takes it.

    `done` and `failed`: folders that files are moved to once their rows are written, with a score and
    without one. `poll`: seconds between two looks. `settle` and `patience` as in `Arrivals`. `uncertain`
    and `dicom_tags`: columns after `error`, as in `ScoreOptions`.
    """

    folder: str
    output: str
    include: str | None = None
    done: str | None = None
    failed: str | None = None
    poll: float = 1.0
    settle: float = 2.0
    patience: float = 30.0
    workers: int | None = None
    batch_size: int = DEFAULT_BATCH
    max_pixels: int = MAX_PIXELS
    uncertain: bool = False
    dicom_tags: tuple[str, ...] = ()

    @property
    def optional(self) -> tuple[str, ...]:
        """The columns after `error` that were asked for."""
        return (*([UNCERTAIN] if self.uncertain else []), *self.dicom_tags)

    def __post_init__(self) -> None:
        if is_bucket_location(self.folder) or is_bucket_location(self.output):
            raise UsageError("Expected a local folder and a local output. Received a gs:// location.")
        if choose_format(self.output) == "parquet":
            raise UsageError("Expected an output that can grow: .csv or .jsonl. Received .parquet.")
        for name in ("poll", "settle", "patience"):
            if not 0 <= getattr(self, name) <= 86_400:
                raise UsageError(
                    f"Expected --{name} from 0 to 86400 seconds. Received {getattr(self, name)}."
                )
        check_tags(self.dicom_tags)
        if not os.path.isdir(reach(self.folder)):
            raise SourceError(f"Expected a folder to watch. Received {self.folder!r}. Check the name.")
        for name, target in (("--done", self.done), ("--failed", self.failed)):
            if target is not None and os.path.realpath(target) == os.path.realpath(self.folder):
                raise UsageError(f"Expected {name} to be another folder than the watched one.")

    @property
    def root(self) -> str:
        """The folder's name as typed, with a separator at its end."""
        return self.folder if self.folder.endswith(("/", os.sep)) else self.folder + "/"


def watch_folder(
    classifier: Classifier,
    options: WatchOptions,
    *,
    stop: Stop,
    watch: Watch | None = None,
    report: Report | None = None,
) -> Tally:
    """Score what arrives until `stop` says so; the rows at hand are finished first.

    `watch` is called after each batch of rows, `report` with what is in the way (a folder or an output
    that cannot be reached: it is tried again). Raises OutputError when the output cannot be begun.
    """
    if options.uncertain:
        check_band(classifier.spec)
    identity = {
        "model": classifier.digest,
        # Windows knows one folder by many spellings.
        "folder": os.path.normcase(os.path.abspath(options.folder)),
        "include": options.include,
        "uncertain": options.uncertain or None,
        "dicom_tags": list(options.dicom_tags) or None,
    }
    journal = Journal(
        options.output,
        labels=classifier.spec.labels,
        kind=choose_format(options.output),
        identity=identity,
        optional=options.optional,
    )
    with open_journal(journal):
        watcher = _Watcher(classifier, options, journal, stop, watch, report or (lambda _: None))
        while not stop():
            watcher.look()
            _wait(options.poll, stop)
    return watcher.tally


@dataclass
class _Watcher:
    """One watch at work."""

    classifier: Classifier
    options: WatchOptions
    journal: Journal
    stop: Stop
    watch: Watch | None
    report: Report
    tally: Tally = field(default_factory=Tally)
    said: dict[str, str] = field(default_factory=dict)
    arrivals: Arrivals = field(init=False)

    def __post_init__(self) -> None:
        self.arrivals = Arrivals(self.options.settle, self.options.patience)
        self._include = compile_glob(self.options.include) if self.options.include else None

    def look(self) -> None:
        """List the folder once and score what is complete."""
        try:
            found = list(self._entries())
        except SourceError as error:
            self._say("listing", self._without_names(str(error)))
            return
        self._say("listing", "")
        new = []
        for entry in found:
            score = self.journal.taken.get(self._key(entry))
            if score is None:
                new.append(entry)
            else:
                self._move([entry], [score])  # left behind by a run that was killed, or could not move it
        ready = self.arrivals.observe(new, now=monotonic())
        if ready:
            self._score(ready)

    def _without_names(self, text: str) -> str:
        """What is said of a folder that cannot be listed: the name of one below may be a patient's."""
        if repr(self.options.root) in text:
            return text
        return (
            f"Expected folders that can be listed. Received one below {self.options.root!r} that cannot. "
            "Give read permission to all of them."
        )

    def _entries(self) -> Iterator[Entry]:
        root, options = self.options.root, self.options
        pruned = {_name_under(root, folder) + "/" for folder in (options.done, options.failed) if folder}
        own = {_name_under(root, options.output), _name_under(root, options.output + JOURNAL_SUFFIX)}
        for entry in walk(root, pruned=pruned):
            wanted = self._include is None or matches(self._include, entry.name[len(root) :])
            if wanted and entry.name not in own:
                yield entry

    def _score(self, entries: list[Entry]) -> None:
        tagging = Tagging(self.options.dicom_tags, _read)
        chunks = score_chunks(
            self.classifier,
            entries,
            read=tagging.read,
            workers=self.options.workers,
            batch_size=self.options.batch_size,
            max_pixels=self.options.max_pixels,
        )
        for chunk in chunks:
            self._finish(tagging.attach(chunk))
            if self.stop():
                return

    def _finish(self, chunk: Chunk) -> None:
        """Write the rows of a chunk's files that are as they were, then move the files."""
        kept = [
            (entry, prediction)
            for entry, prediction in zip(chunk.entries, chunk.predictions, strict=True)
            if self._counts(entry, prediction)
        ]
        entries, predictions = [entry for entry, _ in kept], [prediction for _, prediction in kept]
        if not kept or not self._write(entries, predictions):
            return
        self.tally.add_chunk(Chunk(entries, predictions, chunk.seconds))
        if self.watch is not None:
            self.watch(self.tally)
        self._move(entries, [prediction.status == "ok" for prediction in predictions])

    def _counts(self, entry: Entry, prediction: Prediction) -> bool:
        """Whether a row is final: the file is as it was, and one without a score had its second chance."""
        if not self.arrivals.is_unchanged(entry):
            return False
        return prediction.status == "ok" or not self.arrivals.doubt(entry)

    def _write(self, entries: list[Entry], predictions: list[Prediction]) -> bool:
        """Append rows, trying again for as long as the output cannot be written; False when stopped first."""
        while True:
            try:
                self.journal.append(predictions, [self._key(entry) for entry in entries])
                self._say("output", "")
                return True
            except OutputError as error:
                self._say("output", str(error))
            if self.stop():
                return False
            _wait(max(self.options.poll, _STEP), self.stop)

    def _move(self, entries: list[Entry], scores: list[bool]) -> None:
        """Move files whose rows are written; one that cannot be moved is tried again at the next look."""
        moved = []
        for entry, has_score in zip(entries, scores, strict=True):
            target = self.options.done if has_score else self.options.failed
            if target is None:
                continue
            try:
                move_aside(entry.name, root=self.options.root, target=target)
                moved.append(self._key(entry))
            except OSError as error:
                reason = error.strerror or str(error)
                self._say(target, f"Expected to move a file to {target!r}. Received: {reason}.")
        if moved:
            self.journal.forget(moved)

    def _key(self, entry: Entry) -> str:
        """A file's key, the same however the folder's name is typed."""
        return key_file(entry.name[len(self.options.root) :], entry.size, entry.version)

    def _say(self, topic: str, text: str) -> None:
        """Report what is in the way, once for as long as it stays the same."""
        if text and text != self.said.get(topic):
            self.report(text)
        self.said[topic] = text


def _read(entry: Entry) -> bytes:
    """Read a file that must be as long as it was listed. Raises ImageError('unreadable')."""
    data = read_local(entry.name)
    if len(data) != entry.size:
        raise ImageError(
            "unreadable", "Expected a file that stands still. Received one that changed its size."
        )
    return data


def _name_under(root: str, path: str) -> str:
    """A path as `walk` would name it under `root`."""
    try:
        relative = os.path.relpath(os.path.realpath(path), os.path.realpath(root))
    except ValueError:  # another drive
        return path
    return root + relative.replace(os.sep, "/")


def _wait(seconds: float, stop: Stop) -> None:
    """Sleep, waking up early when told to stop."""
    end = monotonic() + seconds
    while not stop() and (left := end - monotonic()) > 0:
        sleep(min(left, _STEP))
