"""A node at work: objects come in, get their rows, and their results go out.

    associations -> Receiver -> Store (file, ledger) -> rows (journal) -> Sender -> archives

Each step is on the disk before the next begins, and each can be told from what is there: after a kill the
node goes on where it was. A row is written once for each object; a result may be sent twice, under the same
UID, where a kill comes between the archive's answer and the note of it.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from wetread.errors import ImageError, Status
from wetread.node.known_objects import is_other
from wetread.node.options import NodeOptions
from wetread.node.receiver import Receiver, check_port
from wetread.node.results.making import ResultMaker
from wetread.node.sender import Sender, list_ways
from wetread.node.store import LEDGER_SUFFIX, Store, key_name
from wetread.runtime.allocator import share_one_arena
from wetread.runtime.entries import Entry
from wetread.runtime.files.disk_queue import DiskQueue
from wetread.runtime.files.reading import read_local
from wetread.runtime.scoring.batches import Chunk
from wetread.runtime.scoring.classifier import Classifier
from wetread.runtime.scoring.run import Stop, Tally, Watch
from wetread.runtime.watch.faults import Report, format_now
from wetread.runtime.watch.growing_output import Calls, GrowingRows

_WAIT = 0.2
_GATHER = 0.05  # seconds: objects that come so soon after one another share what is synced for their rows
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
    check_port(options)
    calls = Calls(stop=stop, watch=watch, report=report or (lambda _: None))
    share_one_arena()
    with ExitStack() as held:
        held.enter_context(warnings.catch_warnings())
        # pydicom's warnings quote what a peer sent.
        warnings.filterwarnings("ignore", module=r"pydicom\.")
        store = Store(
            options.store,
            ledger=options.output + LEDGER_SUFFIX,
            identity=options.identify_store(classifier.digest),
            results=list_ways(options),
            mode=options.mode,
        )
        held.callback(store.close)
        node = _Node(classifier, options, store, calls)
        held.enter_context(node.rows.opened())
        node.recover()
        held.callback(node.sender.stop)
        receiver = Receiver(options, store, arrived=node.offer, report=node.report, faults=node.rows.faults)
        receiver.start()
        held.callback(receiver.stop)
        node.sender.start()
        node.rows.heartbeat.start()
        if started is not None:
            started(receiver.port)
        while not stop():
            node.work()
        return node.rows.tally


@dataclass
class _Node:
    classifier: Classifier
    options: NodeOptions
    store: Store
    calls: Calls
    rows: GrowingRows = field(init=False)
    sender: Sender = field(init=False)

    def __post_init__(self) -> None:
        # The objects that have no row yet, and when they came (in seconds).
        self._arrived: dict[str, float] = {}
        self._scoring: dict[str, float] = {}
        # Those that could not be read at the last try, and when the next is.
        self._postponed: dict[str, float] = {}
        self._delay, self._next_try = 0.0, 0.0
        self._unread: dict[str, str] = {}  # at this try, and why
        self._unread_first = ""  # of those that have not been read since
        self._gone: set[str] = set()  # at this try: somebody removed them from the store
        self._news = threading.Condition()
        self._looked: str | None = None
        self.rows = GrowingRows(
            self.classifier,
            self.options,
            self.calls,
            read=read_stored,
            identity=self.options.identify(self.classifier.digest),
            find_state=self._describe,
        )
        self._maker = ResultMaker(
            self.classifier, self.store, report=self.report, max_memory=self.options.max_memory
        )
        self.sender = Sender(
            self.options,
            make=self._maker.make,
            note=self._note_sent,
            is_out=lambda name, what: what in self.store.list_sent(name),
            report=self.report,
            faults=self.rows.faults,
        )

    def report(self, text: str) -> None:
        """Hand a line on."""
        if self.calls.report is not None:
            self.calls.report(text)

    def _describe(self) -> Mapping[str, Any]:
        with self._news:
            came = [*self._arrived.values(), *self._scoring.values(), *self._postponed.values()]
        return {
            "last_look": self._looked,
            "waiting": len(came),
            "oldest_waiting_seconds": round(monotonic() - min(came), 1) if came else None,
            "results_waiting": self.sender.waiting,
        }

    def offer(self, name: str) -> None:
        """Note that a file is in the store; called from the associations' threads."""
        with self._news:
            self._arrived.setdefault(name, monotonic())
            self._news.notify()

    def recover(self) -> None:
        """Take up what an earlier run left: objects without a row, rows without results, files that stay."""
        found = self.store.survey
        if found.left and self.options.retain != "keep":
            self._end(self.store.list_left())
        if found.missing and (missing := self.store.list_missing()):
            self.report(
                f"{len(missing):,} objects left the store before they were done, the first is {missing[0]}: "
                "each is taken up when it is sent again"
            )
        if found.waiting:
            self._take_up()

    def _take_up(self) -> None:
        """Offer the objects in the store that are not done; of those with rows, no list is held in memory."""
        arrived = []
        with closing(DiskQueue(os.path.dirname(os.path.abspath(self.options.output)))) as rated:
            for name in self.store.list_waiting():
                if self.rows.journal.find_score(key_name(name)) is None:
                    arrived.append(name)
                else:
                    rated.put(name)
            while rated:
                names: list[str] = []
                while rated and len(names) < _MOST:
                    names.append(rated.first)
                    rated.drop()
                self._pass_on({name: bool(self.rows.journal.find_score(key_name(name))) for name in names})
        for name in sorted(arrived):
            self.offer(name)

    def work(self) -> None:
        """Wait a moment for objects, and score those that came."""
        with self._news:
            if self._postponed and monotonic() >= self._next_try:
                self._arrived, self._postponed = self._postponed | self._arrived, {}
            if not self._arrived:
                self._news.wait(_WAIT)
            if self._arrived:
                self._news.wait_for(lambda: len(self._arrived) >= _MOST, _GATHER)
            came = list(self._arrived.items())[:_MOST]
            scores = {name: self.rows.journal.find_score(key_name(name)) for name, _ in came}
            self._scoring = {name: since for name, since in came if scores[name] is None}
            for name, _ in came:
                del self._arrived[name]
            names = list(self._scoring)
        # The files of some had left the store before their results were out.
        self._pass_on({name: has_score for name, has_score in scores.items() if has_score is not None})
        self._looked = format_now()
        self.rows.heartbeat.beat()
        if names:
            self._note_received()
            self._score(names)
        else:
            self.rows.rest()

    def _note_received(self) -> None:
        self._try_ledger(self.store.note_received)

    def _hold(self, name: str) -> None:
        self._try_ledger(lambda: self.store.hold(name))

    def _try_ledger(self, note: Callable[[], None]) -> None:
        try:
            note()
        except OSError as error:
            text = f"the ledger cannot be written: {error.strerror or error}; what came is noted later"
            self.rows.faults.say("ledger", text)
        else:
            self.rows.faults.say("ledger", "")

    def _score(self, names: list[str]) -> None:
        entries = [Entry(str(Path(self.options.store) / name)) for name in names]
        self._unread, self._gone = {}, set()
        for chunk in self.rows.score(entries):
            self._finish(chunk)
        with self._news:
            self._postponed |= {name: self._scoring[name] for name in self._unread if name in self._scoring}
            self._scoring = {}
        for name in sorted(self._gone):
            self.report(f"{name} left the store before it had a row: it gets one when it is sent again")
        self._put_off()

    def _put_off(self) -> None:
        """Say what could not be read, and when it is tried again."""
        least, most = self.options.retry_seconds
        if self._unread:
            self._delay = min(most, max(least, 2 * self._delay))
            self._next_try = monotonic() + self._delay
            name, reason = next(iter(self._unread.items()))
            self._unread_first = self._unread_first or name  # another name would be another line each time
            what = f"objects in the store cannot be read, {self._unread_first} first"
            self.rows.faults.say("read", f"{what}: {reason}; they stay, and are tried again")
        elif not self._postponed:
            self._delay, self._unread_first = 0.0, ""
            self.rows.faults.say("read", "")

    def _is_read(self, name: str, number: int | None) -> bool:
        """Whether an object could be read; `number`: that of the system's error, if there was one."""
        if number is None:
            return True
        try:
            is_gone = self.store.is_gone(name)
        except OSError as error:
            self._unread[name] = error.strerror or str(error)
            return False
        if is_gone:
            self._gone.add(name)
        else:  # or there again: its disk may have been away for a moment
            self._unread[name] = os.strerror(number)
        return False

    def _finish(self, chunk: Chunk) -> None:
        """Write the rows of what could be read, and pass it on."""
        read = [
            (entry, prediction)
            for entry, prediction in zip(chunk.entries, chunk.predictions, strict=True)
            if self._is_read(Path(entry.name).name, prediction.errno)
        ]
        if not read:
            return
        entries, predictions = [entry for entry, _ in read], [prediction for _, prediction in read]
        names = [Path(entry.name).name for entry in entries]
        for name, prediction in zip(names, predictions, strict=True):
            if prediction.status == Status.UNREADABLE:  # a fault of ours: the row is no reason to delete it
                self._hold(name)
        kept = Chunk(entries, predictions, chunk.seconds)
        if not self.rows.append(kept, [key_name(name) for name in names]):
            return
        with self._news:
            for name in names:
                self._scoring.pop(name, None)
        statuses = zip(names, predictions, strict=True)
        self._pass_on({name: prediction.status == Status.OK for name, prediction in statuses})

    def _pass_on(self, scores: Mapping[str, bool]) -> None:
        """Queue the results of objects that have rows, or end those of which there is nothing to send.

        `scores`: whether their rows have a score.
        """
        ended = []
        for name, has_score in scores.items():
            if has_score and not self.store.is_all_sent(name):
                self.sender.offer(name, self.store.list_sent(name))
            else:
                ended.append(name)
        self._end(ended)

    def _note_sent(self, name: str, what: str) -> None:
        self.store.note_sent(name, what)
        if self.store.is_all_sent(name):
            self._end([name])

    def _end(self, names: list[str]) -> None:
        """Note that objects are done, and put them away; what fails is left to the next start."""
        try:
            self.store.finish(names)
        except OSError as error:
            self._report_left(names, error)
            return
        for name in names:
            try:
                self.store.put_away(name, retain=self.options.retain)
            except OSError as error:
                self._report_left([name], error)

    def _report_left(self, names: list[str], error: OSError) -> None:
        others = f" and {len(names) - 1:,} others" if len(names) > 1 else ""
        self.report(f"{names[0]}{others} cannot be put away: {error.strerror}; the next start tries again")


def read_stored(entry: Entry) -> bytes:
    """Return the bytes of an object in the store. Raises ImageError."""
    if is_other(Path(entry.name).name):
        raise ImageError(
            Status.MALFORMED,
            "Another object came earlier under the same SOP Instance UID: that one counts. "
            "Ask the sender which of the two is right.",
        )
    return read_local(entry.name)
