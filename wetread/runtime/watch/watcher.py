"""Score a folder's new files as they arrive, once each, until stopped.

The folder is listed again and again: this works on every system and network share, where notifications do
not.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from wetread.errors import ImageError, SourceError, Status, UsageError
from wetread.runtime.entries import JOURNAL_SUFFIX, Entry, is_bucket_location
from wetread.runtime.files.globs import compile_glob, matches
from wetread.runtime.files.long_paths import reach
from wetread.runtime.files.moving import move_aside
from wetread.runtime.files.reading import read_local
from wetread.runtime.scoring.batches import Chunk
from wetread.runtime.scoring.classifier import Classifier
from wetread.runtime.scoring.rows import Prediction, choose_format
from wetread.runtime.scoring.run import Stop, Tally, Watch
from wetread.runtime.watch.arrivals import Arrivals
from wetread.runtime.watch.faults import Report, format_now
from wetread.runtime.watch.folder_lock import lock_folder
from wetread.runtime.watch.given_up import GivenUp
from wetread.runtime.watch.growing_output import Calls, GrowingOptions, GrowingRows
from wetread.runtime.watch.journal import key_entry
from wetread.runtime.watch.listing import Listing

_STEP = 0.2
# Listing without a pause would keep a processor busy, and the file server too.
_LEAST_POLL = 0.05
_SHARE = 0.01  # of one processor's time, for looks at which nothing is found
_PRUNE_SECONDS = 600.0
_BEAT_EVERY = 1_000  # files


@dataclass(frozen=True, kw_only=True)
class WatchOptions(GrowingOptions):
    """The options of `wetread watch`.

    `done` and `failed`: folders to move files to once their rows are written, with and without a score.
    `prune`: remove folders that are empty and unchanged for `prune_seconds`. `poll`: seconds between two
    looks, 0.05 or more. `settle` and `patience` as in `Arrivals`.
    """

    folder: str
    include: str | None = None
    done: str | None = None
    failed: str | None = None
    prune: bool = False
    prune_seconds: float = _PRUNE_SECONDS
    poll: float = 1.0
    settle: float = 2.0
    patience: float = 30.0

    def __post_init__(self) -> None:
        if is_bucket_location(self.folder) or is_bucket_location(self.output):
            raise UsageError("watch works with a local folder and a local output, not with gs:// locations.")
        if choose_format(self.output) == "parquet":
            raise UsageError("watch appends rows to .csv or .jsonl; a .parquet file cannot grow.")
        for name, least in (("poll", _LEAST_POLL), ("settle", 0), ("patience", 0)):
            if not least <= getattr(self, name) <= 86_400:
                raise UsageError(f"--{name} must be {least} to 86400 seconds, not {getattr(self, name)}.")
        self.check_rows()
        if self.prune and not (self.done or self.failed):
            raise UsageError("--prune needs --done or --failed: without them no folder becomes empty.")
        if not os.path.isdir(reach(self.folder)):
            raise SourceError(f"There is no folder {self.folder!r} to watch. Check the name.")
        for name, target in (("--done", self.done), ("--failed", self.failed)):
            if target is not None and os.path.realpath(target) == os.path.realpath(self.folder):
                raise UsageError(f"{name} must not be the watched folder itself. Choose another folder.")

    @property
    def root(self) -> str:
        """The folder's name as typed, with a separator at its end."""
        return self.folder if self.folder.endswith(("/", os.sep)) else self.folder + "/"

    def identify(self, model: str) -> dict[str, Any]:
        """Return what the rows depend on. Not versions or --max-memory: a watch may go on with others."""
        return {
            "model": model,
            # On Windows one folder has many spellings.
            "folder": os.path.normcase(os.path.abspath(self.folder)),
            "include": self.include,
            "uncertain": self.uncertain or None,
            "dicom_tags": list(self.dicom_tags) or None,
            "refuse_outside": self.refuse_outside or None,
            "columns": list(self.columns) or None,
        }


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
    moves = options.done is not None or options.failed is not None
    with ExitStack() as held:
        held.enter_context(lock_folder(options.folder, moves=moves))
        watcher = _Watcher(classifier, options, Calls(stop=stop, watch=watch, report=report))
        held.enter_context(watcher.rows.opened())
        watcher.rows.heartbeat.start()
        while not stop():
            watcher.look()
            # A tree so large that even a look at its folders costs time is looked at less often.
            watcher.rows.wait(max(options.poll, watcher.idle_cost / _SHARE))
    return watcher.rows.tally


