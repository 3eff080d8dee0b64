"""The results' way to the archives: each is made when it is its turn, and tried again until it is out.

What is to be sent follows from the store and its ledger, so a kill loses nothing, and what waits is in a file
without a name, so that it takes no memory. An archive that is away is asked again after 1, 2, 4, … up to 300
seconds; an object that an archive refuses for good is noted, and does not hold the others.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from wetread.errors import WetreadError, make_fault
from wetread.node.bounded_connection import BoundedConnection
from wetread.node.options import NodeOptions, Peer
from wetread.node.pynetdicom_entity import import_pynetdicom, make_entity
from wetread.node.receiver import make_tls_context
from wetread.runtime.files.disk_queue import DiskQueue
from wetread.runtime.images.dicom.file_header import EXPLICIT_LITTLE
from wetread.runtime.watch.faults import Faults, Report

if TYPE_CHECKING:
    from pydicom import Dataset
    from pynetdicom.events import Event

_CLASSES = {"sr": "1.2.840.10008.5.1.4.1.1.88.33", "sc": "1.2.840.10008.5.1.4.1.1.7"}
# Statuses of PS3.4, table B.2-1, and PS3.7, annex C, after which sending the same object again is of no use.
_REFUSED = frozenset({0x0117, 0x0122, 0x0124, 0x0211, 0x0212})
_BATCH = 100
_SECONDS = 30.0  # that an archive may be silent
_BROKEN = "it broke off"

Make = Callable[[str, str], "Dataset | None"]
Note = Callable[[str, str], None]
IsOut = Callable[[str, str], bool]


class GoneError(Exception):
    """The object of a result left the store."""


@dataclass(frozen=True)
class Parcel:
    """One result on its way: the name of the object's file, and the kind of result."""

    name: str
    kind: str

    @classmethod
    def read(cls, line: str) -> Parcel:
        """Read what `str` writes."""
        kind, _, name = line.partition(" ")
        return cls(name, kind)

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass
class Route:
    """The parcels of one archive, as lines, and when it is asked next."""

    peer: Peer
    waiting: DiskQueue
    delay: float = 0.0
    next_try: float = 0.0


