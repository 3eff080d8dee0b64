"""Score a folder's new files as they arrive, once each, until stopped.

The folder is listed again and again: this works on every system and network share, where notifications do
not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import monotonic, sleep

from wetread.errors import ImageError, OutputError, SourceError, Status, UsageError
from wetread.runtime.entries import JOURNAL_SUFFIX, Entry, is_bucket_location
from wetread.runtime.files.globs import compile_glob, matches
from wetread.runtime.files.long_paths import reach
from wetread.runtime.files.moving import move_aside
from wetread.runtime.files.reading import read_local
from wetread.runtime.images.limits import MAX_MEMORY
from wetread.runtime.scoring.batches import Chunk, score_chunks
from wetread.runtime.scoring.classifier import Classifier
from wetread.runtime.scoring.dicom_columns import Tagging, check_tags
from wetread.runtime.scoring.rows import Prediction, check_band, choose_format, list_optional
from wetread.runtime.scoring.run import Stop, Tally, Watch, refuse_chunk
from wetread.runtime.scoring.scope_columns import check_scope
from wetread.runtime.sources.chunks import DEFAULT_BATCH
from wetread.runtime.sources.local import walk
from wetread.runtime.watch.arrivals import Arrivals
from wetread.runtime.watch.folder_lock import lock_folder
from wetread.runtime.watch.journal import Journal, key_entry, open_journal

Report = Callable[[str], None]
_STEP = 0.2
# Listing without a pause would keep a processor busy, and the file server too.
_LEAST_POLL = 0.05


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """The options of `wetread watch`.

    `done` and `failed`: folders to move files to once their rows are written, with and without a score.
    `poll`: seconds between two listings, 0.05 or more. `settle` and `patience` as in `Arrivals`. `uncertain`,
    `dicom_tags` and `refuse_outside` as in `ScoreOptions`.
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
    max_memory: int = MAX_MEMORY
    uncertain: bool = False
    dicom_tags: tuple[str, ...] = ()
    refuse_outside: bool = False

    def __post_init__(self) -> None:
        if is_bucket_location(self.folder) or is_bucket_location(self.output):
            raise UsageError("watch works with a local folder and a local output, not with gs:// locations.")
        if choose_format(self.output) == "parquet":
            raise UsageError("watch appends rows to .csv or .jsonl; a .parquet file cannot grow.")
        for name, least in (("poll", _LEAST_POLL), ("settle", 0), ("patience", 0)):
            if not least <= getattr(self, name) <= 86_400:
                raise UsageError(f"--{name} must be {least} to 86400 seconds, not {getattr(self, name)}.")
        for name, count in (
            ("--workers", self.workers),
            ("--batch-size", self.batch_size),
            ("--max-memory", self.max_memory),
        ):
            if count is not None and count < 1:
                raise UsageError(f"{name} must be 1 or more, not {count}.")
        check_tags(self.dicom_tags)
        if not os.path.isdir(reach(self.folder)):
            raise SourceError(f"There is no folder {self.folder!r} to watch. Check the name.")
        for name, target in (("--done", self.done), ("--failed", self.failed)):
            if target is not None and os.path.realpath(target) == os.path.realpath(self.folder):
                raise UsageError(f"{name} must not be the watched folder itself. Choose another folder.")

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
    """Score what arrives until `stop` returns true; the current rows are finished first.

    `watch` is called after each batch of rows, `report` with problems (a folder or an output that cannot be
    reached; it is tried again). Raises OutputError if the output cannot be begun, and SourceError if another
    watch moves files of the folder.
    """
    spec = classifier.spec
    if options.uncertain:
        check_band(spec)
    if options.refuse_outside:
        check_scope(spec)
    # Not the versions or --max-memory: a watch may go on with other ones, for the files to come.
    identity = {
        "model": classifier.digest,
        # On Windows one folder has many spellings.
        "folder": os.path.normcase(os.path.abspath(options.folder)),
        "include": options.include,
        "uncertain": options.uncertain or None,
        "dicom_tags": list(options.dicom_tags) or None,
        "refuse_outside": options.refuse_outside or None,
    }
    moves = options.done is not None or options.failed is not None
    with ExitStack() as held:
        held.enter_context(lock_folder(options.folder, moves=moves))
        journal = Journal(
            options.output,
            labels=spec.labels,
            kind=choose_format(options.output),
            identity=identity,
            optional=list_optional(spec, uncertain=options.uncertain, dicom_tags=options.dicom_tags),
        )
        held.enter_context(open_journal(journal))
        watcher = _Watcher(classifier, options, journal, stop, watch, report or (lambda _: None))
        while not stop():
            watcher.look()
            _wait(options.poll, stop)
    return watcher.tally


