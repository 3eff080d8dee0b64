"""The objects that a node received, each in a file of its own, and a ledger of what became of them.

    store/1.2.840.….dcm              one object, whole and on the disk
    store/1.2.840.….other-5f2c….dcm  another one that came later under the same UID
    scores.csv.node                  {"received":{"1.2.840.…":"5f2c…"}}, {"sent":…}, {"done":…}

A file's name is its SOP Instance UID: no name or number of a patient stands in it. `store/.wetread-store`
tells the store from the empty folder that is left of it where its disk is not mounted; the ledger knows that
it was there.

In memory an object that is done takes 36 bytes of a table that is between a third and two thirds full.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import Any

from wetread.errors import OutputError
from wetread.runtime.files.atomic import sync_folder, write_file
from wetread.runtime.files.line_log import BusyLogError, DamagedLogError, LineLog
from wetread.runtime.files.moving import move_aside
from wetread.runtime.files.text_table import TextTable
from wetread.runtime.watch.growing_output import OWNER_ONLY

LEDGER_SUFFIX = ".node"
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_SUFFIX, _OTHER = ".dcm", ".other-"
_VERSION = 1
MARKER = ".wetread-store"
_DIGEST, _DONE, _HELD = 16, 1, 2
_UNKNOWN = bytes(_DIGEST)  # of an object that came second under its UID: its name says its digest


class Received(Enum):
    """What an object is to the store."""

    NEW = "new"
    SAME = "the same again"
    OTHER = "another one of the same UID"


class Store:
    """The objects of one node, and its ledger. New files get the permissions `mode`.

    Raises OutputError where either cannot be used.
    """

    def __init__(
        self, folder: str, *, ledger: str, identity: Mapping[str, Any], mode: int = OWNER_ONLY
    ) -> None:
        self.folder = Path(folder)
        self._identity = dict(identity)
        self._path, self._mode = ledger, mode
        self._lock = threading.Condition()
        self._writing: set[str] = set()
        # On the disk, and not in the ledger yet; a start that finds their files notes them.
        self._unnoted: dict[str, str] = {}
        # By file name: the digest, and whether it is done and held. And the names of those that are not done.
        self._known = TextTable(_DIGEST + 1)
        self._open: set[str] = set()
        self._is_marked = False  # by the ledger: the folder once had its marker
        self._sent: dict[str, set[str]] = {}
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
        self._log.close()

    def _recover(self) -> None:
        try:
            self._read_all()
        except DamagedLogError as error:
            self._log.close()
            raise OutputError(
                f"Line {error.number} of {self._path!r} is damaged: what was received cannot be told. "
                "Restore the file from a copy, or choose another output and store."
            ) from error
        except OutputError:
            self._log.close()
            raise
        except OSError as error:
            self._log.close()
            raise OutputError(
                f"{self._path!r} or the store {str(self.folder)!r} cannot be used: {error.strerror}. "
                "Make room, or see to their permissions."
            ) from error

    def _read_all(self) -> None:
        self._log.read(self._take_in)
        if self._log.is_empty:
            self._log.append({"version": _VERSION, "identity": self._identity})
        names = self._list_files()
        self._mark(is_empty=not names)
        for name in names:
            uid = name.removesuffix(_SUFFIX)
            if _UID.fullmatch(uid) and name not in self._known:  # named, and killed before it was noted
                digest = _digest(self.read(name))
                self._learn(name, digest)
                self._unnoted[uid] = digest.hex()
        self.note_received()

    def _mark(self, *, is_empty: bool) -> None:
        """See that the folder is the store itself. Raises OutputError where it seems to be what it hides."""
        if not (self.folder / MARKER).exists():
            if is_empty and (self._open or self._is_marked):
                raise OutputError(
                    f"The store {str(self.folder)!r} is empty, and by {self._path!r} it was in use, and "
                    f"{len(self._open):,} objects in it are not done. Mount its disk. If it was emptied on "
                    f"purpose, create {MARKER} in it."
                )
            write_file(self.folder / MARKER, b"", mode=self._mode)
        if not self._is_marked:
            self._note({"marked": True})

    def check_present(self) -> None:
        """Raise OSError where the folder is not the store, but what is left where its disk is not mounted."""
        if not (self.folder / MARKER).exists():
            raise OSError(
                errno.ENODEV,
                f"the store is not there, {MARKER} is missing in it: mount its disk, or start the node again",
            )

    def _list_files(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob(f"*{_SUFFIX}") if path.name[0] != ".")

    def _learn(self, name: str, digest: bytes) -> None:
        """Take down that an object came; it is not done."""
        state = self._find_state(name)
        if not state & _DONE:
            self._open.add(name)
        self._known.put(name, digest + bytes([state]))

    def _find_state(self, name: str) -> int:
        found = self._known.get(name)
        return 0 if found is None else found[_DIGEST]

    def _add_state(self, name: str, state: int) -> None:
        found = self._known.get(name) or _UNKNOWN + b"\0"
        if state == _DONE:
            self._open.discard(name)
        self._known.put(name, found[:_DIGEST] + bytes([found[_DIGEST] | state]))

    def _take_in(self, line: Mapping[str, Any], is_first: bool) -> None:
        if ("identity" in line) != is_first:
            raise ValueError("the identity stands in the first line alone")
        if is_first and line["identity"] != self._identity:
            raise OutputError(
                f"{self._path!r} is of another store or model: {line['identity']}. Choose another output."
            )
        if "uid" in line:  # as it was written before many stood in one line
            self._learn(line["uid"] + _SUFFIX, bytes.fromhex(line["digest"]))
        for uid, digest in line.get("received", {}).items():
            self._learn(uid + _SUFFIX, bytes.fromhex(digest))
        if "marked" in line:
            self._is_marked = True
        if "held" in line:
            self._add_state(line["held"], _HELD)
        if "sent" in line:
            self._sent.setdefault(line["sent"], set()).add(line["what"])
        if "done" in line:
            self._add_state(line["done"], _DONE)
            self._sent.pop(line["done"], None)

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

    def keep(self, uid: str, data: bytes) -> tuple[Received, str]:
        """See an object on the disk; return what it is to the store, and the name of its file.

        Threads may write objects of different UIDs at a time. Raises ValueError for a UID that is none, and
        OSError where the disk is full or fails: then nothing of it counts, and it may be sent again.
        """
        if not _UID.fullmatch(uid) or len(uid) > 64:
            raise ValueError("not a UID")
        digest, first = _digest(data), uid + _SUFFIX
        with self._alone(uid):
            with self._lock:
                self.check_present()
                known = self._known.get(first)
                is_other = known is not None and known[:_DIGEST] != digest
                name = f"{uid}{_OTHER}{digest.hex()[:16]}{_SUFFIX}" if is_other else first
                # One that is not done, and whose file somebody removed, is taken again.
                done = self._find_state(name) & _DONE
                if known is not None and (done or (self.folder / name).exists()):
                    return Received.SAME, name
            write_file(self.folder / name, data, mode=self._mode)
            if is_other:
                return Received.OTHER, name
            with self._lock:
                if name not in self._known:
                    self._unnoted[uid] = digest.hex()
                self._learn(name, digest)
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

    def list_waiting(self) -> list[str]:
        """Names of the files of which not everything is done, in order."""
        with self._lock:
            return [name for name in self._list_files() if not self._find_state(name) & _DONE]

    def read(self, name: str) -> bytes:
        """Return an object's bytes. Raises OSError, FileNotFoundError only if somebody removed its file."""
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            self.check_present()
            raise

    def list_sent(self, name: str) -> frozenset[str]:
        """Tell which results of an object are out, as `note_sent` was told."""
        with self._lock:
            return frozenset(self._sent.get(name, ()))

    def note_sent(self, name: str, what: str) -> None:
        """Note on the disk that a result is out, or was refused for good. Raises OSError."""
        with self._lock:
            self._note({"sent": name, "what": what})

    def hold(self, name: str) -> None:
        """Let a file stay, whatever `finish` is told: nobody has read it.

        Raises OSError if that cannot be noted; it holds until the node stops.
        """
        with self._lock:
            self._add_state(name, _HELD)
            self._note({"held": name})

    def finish(self, name: str, *, retain: str) -> None:
        """Note that everything of an object is done, then keep it, delete it or move it. Raises OSError."""
        with self._lock:
            state = self._find_state(name)
            if not state & _DONE:
                self._note({"done": name})
            if state & _HELD:
                return
            if retain == "delete":
                with suppress(FileNotFoundError):
                    (self.folder / name).unlink()
                    sync_folder(str(self.folder / name))
            elif retain != "keep" and (self.folder / name).exists():
                move_aside(str(self.folder / name), root=str(self.folder), target=retain)

    def list_missing(self) -> list[str]:
        """Names of objects that are not done, and whose files somebody removed."""
        with self._lock:
            return sorted(self._open.difference(self._list_files()))

    def list_left(self) -> list[str]:
        """Names of files that are done, and should have left but were not moved or deleted before a kill."""
        with self._lock:
            return [name for name in self._list_files() if self._find_state(name) & (_DONE | _HELD) == _DONE]


def is_other(name: str) -> bool:
    """Tell whether a file holds a second object of a UID."""
    return _OTHER in name


def key_name(name: str) -> str:
    """16 hex digits by which the rows' journal knows an object, wherever its file is."""
    return hashlib.blake2b(os.fsencode(name), digest_size=8).hexdigest()


def _digest(data: bytes) -> bytes:
    """A digest of an object without its file's meta information, which says who wrote the file."""
    start = 0
    if data[128:132] == b"DICM" and data[132:140] == b"\x02\0\0\0UL\x04\0":
        start = 144 + int.from_bytes(data[140:144], "little")
    return hashlib.blake2b(data[start:], digest_size=16).digest()