@dataclass
class _Watcher:
    """A running watch."""

    classifier: Classifier
    options: WatchOptions
    calls: Calls
    # Keys of files that were moved away and have no line in the journal yet.
    moved: list[str] = field(default_factory=list)
    # Files that could not be moved at this look, and why, by the folder that they should go to.
    stuck: list[Entry] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    idle_cost: float = 0.0  # processor seconds of the last look, unless it found something
    arrivals: Arrivals = field(init=False)
    rows: GrowingRows = field(init=False)

    def __post_init__(self) -> None:
        options = self.options
        self.arrivals = Arrivals(options.settle, options.patience)
        self.rows = GrowingRows(
            self.classifier,
            options,
            self.calls,
            read=_read,
            identity=options.identify(self.classifier.digest),
            find_state=self._describe,
        )
        self._include = compile_glob(options.include) if options.include else None
        folders = (options.done, options.failed)
        self._listing = Listing(
            options.root, {_name_under(options.root, folder) + "/" for folder in folders if folder}
        )
        self._listing.beat = self.rows.heartbeat.beat
        own = [options.output, options.output + JOURNAL_SUFFIX, *([options.status] if options.status else [])]
        self._own = {_name_under(options.root, name) for name in own}
        self._given_up = GivenUp(options.failed, root=options.root) if options.failed else None
        self._looked: str | None = None

    def _describe(self) -> Mapping[str, Any]:
        waiting, seconds = self.arrivals.describe(now=monotonic())
        return {
            "last_look": self._looked,
            "waiting": waiting,
            "oldest_waiting_seconds": round(seconds, 1) if waiting else None,
        }

    def look(self) -> None:
        """List the folder once and score the complete files."""
        self.idle_cost = 0.0
        if not self._forget():
            return  # a file that came back with such a key would be taken for the moved one
        self._take_back()
        self.stuck, self.reasons = [], {}
        try:
            found = self._listing.look()
        except SourceError as error:
            self.rows.faults.say("listing", self._without_names(str(error)))
            return
        self.rows.faults.say("listing", self._without_names(self._listing.trouble))
        new = [
            entry
            for entry in self._beat_along(found)
            if self._is_input(entry) and not self._is_written(entry)
        ]
        # Windows lists old values for a file that is open or has a second name; its row may be written.
        ready = [
            entry
            for entry in self.arrivals.observe(self._beat_along(new), now=monotonic())
            if not self._is_written(entry)
        ]
        self._listing.settle([*new, *self.stuck])
        self._looked = format_now()
        if self.options.prune:
            self._listing.prune(after=self.options.prune_seconds)
        if ready:
            self._score(ready)
        elif not new:
            self.idle_cost = self._listing.cost
        self._say_moves()

    def _beat_along(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Yield entries that are each asked for something: on a slow share that takes minutes for many."""
        for number, entry in enumerate(entries):
            if number % _BEAT_EVERY == 0:
                self.rows.heartbeat.beat()
            yield entry

    def _is_written(self, entry: Entry) -> bool:
        """Whether a file has its row; one that a killed run did not move, or could not move, is moved."""
        has_score = self.rows.journal.find_score(self._key(entry))
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
        if not text or repr(self.options.root) in text:
            return text
        return f"A folder below {self.options.root!r} cannot be listed. Give read permission to all of them."

    def _is_input(self, entry: Entry) -> bool:
        if entry.name in self._own:
            return False
        return self._include is None or matches(self._include, entry.name[len(self.options.root) :])

    def _score(self, entries: list[Entry]) -> None:
        for chunk in self.rows.score(entries):
            self._finish(chunk)
            if self.calls.stop():
                return

    def _finish(self, chunk: Chunk) -> None:
        """Write the rows of a chunk's unchanged files, then move the files."""
        kept = [
            (entry, prediction)
            for entry, prediction in zip(chunk.entries, chunk.predictions, strict=True)
            if self._counts(entry, prediction)
        ]
        entries, predictions = [entry for entry, _ in kept], [prediction for _, prediction in kept]
        keys = [self._key(entry) for entry in entries]
        pause = max(self.options.poll, _STEP)
        if not kept or not self.rows.append(Chunk(entries, predictions, chunk.seconds), keys, pause=pause):
            return
        for entry in entries:
            self.arrivals.finish(entry)
        self._move(entries, [prediction.status == Status.OK for prediction in predictions])

    def _counts(self, entry: Entry, prediction: Prediction) -> bool:
        """Whether a row is final: the file is unchanged, and a file without a score had its second try."""
        if not self.arrivals.is_unchanged(entry):
            return False
        return prediction.status == Status.OK or not self.arrivals.doubt(entry)

    def _move(self, entries: list[Entry], scores: list[bool]) -> None:
        """Move files whose rows are written; one that cannot be moved is tried again at the next look.

        A file that took the name of another while the output could not be written has no row yet, and stays.
        """
        for entry, has_score in zip(entries, scores, strict=True):
            target = self._target(has_score)
            if target is None or self.arrivals.find(entry.name) != entry:
                continue
            try:
                moved = move_aside(entry.name, root=self.options.root, target=target)
            except OSError as error:
                reason = error.strerror or str(error)
                self.reasons[target] = f"A file cannot be moved to {target!r}: {reason}."
                self.stuck.append(entry)
                continue
            self.moved.append(self._key(entry))
            if not has_score and self._given_up is not None and moved.is_renamed:
                self._given_up.note(moved.place, entry)
        for target, text in self.reasons.items():
            self.rows.faults.say(f"move to {target}", text)
        self._forget()

    def _say_moves(self) -> None:
        """Say at the end of a look where all files could be moved, if the look reached every file."""
        if self._listing.trouble:
            return
        for target in (self.options.done, self.options.failed):
            if target is not None:
                self.rows.faults.say(f"move to {target}", self.reasons.get(target, ""))

    def _take_back(self) -> None:
        """Move files that grew after they were given up back to where they arrived."""
        if self._given_up is None:
            return
        try:
            self._given_up.take_back()
        except OSError as error:
            text = f"A file that grew in {self.options.failed!r} cannot be moved back: {error.strerror}."
            self.rows.faults.say("back", text)
        else:
            self.rows.faults.say("back", "")

    def _forget(self) -> bool:
        """Record in the journal which files were moved away; False if that must be tried again."""
        if self.moved and not self.rows.try_writing(lambda: self.rows.journal.forget(self.moved)):
            return False
        self.moved.clear()
        return True

    def _key(self, entry: Entry) -> str:
        """Return a file's key, which does not depend on how the folder's name is typed."""
        return key_entry(entry, root=self.options.root)


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