@dataclass
class _Watcher:
    """A running watch."""

    classifier: Classifier
    options: WatchOptions
    journal: Journal
    stop: Stop
    watch: Watch | None
    report: Report
    tally: Tally = field(default_factory=Tally)
    said: dict[str, str] = field(default_factory=dict)
    # Keys of files that were moved away and have no line in the journal yet.
    moved: list[str] = field(default_factory=list)
    arrivals: Arrivals = field(init=False)

    def __post_init__(self) -> None:
        self.arrivals = Arrivals(self.options.settle, self.options.patience)
        self._include = compile_glob(self.options.include) if self.options.include else None

    def look(self) -> None:
        """List the folder once and score the complete files."""
        if not self._forget():
            return  # a file that came back with such a key would be taken for the moved one
        try:
            found = list(self._entries())
        except SourceError as error:
            self._say("listing", self._without_names(str(error)))
            return
        self._say("listing", "")
        new = [entry for entry in found if not self._is_written(entry)]
        # Windows lists old values for a file that is open or has a second name; its row may be written.
        ready = [
            entry for entry in self.arrivals.observe(new, now=monotonic()) if not self._is_written(entry)
        ]
        if ready:
            self._score(ready)

    def _is_written(self, entry: Entry) -> bool:
        """Whether a file has its row; one that a killed run did not move, or could not move, is moved."""
        has_score = self.journal.taken.get(self._key(entry))
        if has_score is None:
            return False
        if self._target(has_score) is not None:
            if self.arrivals.find(entry.name) != entry:
                return False  # the listing is out of date: this is another file by now
            self._move([entry], [has_score])
        return True

    def _target(self, has_score: bool) -> str | None:
        return self.options.done if has_score else self.options.failed

    def _without_names(self, text: str) -> str:
        """Remove names from the error of a folder that cannot be listed: they may be patients'."""
        if repr(self.options.root) in text:
            return text
        return f"A folder below {self.options.root!r} cannot be listed. Give read permission to all of them."

    def _entries(self) -> Iterator[Entry]:
        root, options = self.options.root, self.options
        pruned = {_name_under(root, folder) + "/" for folder in (options.done, options.failed) if folder}
        own = {_name_under(root, options.output), _name_under(root, options.output + JOURNAL_SUFFIX)}
        for entry in walk(root, pruned=pruned):
            wanted = self._include is None or matches(self._include, entry.name[len(root) :])
            if wanted and entry.name not in own:
                yield entry

    def _score(self, entries: list[Entry]) -> None:
        tagging = Tagging(self.options.dicom_tags, _read, max_memory=self.options.max_memory)
        chunks = score_chunks(
            self.classifier,
            entries,
            read=tagging.read,
            workers=self.options.workers,
            batch_size=self.options.batch_size,
            max_memory=self.options.max_memory,
        )
        for chunk in chunks:
            self._finish(tagging.attach(refuse_chunk(chunk) if self.options.refuse_outside else chunk))
            if self.stop():
                return

    def _finish(self, chunk: Chunk) -> None:
        """Write the rows of a chunk's unchanged files, then move the files."""
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
        self._move(entries, [prediction.status == Status.OK for prediction in predictions])

    def _counts(self, entry: Entry, prediction: Prediction) -> bool:
        """Whether a row is final: the file is unchanged, and a file without a score had its second try."""
        if not self.arrivals.is_unchanged(entry):
            return False
        return prediction.status == Status.OK or not self.arrivals.doubt(entry)

    def _write(self, entries: list[Entry], predictions: list[Prediction]) -> bool:
        """Append rows, retrying while the output cannot be written; False if stopped before."""
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
        """Move files whose rows are written; one that cannot be moved is tried again at the next listing."""
        for entry, has_score in zip(entries, scores, strict=True):
            target = self._target(has_score)
            if target is None:
                continue
            try:
                move_aside(entry.name, root=self.options.root, target=target)
                self.moved.append(self._key(entry))
            except OSError as error:
                reason = error.strerror or str(error)
                self._say(target, f"A file cannot be moved to {target!r}: {reason}.")
        self._forget()

    def _forget(self) -> bool:
        """Record in the journal which files were moved away; False if that must be tried again."""
        try:
            if self.moved:
                self.journal.forget(self.moved)
                self._say("output", "")
        except OutputError as error:
            self._say("output", str(error))
            return False
        self.moved.clear()
        return True

    def _key(self, entry: Entry) -> str:
        """Return a file's key, which does not depend on how the folder's name is typed."""
        return key_entry(entry, root=self.options.root)

    def _say(self, topic: str, text: str) -> None:
        """Report a problem, once for as long as it stays the same."""
        if text and text != self.said.get(topic):
            self.report(text)
        self.said[topic] = text


def _read(entry: Entry) -> bytes:
    """Read a file whose size must be the listed one. Raises ImageError('unreadable')."""
    data = read_local(entry.name)
    if len(data) != entry.size:
        raise ImageError(Status.UNREADABLE, "The file's size changed while it was read.")
    return data


def _name_under(root: str, path: str) -> str:
    """Return a path as `walk` would name it under `root`."""
    try:
        relative = os.path.relpath(os.path.realpath(path), os.path.realpath(root))
    except ValueError:  # another drive
        return path
    return root + relative.replace(os.sep, "/")


def _wait(seconds: float, stop: Stop) -> None:
    """Sleep, but wake up early when `stop` returns true."""
    end = monotonic() + seconds
    while not stop() and (left := end - monotonic()) > 0:
        sleep(min(left, _STEP))
