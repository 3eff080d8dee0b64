"""A node at work: objects come in, get their rows, and their results go out.

    associations -> Receiver -> Store (file, ledger) -> rows (journal) -> Sender -> archives

Each step is on the disk before the next begins, and each can be told from what is there: after a kill the
node goes on where it was. A row is written once for each object; a result may be sent twice, under the same
UID, where a kill comes between the archive's answer and the note of it.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from wetread.errors import ImageError, OutputError, Status
from wetread.node.options import NodeOptions
from wetread.node.receiver import Receiver, Report
from wetread.node.results.making import ResultMaker
from wetread.node.sender import Sender
from wetread.node.store import LEDGER_SUFFIX, Store, is_other, key_name
from wetread.runtime.entries import Entry
from wetread.runtime.scoring.batches import Chunk, score_chunks
from wetread.runtime.scoring.classifier import Classifier
from wetread.runtime.scoring.dicom_columns import Tagging
from wetread.runtime.scoring.rows import Prediction, check_band, choose_format, list_optional
from wetread.runtime.scoring.run import Stop, Tally, Watch, refuse_chunk
from wetread.runtime.scoring.scope_columns import check_scope
from wetread.runtime.watch.journal import Journal, open_journal

_WAIT = 0.2
_MOST = 256  # objects that are scored before their rows are written


def run_node(
    classifier: Classifier,
    options: NodeOptions,
    *,
    stop: Stop,
    watch: Watch | None = None,
    report: Report | None = None,
    started: Callable[[int], None] | None = None,
) -> Tally:
    """Receive, score and answer until `stop` says so; the rows at hand are finished first.

    `watch` is called after each batch of rows, `report` with what is in the way, `started` with the port.
    Raises OutputError when the output or the store cannot be used, SetupError when the node cannot listen.
    """
    spec = classifier.spec
    if options.uncertain:
        check_band(spec)
    if options.refuse_outside:
        check_scope(spec)
    identity = {"model": classifier.digest, "store": str(Path(options.store).resolve())}
    with ExitStack() as held:
        held.enter_context(warnings.catch_warnings())
        # pydicom's warnings quote what a peer sent.
        warnings.filterwarnings("ignore", module=r"pydicom\.")
        store = Store(options.store, ledger=options.output + LEDGER_SUFFIX, identity=identity)
        held.callback(store.close)
        journal = Journal(
            options.output,
            labels=spec.labels,
            kind=choose_format(options.output),
            identity=identity
            | {"columns": [options.uncertain, *options.dicom_tags], "refuse_outside": options.refuse_outside},
            optional=list_optional(spec, uncertain=options.uncertain, dicom_tags=options.dicom_tags),
        )
        held.enter_context(open_journal(journal))
        node = _Node(classifier, options, store, journal, stop, watch, report or (lambda _: None))
        node.recover()
        held.callback(node.sender.stop)
        receiver = Receiver(options, store, arrived=node.offer, report=node.report)
        receiver.start()
        held.callback(receiver.stop)
        node.sender.start()
        if started is not None:
            started(receiver.port)
        while not stop():
            node.work()
        return node.tally


@dataclass
class _Node:
    classifier: Classifier
    options: NodeOptions
    store: Store
    journal: Journal
    stop: Stop
    watch: Watch | None
    report: Report
    tally: Tally = field(default_factory=Tally)
    sender: Sender = field(init=False)

    def __post_init__(self) -> None:
        self._arrived: list[str] = []
        self._news = threading.Condition()
        self._said = ""
        self._maker = ResultMaker(
            self.classifier, self.store, report=self.report, max_memory=self.options.max_memory
        )
        self.sender = Sender(self.options, make=self._maker.make, note=self._note_sent, report=self.report)

    def offer(self, name: str) -> None:
        """Note that a file is in the store; called from the associations' threads."""
        with self._news:
            self._arrived.append(name)
            self._news.notify()

    def recover(self) -> None:
        """Take up what an earlier run left: objects without a row, rows without results, files that stay."""
        for name in self.store.list_left():
            self._end(name)
        for name in self.store.list_waiting():
            if key_name(name) in self.journal.taken:
                self._pass_on(name, has_score=self.journal.taken[key_name(name)])
            else:
                self._arrived.append(name)

    def work(self) -> None:
        """Wait a moment for objects, and score those that came."""
        with self._news:
            if not self._arrived:
                self._news.wait(_WAIT)
            names, self._arrived = self._arrived[:_MOST], self._arrived[_MOST:]
        names = [name for name in dict.fromkeys(names) if key_name(name) not in self.journal.taken]
        if names:
            self._score(names)

    def _score(self, names: list[str]) -> None:
        entries = [Entry(str(Path(self.options.store) / name)) for name in names]
        tagging = Tagging(self.options.dicom_tags, self._read, max_memory=self.options.max_memory)
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

    def _read(self, entry: Entry) -> bytes:
        name = Path(entry.name).name
        if is_other(name):
            raise ImageError(
                Status.MALFORMED,
                "Another object came earlier under the same SOP Instance UID: that one counts. "
                "Ask the sender which of the two is right.",
            )
        try:
            return self.store.read(name)
        except OSError as error:
            raise ImageError(Status.UNREADABLE, f"It cannot be read: {error.strerror}.") from error

    def _finish(self, chunk: Chunk) -> None:
        names = [Path(entry.name).name for entry in chunk.entries]
        if not self._write(names, chunk.predictions):
            return
        self.tally.add_chunk(chunk)
        if self.watch is not None:
            self.watch(self.tally)
        for name, prediction in zip(names, chunk.predictions, strict=True):
            self._pass_on(name, has_score=prediction.status == Status.OK)

    def _write(self, names: list[str], predictions: list[Prediction]) -> bool:
        """Append rows, trying again while the output cannot be written; False when stopped first."""
        while True:
            try:
                self.journal.append(predictions, [key_name(name) for name in names])
            except OutputError as error:
                self._say(str(error))
            else:
                self._say("")
                return True
            if self.stop():
                return False
            threading.Event().wait(_WAIT)

    def _pass_on(self, name: str, *, has_score: bool) -> None:
        """Queue the results of an object that has a row, or end it where there is nothing to send."""
        if has_score and self._is_missing(name):
            self.sender.offer(name, self.store.list_sent(name))
        else:
            self._end(name)

    def _is_missing(self, name: str) -> bool:
        """Tell whether a result of an object is not out yet."""
        wanted = len(self.options.results) * len(self.options.archives)
        return len(self.store.list_sent(name)) < wanted

    def _note_sent(self, name: str, what: str) -> None:
        self.store.note_sent(name, what)
        if not self._is_missing(name):
            self._end(name)

    def _end(self, name: str) -> None:
        try:
            self.store.finish(name, retain=self.options.retain)
        except OSError as error:
            self.report(f"{name} cannot be put away: {error.strerror}; the next start tries again")

    def _say(self, text: str) -> None:
        if text and text != self._said:
            self.report(text)
        elif self._said and not text:
            self.report(f"{self.options.output!r} can be written again")
        self._said = text
