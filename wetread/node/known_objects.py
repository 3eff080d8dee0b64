"""What a store knows of every object that it ever took, in 34 bytes for each and a table for all.

The table is between a third and two thirds full. Results make it wider, by a byte for each eight of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from wetread.runtime.files.text_table import TextTable

DIGEST = 16  # bytes
OTHER = ".other-"
DONE, HELD = 1, 2
_MANY = 4096
_FEW = 8  # for which no arrays are made


class KnownObjects:
    """By the name of its file: an object's digest, whether it is done and held, and which results are out.

    `results`: their names; what is out of others is not kept. What is taken down is gathered until somebody
    asks: a start takes down hundreds of thousands.
    """

    def __init__(self, results: Sequence[str]) -> None:
        self._results = {what: number for number, what in enumerate(dict.fromkeys(results))}
        # The digest, a byte of states, and a bit for each result.
        self._blank = bytes(DIGEST + 1 + (len(self._results) + 7) // 8)
        self._table = TextTable(len(self._blank))
        self._open = 0
        self._learned: dict[str, bytes] = {}
        self._added: dict[tuple[int, int], list[str]] = {}  # by byte and bit: the names
        self._count = 0

    def learn(self, objects: Mapping[str, bytes]) -> None:
        """Take down that objects came, with their digests; each is as done as it was. Raises ValueError."""
        if any(len(digest) != DIGEST for digest in objects.values()):
            raise ValueError(f"a digest has {DIGEST} bytes")
        self._learned.update(objects)
        self._gather(len(objects))

    def add_state(self, names: Collection[str], state: int) -> None:
        """Take down that objects are DONE or HELD. Raises TypeError."""
        self._add(names, DIGEST, state)

    def add_sent(self, name: str, what: str) -> None:
        """Take down that a result of an object is out. Raises TypeError."""
        number = self._results.get(what)
        if number is not None:
            self._add([name], DIGEST + 1 + number // 8, 1 << number % 8)

    def _add(self, names: Collection[str], place: int, bit: int) -> None:
        "".join(names)  # raises TypeError where one is no text
        self._added.setdefault((place, bit), []).extend(names)
        self._gather(len(names))

    def _gather(self, count: int) -> None:
        self._count += count
        if self._count >= _MANY:
            self._write()

    def _write(self) -> None:
        """Write what was gathered into the table."""
        if not self._count:
            return
        learned, added, self._learned, self._added, self._count = self._learned, self._added, {}, {}, 0
        # A name's digest is what takes time: many come and are done in the same part of the ledger.
        numbers = {name: number for number, name in enumerate(dict.fromkeys(chain(learned, *added.values())))}
        if len(numbers) <= _FEW:
            self._write_few(numbers, learned, added)
            return
        rows = self._table.place_many(numbers)
        values, touched = self._table.values, np.unique(rows)
        self._open -= _count_open(values[touched])
        if learned:
            digests = np.frombuffer(b"".join(learned.values()), np.uint8)
            values[rows[: len(learned)], :DIGEST] = digests.reshape(-1, DIGEST)
        for (place, bit), names in added.items():
            values[rows[[numbers[name] for name in names]], place] |= bit
        self._open += _count_open(values[touched])

    def _write_few(
        self, names: Collection[str], learned: Mapping[str, bytes], added: Mapping[tuple[int, int], list[str]]
    ) -> None:
        """As `_write` does of many, in a tenth of the time: a node asks after each object."""
        for name in names:
            value = bytearray(self._table.get(name) or self._blank)
            self._open -= _is_open(value)
            value[:DIGEST] = learned.get(name, value[:DIGEST])
            for (place, bit), others in added.items():
                if name in others:
                    value[place] |= bit
            self._open += _is_open(value)
            self._table.put(name, bytes(value))

    @property
    def open(self) -> int:
        """How many objects came first under their UIDs, and are not done."""
        self._write()
        return self._open

    def _get(self, name: str) -> bytes | None:
        self._write()
        return self._table.get(name)

    def __contains__(self, name: str) -> bool:
        return self._get(name) is not None

    def find_digest(self, name: str) -> bytes | None:
        """Return an object's digest; None of one that is not known, zeros of one whose name says it."""
        found = self._get(name)
        return None if found is None else found[:DIGEST]

    def find_state(self, name: str) -> int:
        """Return DONE and HELD as far as they are true of an object; 0 of one that is not known."""
        return (self._get(name) or self._blank)[DIGEST]

    def find_states(self, names: Collection[str]) -> tuple[NDArray[np.uint8], NDArray[np.bool_], int]:
        """Return what `find_state` does of many objects (N,), which are known (N,), and how many are open."""
        self._write()
        rows = self._table.find_many(names)
        is_known = rows >= 0
        values = self._table.values[rows[is_known]]
        states = np.zeros(len(rows), np.uint8)
        states[is_known] = values[:, DIGEST]
        return states, is_known, _count_open(values)

    def list_sent(self, name: str) -> frozenset[str]:
        """Tell which results of an object are out."""
        bits = int.from_bytes((self._get(name) or self._blank)[DIGEST + 1 :], "little")
        return frozenset(what for what, number in self._results.items() if bits >> number & 1)

    def is_all_sent(self, name: str) -> bool:
        """Tell whether all results of an object are out."""
        return len(self.list_sent(name)) == len(self._results)


def _is_open(value: bytearray) -> bool:
    return any(value[:DIGEST]) and not value[DIGEST] & DONE


def _count_open(values: NDArray[np.uint8]) -> int:
    """Count the objects that have a digest and are not done."""
    return int(np.count_nonzero(values[:, :DIGEST].any(axis=1) & (values[:, DIGEST] & DONE == 0)))


def is_other(name: str) -> bool:
    """Tell whether a file holds a second object of a UID."""
    return OTHER in name
