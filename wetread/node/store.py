"""The objects that a node received, each in a file of its own, and a ledger of what became of them.

    store/1.2.840.….dcm              one object, whole and on the disk
    store/1.2.840.….other-5f2c….dcm  another one that came later under the same UID
    scores.csv.node                  {"received":{"1.2.840.…":"5f2c…"}}, {"sent":…}, {"done":…}

A file's name is its SOP Instance UID: no name or number of a patient stands in it. `store/.wetread-store`
tells the store from the empty folder that is left of it where its disk is not mounted; the ledger knows that
it was there.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wetread.errors import OutputError
from wetread.node.known_objects import DONE, HELD, OTHER, KnownObjects
from wetread.node.store_marker import MARKER, StoreMarker
from wetread.runtime.files.atomic import sync_folder, write_file
from wetread.runtime.files.line_log import BusyLogError, DamagedLogError, LineLog
from wetread.runtime.files.moving import move_aside
from wetread.runtime.watch.growing_output import OWNER_ONLY

LEDGER_SUFFIX = ".node"
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_SUFFIX = ".dcm"
_VERSION = 1
Buffer = bytes | memoryview
_PART = 4096  # names that are looked up, or noted in one line, at a time


class Received(Enum):
    """What an object is to the store."""

    NEW = "new"
    SAME = "the same again"
    OTHER = "another one of the same UID"


@dataclass(frozen=True)
class Survey:
    """How many objects a start finds: files not done, files done that were not held, and not done without."""

    waiting: int = 0
    left: int = 0
    missing: int = 0


class Store:
    """The objects of one node, and its ledger. New files get the permissions `mode`.

    `results`: the names of each object's results, as `note_sent` is told. `survey`: what the start found.
    Raises OutputError where folder or ledger cannot be used.
    """

    def __init__(
        self,
        folder: str,
        *,
        ledger: str,
        identity: Mapping[str, Any],
        results: Sequence[str] = (),
        mode: int = OWNER_ONLY,
    ) -> None:
        self.folder = Path(folder)
        self._marker = StoreMarker(self.folder)
        self._identity = dict(identity)
        self._path, self._mode = ledger, mode
        self._lock = threading.Condition()
        self._writing: set[str] = set()
        # On the disk, and not in the ledger yet; a start that finds their files notes them.
        self._unnoted: dict[str, str] = {}
        self._known = KnownObjects(results)
        self._is_marked = False  # by the ledger: the folder once had its marker
        self.survey = Survey()
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._log = LineLog(ledger, mode=mode)
        except BusyLogError as error:
            raise OutputError(
                f"Another node writes {ledger!r}. Stop that one, or choose another output."
            ) from error
        except OSError as error:
            raise OutputError(
                f"{ledger!r} or the store cannot be written: {error.strerror}. "
                "Choose another output or store."
            ) from error
        self._recover()

    def close(self) -> None:
        """Let go of the ledger."""
        with suppress(OSError):  # the next start finds the files of what could not be noted
            self.note_received()
        self._let_go()

    def _let_go(self) -> None:
        self._marker.close()
        self._log.close()

    def _recover(self) -> None:
        try:
            self._read_all()
        except DamagedLogError as error:
            self._let_go()
            raise OutputError(
                f"Line {error.number} of {self._path!r} is damaged: what was received cannot be told. "
                "Restore the file from a copy, or choose another output and store."
            ) from error
        except OutputError:
            self._let_go()
            raise
        except OSError as error:
            self._let_go()
            where = f" ({error.filename!r})" if error.filename else ""
            raise OutputError(
                f"{self._path!r} or the store {str(self.folder)!r} cannot be used: {error.strerror}{where}. "
                "Make room, or see to their permissions."
            ) from error

    def _read_all(self) -> None:
        self._log.read(self._take_in)
        if self._log.is_empty:
            self._log.append({"version": _VERSION, "identity": self._identity})
        self._mark(is_empty=not any(True for _ in self._list_files()))
        self._marker.take()
        self._look()

    def _look(self) -> None:
        """Look at all files once: count them, and note those that were named and not noted before a kill."""
        waiting = left = present = 0
        unknown: list[str] = []
        for names in _group(self._list_files()):
            states, is_known, found = self._known.find_states(names)
            is_done = states & DONE != 0
            waiting += int(np.count_nonzero(~is_done))
            left += int(np.count_nonzero(is_done & (states & HELD == 0)))
            present += found
            unknown += [names[number] for number in np.flatnonzero(~is_known)]
        unknown = [name for name in unknown if _UID.fullmatch(name.removesuffix(_SUFFIX))]
        self.survey = Survey(waiting=waiting, left=left, missing=self._known.open - present)
        for number, name in enumerate(sorted(unknown), 1):
            try:
                digest = _digest(self.read(name))
            except FileNotFoundError:
                continue  # removed a moment ago, or a link that leads nowhere: nothing was received
            self._known.learn({name: digest})
            self._unnoted[name.removesuffix(_SUFFIX)] = digest.hex()
            if number % _PART == 0:
                self.note_received()
        self.note_received()

    def _mark(self, *, is_empty: bool) -> None:
        """See that the folder is the store itself. Raises OutputError where it seems to be what it hides."""
        if not self._marker.exists:
            if is_empty and (self._known.open or self._is_marked):
                raise OutputError(
                    f"The store {str(self.folder)!r} is empty, and by {self._path!r} it was in use, and "
                    f"{self._known.open:,} objects in it are not done. Mount its disk. If it was emptied on "
                    f"purpose, create {MARKER} in it."
                )
            self._marker.write(mode=self._mode)
        if not self._is_marked:
            self._note({"marked": True})

    def _list_files(self) -> Iterator[str]:
        """Yield the names of the objects' files, in no order, without holding them in memory."""
        with os.scandir(self.folder) as found:
            for file in found:
                name = file.name
                if name.endswith(_SUFFIX) and name[0] != ".":
                    yield name

    def _take_in(self, line: Mapping[str, Any], is_first: bool) -> None:
        if ("identity" in line) != is_first:
            raise ValueError("the identity stands in the first line alone")
        if is_first and line["identity"] != self._identity:
            raise OutputError(
                f"{self._path!r} is of another store or model: {line['identity']}. Choose another output."
            )
        # One name in a line is how it was written before many stood in one.
        if "done" in line:
            done = line["done"]
            self._known.add_state(done if isinstance(done, list) else [done], DONE)
        elif "sent" in line:
            self._known.add_sent(line["sent"], line["what"])
        elif "received" in line or "uid" in line:
            received = line.get("received") or {line["uid"]: line["digest"]}
            self._known.learn({uid + _SUFFIX: bytes.fromhex(each) for uid, each in received.items()})
        elif "held" in line:
            self._known.add_state([line["held"]], HELD)
        elif "marked" in line:
            self._is_marked = True

    def _note(self, line: Mapping[str, Any]) -> None:
        self.note_received()
        self._log.append(line)
        self._take_in(line, False)

    def note_received(self) -> None:
        """Note the objects that came since the last call, in one line of the ledger. Raises OSError.

        Their files are on the disk: it need not happen before a sender is answered.
        """
        with self._lock:
            if self._unnoted:
                self._log.append({"received": self._unnoted})
                self._unnoted.clear()

    def keep(self, uid: str, data: Buffer, *, header: bytes = b"") -> tuple[Received, str]:
        """See an object on the disk; return what it is to the store, and the name of its file.

        `header`: the beginning of the file, up to the data set, where `data` is the data set alone.

        Threads may write objects of different UIDs at a time. Raises ValueError for a UID that is none, and
        OSError where the disk is full or fails: then nothing of it counts, and it may be sent again.
        """
        if not _UID.fullmatch(uid) or len(uid) > 64:
            raise ValueError("not a UID")
        digest, first = _digest(data, is_file=not header), uid + _SUFFIX
        with self._alone(uid):
            with self._lock:
                self._marker.check()
                known = self._known.find_digest(first)
                is_second = known is not None and known != digest
                name = f"{uid}{OTHER}{digest.hex()[:16]}{_SUFFIX}" if is_second else first
                # One that is not done, and whose file somebody removed, is taken again.
                done = self._known.find_state(name) & DONE
                if known is not None and (done or (self.folder / name).exists()):
                    return Received.SAME, name
            write_file(self.folder / name, header, data, mode=self._mode)
            if is_second:
                return Received.OTHER, name
            with self._lock:
                if name not in self._known:
                    self._unnoted[uid] = digest.hex()
                self._known.learn({name: digest})
            return Received.NEW, name

    @contextmanager
    def _alone(self, uid: str) -> Iterator[None]:
        """Let one thread at a time write objects of a UID."""
        with self._lock:
            while uid in self._writing:
                self._lock.wait()
            self._writing.add(uid)
        try:
            yield
        finally:
            with self._lock:
                self._writing.discard(uid)
                self._lock.notify_all()

    def list_waiting(self) -> Iterator[str]:
        """Yield the names of the files of which not everything is done, in no order."""
        return self._find_files(lambda states: states & DONE == 0)

    def list_left(self) -> list[str]:
        """Names of files that are done, and should have left but were not moved or deleted before a kill."""
        return list(self._find_files(lambda states: states & (DONE | HELD) == DONE))

    def _find_files(self, choose: Callable[[NDArray[np.uint8]], NDArray[np.bool_]]) -> Iterator[str]:
        for names in _group(self._list_files()):
            states, _, _ = self._known.find_states(names)
            yield from (names[number] for number in np.flatnonzero(choose(states)))

    def read(self, name: str) -> bytes:
        """Return an object's bytes. Raises OSError, FileNotFoundError only if somebody removed its file."""
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            self._marker.check()
            raise

    def is_gone(self, name: str) -> bool:
        """Whether somebody removed an object's file. Raises OSError where the store's disk is not mounted."""
        self._marker.check()
        return not (self.folder / name).exists()

    def list_sent(self, name: str) -> frozenset[str]:
        """Tell which of the results that are asked for are out of an object, as `note_sent` was told."""
        with self._lock:
            return self._known.list_sent(name)

    def is_all_sent(self, name: str) -> bool:
        """Tell whether all results of an object are out that are asked for."""
        with self._lock:
            return self._known.is_all_sent(name)

    def note_sent(self, name: str, what: str) -> None:
        """Note on the disk that a result is out, or was refused for good. Raises OSError."""
        with self._lock:
            self._note({"sent": name, "what": what})

    def hold(self, name: str) -> None:
        """Let a file stay, whatever `finish` is told: nobody has read it.

        Raises OSError if that cannot be noted; it holds until the node stops.
        """
        with self._lock:
            self._known.add_state([name], HELD)
            self._note({"held": name})

    def finish(self, names: Sequence[str]) -> None:
        """Note that everything of objects is done, in one line. Raises OSError."""
        with self._lock:
            if open_names := [name for name in names if not self._known.find_state(name) & DONE]:
                self._note({"done": open_names})

    def put_away(self, name: str, *, retain: str) -> None:
        """Keep, delete or move the file of an object that is done, unless it is held. Raises OSError."""
        with self._lock:
            if retain == "keep" or self._known.find_state(name) & HELD:
                return
            place = self.folder / name
            if retain != "delete":
                if place.exists():
                    move_aside(str(place), root=str(self.folder), target=retain)
                return
            with suppress(FileNotFoundError):
                place.unlink()
                sync_folder(str(place))

    def list_missing(self) -> list[str]:
        """Names of objects that are not done, and whose files somebody removed. Reads the whole ledger."""
        found: set[str] = set()

        def take(line: Mapping[str, Any], _: bool) -> None:
            names = [uid + _SUFFIX for uid in (*line.get("received", ()), *filter(None, [line.get("uid")]))]
            found.update(name for name in names if not self._known.find_state(name) & DONE)

        with self._lock:
            self._log.read(take)
        return sorted(name for name in found if not (self.folder / name).exists())


def _group(names: Iterator[str]) -> Iterator[list[str]]:
    """Yield some names at a time."""
    while part := list(islice(names, _PART)):
        yield part


def key_name(name: str) -> str:
    """16 hex digits by which the rows' journal knows an object, wherever its file is."""
    return hashlib.blake2b(os.fsencode(name), digest_size=8).hexdigest()


def _digest(data: Buffer, *, is_file: bool = True) -> bytes:
    """A digest of an object without its file's meta information, which says who wrote the file."""
    start = 0
    if is_file and data[128:132] == b"DICM" and data[132:140] == b"\x02\0\0\0UL\x04\0":
        start = 144 + int.from_bytes(data[140:144], "little")
    return hashlib.blake2b(memoryview(data)[start:], digest_size=16).digest()