class Sender:
    """Sends results from a thread of its own.

    `make(name, kind)` makes a result, or returns None where there is none to send, and raises GoneError where
    the object left the store: there will be one when it is sent again.
    `note(name, what)` is called when one is out, `is_out(name, what)` tells of which that was done, and
    before. `clock`: seconds, for tests.
    """

    def __init__(
        self,
        options: NodeOptions,
        *,
        make: Make,
        note: Note,
        is_out: IsOut,
        report: Report,
        faults: Faults,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._options, self._make, self._note, self._report = options, make, note, report
        self._is_out = is_out
        self._faults, self._clock = faults, clock
        folder = os.path.dirname(os.path.abspath(options.output))
        self._routes = [Route(peer, DiskQueue(folder)) for peer in dict.fromkeys(options.archives)]
        self._lock = threading.Condition()
        self._stopping = False
        self._unnoted: deque[tuple[str, str]] = deque()  # out, and not in the ledger yet
        self._thread = threading.Thread(target=self._run, name="wetread-send")

    def offer(self, name: str, sent: frozenset[str]) -> None:
        """Queue the results of an object that are not out yet."""
        with self._lock:
            for route in self._routes:
                for kind in self._options.results:
                    if name_way(kind, route.peer) not in sent:
                        route.waiting.put(str(Parcel(name, kind)))
            self._lock.notify_all()

    @property
    def waiting(self) -> int:
        """How many results are not out yet."""
        return sum(len(route.waiting) for route in self._routes)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the result that is on its way; the others wait for the next start."""
        with self._lock:
            self._stopping = True
            self._lock.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        for route in self._routes:
            route.waiting.close()

    def _run(self) -> None:
        while not self._stopping:
            self.visit_due()
            with self._lock:
                if not self._stopping:
                    self._lock.wait(0.2)

    def visit_due(self) -> None:
        """Visit each archive for which something waits, if it is time to ask it again."""
        self._note_all()
        for route in self._routes:
            if route.waiting and self._clock() >= route.next_try and self._may_send():
                self.visit(route)
        self._note_all()

    def _may_send(self) -> bool:
        """Tell whether to go on; of what cannot be noted there is little, as a kill has it sent again."""
        return not self._stopping and len(self._unnoted) < _BATCH

    def visit(self, route: Route) -> None:
        """Open one association with an archive and send what waits; put off the next try where that fails."""
        try:
            association = self._associate(route.peer)
            try:
                trouble = self._send_all(association, route)
            finally:
                association.release()
        except Exception as error:  # noqa: BLE001 - the others' results, and the next try, must not end by it
            trouble = _explain(error)
        if trouble or not self._stopping:  # a stop says nothing about the archive
            self._settle(route, trouble)

    def _settle(self, route: Route, trouble: str) -> None:
        least, most = self._options.retry_seconds
        route.delay = min(most, max(least, 2 * route.delay)) if trouble else 0.0
        route.next_try = self._clock() + route.delay
        where = f"{route.peer.title}@{route.peer.host}:{route.peer.port}"
        text = f"{where}: {trouble}; results wait and are sent again" if trouble else ""
        self._faults.say(f"archive {where}", text)

    def _associate(self, peer: Peer) -> Any:
        entity = make_entity(self._options.ae_title)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _SECONDS
        entity.connection_timeout = 10.0
        for kind in self._options.results:
            entity.add_requested_context(_CLASSES[kind], EXPLICIT_LITTLE)
        tls = None
        if self._options.tls:
            tls = (make_tls_context(self._options.tls, server=False), peer.host)
        handlers = [(import_pynetdicom().evt.EVT_CONN_OPEN, _bound)]
        association = entity.associate(
            peer.host, peer.port, ae_title=peer.title, tls_args=tls, evt_handlers=handlers
        )
        if not association.is_established:
            raise ConnectionError(
                "it refuses the association" if association.is_rejected else "it cannot be reached"
            )
        return association

    def _send_all(self, association: Any, route: Route) -> str:
        """Send what waits; return what stops it, or nothing."""
        for _ in range(min(len(route.waiting), _BATCH)):
            if not self._may_send():
                return ""
            with self._lock:
                line = route.waiting.first
            trouble = self._try(association, route.peer, Parcel.read(line))
            with self._lock:
                route.waiting.drop()
                if trouble:  # behind the others: one that an archive has no room for must not hold them
                    route.waiting.put(line)
            if trouble:
                return trouble
        return ""

    def _try(self, association: Any, peer: Peer, parcel: Parcel) -> str:
        try:
            return self._send(association, peer, parcel)
        except Exception as error:  # noqa: BLE001 - one result must not hold the others
            # pynetdicom raises what it likes where the other side has just left.
            return _explain(error) if association.is_established else _BROKEN

    def _send(self, association: Any, peer: Peer, parcel: Parcel) -> str:
        out = (parcel.name, name_way(parcel.kind, peer))
        if out in self._unnoted or self._is_out(*out):
            return ""  # it waited twice: the object was removed, and sent again
        try:
            made = self._make(parcel.name, parcel.kind)
        except GoneError:
            self._report(
                f"{parcel.name} left the store before its {parcel.kind!r} was out: "
                "that goes out when the object is sent again"
            )
            return ""
        if made is None:
            self._note_out(parcel, peer)
            return ""
        if not any(context.abstract_syntax == made.SOPClassUID for context in association.accepted_contexts):
            self._report(
                f"{peer.title} takes no results of the kind {parcel.kind!r}: {parcel.name} is left out"
            )
            self._note_out(parcel, peer)
            return ""
        if not association.is_established:  # to make a result takes longer than some archives wait
            return _BROKEN
        status = association.send_c_store(made)
        code = status.get("Status") if status else None
        if code is None:
            return _BROKEN
        if code == 0 or code >> 12 == 0xB:  # success, or a warning: it is filed
            self._note_out(parcel, peer)
            return ""
        if code in _REFUSED or code >> 8 == 0xA9 or code >> 12 == 0xC:
            self._report(f"{peer.title} refuses the {parcel.kind!r} of {parcel.name} for good (0x{code:04X})")
            self._note_out(parcel, peer)
            return ""
        return f"it takes no result now (0x{code:04X})"

    def _note_out(self, parcel: Parcel, peer: Peer) -> None:
        self._unnoted.append((parcel.name, name_way(parcel.kind, peer)))
        self._note_all()

    def _note_all(self) -> None:
        """Note what is out; what cannot be noted now is not sent again, but noted later."""
        trouble = ""
        try:
            while self._unnoted:
                self._note(*self._unnoted[0])
                self._unnoted.popleft()
        except Exception as error:  # noqa: BLE001 - the thread goes on, and tries again
            trouble = f"the ledger cannot be written: {_explain(error)}; results that are out are noted later"
        self._faults.say("results in the ledger", trouble)


def _bound(event: Event) -> None:
    """Let an archive that falls silent in the middle of an answer end its association alone."""
    BoundedConnection(event.assoc.dul.socket, seconds=_SECONDS)


def _explain(error: Exception) -> str:
    """Say why something failed; never ''."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, WetreadError | OSError | MemoryError):
        return str(error) or type(error).__name__
    return str(make_fault(error))


def name_way(kind: str, peer: Peer) -> str:
    """The word in the ledger for a result of a kind at an archive."""
    return f"{kind} {peer.title}@{peer.host}:{peer.port}"


def list_ways(options: NodeOptions) -> list[str]:
    """The words in the ledger for all results of an object."""
    return [name_way(kind, peer) for peer in options.archives for kind in options.results]
