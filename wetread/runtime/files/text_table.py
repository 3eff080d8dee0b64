"""What is known of many texts, in few bytes for each: for commands that run for months.

    known = TextTable(1)
    known.put("1.2.840.113", b"\\1")
    known.get("1.2.840.113")        # b"\\1"; None of a text that was never put

The texts themselves are not kept, only 16 bytes of a digest: that two of a million texts have the same one is
one case in 10^26. A slot has 17 bytes and the value's; from a third to two thirds of the slots are in use. So
with values of one byte a text takes 27 to 54 bytes, where a dictionary takes about 170.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

_KEY = 16
_LEAST = 1024  # slots, a power of 2
_USED = b"\1"
_FEW = 16  # for which no arrays are made
_VALUE = 1 + _KEY  # where the value starts in a slot
_PIECE = 1 << 14  # slots that are moved at a time


class TextTable:
    """A hash table in one array of bytes, open addressing with linear probing; values of `width` bytes."""

    def __init__(self, width: int) -> None:
        self._width, self._slot = width, _VALUE + width
        self._count, self._mask = 0, _LEAST - 1
        self._slots = bytearray(_LEAST * self._slot)

    def __len__(self) -> int:
        return self._count

    def __contains__(self, text: str) -> bool:
        return self.get(text) is not None

    @property
    def size(self) -> int:
        """The bytes that it takes."""
        return len(self._slots)

    def get(self, text: str) -> bytes | None:
        """Return the value of a text, or None."""
        start = self._find(_digest(text))
        return bytes(self._slots[start + _VALUE : start + self._slot]) if self._slots[start] else None

    def put(self, text: str, value: bytes) -> None:
        """Set the value of a text, `width` bytes."""
        if len(value) != self._width:
            raise ValueError(f"a value of {self._width} bytes is wanted, not of {len(value)}")
        key = _digest(text)
        start = self._find(key)
        if not self._slots[start]:
            if self._lacks_room(0):
                self._grow()
                start = self._find(key)
            self._count += 1
        self._slots[start : start + self._slot] = _USED + key + value

    def put_many(self, texts: Collection[str], value: bytes) -> None:
        """Set the value of many texts, `width` bytes."""
        if len(texts) < _FEW:
            for text in texts:
                self.put(text, value)
            return
        if len(value) != self._width:
            raise ValueError(f"a value of {self._width} bytes is wanted, not of {len(value)}")
        rows = self.place_many(texts)  # before `values`: the table may grow
        self.values[rows] = np.frombuffer(value, np.uint8)

    @property
    def values(self) -> NDArray[np.uint8]:
        """The values of all rows, (R, width), into which `place_many` and `find_many` point."""
        return self._table[:, _VALUE:]

    @property
    def _table(self) -> NDArray[np.uint8]:
        return np.frombuffer(self._slots, np.uint8).reshape(-1, self._slot)

    def find_many(self, texts: Collection[str]) -> NDArray[np.int64]:
        """Return the rows of many texts, (N,); -1 of one that is not known."""
        return self._find_many(_digest_many(texts), add=False)

    def place_many(self, texts: Collection[str]) -> NDArray[np.int64]:
        """Return the rows of many texts, (N,); a new one has a value of zeros."""
        keys = _digest_many(texts)
        if self._lacks_room(len(keys)):  # perhaps: some may be known
            new = int(np.count_nonzero(self._find_many(keys, add=False) < 0))
            while self._lacks_room(new):
                self._grow()
        return self._find_many(keys, add=True)

    def _lacks_room(self, new: int) -> bool:
        return 3 * (self._count + new) >= 2 * self._mask

    def _find_many(self, keys: NDArray[np.uint8], *, add: bool) -> NDArray[np.int64]:
        """Probe for all keys (N, 16) at a time; `add` those that come to an empty slot."""
        table, found = self._table, np.full(len(keys), -1)
        places, left, numbers = self._find_homes(keys), np.arange(len(keys)), keys.view("<u8")
        while len(left):
            at = places[left]
            is_empty = table[at, 0] == 0
            if add and is_empty.any():
                new, of = np.unique(at[is_empty], return_index=True)  # one of several that come to a slot
                table[new, 1:_VALUE] = keys[left[is_empty][of]]
                table[new, 0] = 1
                self._count += len(new)
                is_empty[:] = False
            there, wanted = table[at, 1:_VALUE].view("<u8"), numbers[left]
            is_same = ~is_empty & (there[:, 0] == wanted[:, 0]) & (there[:, 1] == wanted[:, 1])
            found[left[is_same]] = at[is_same]
            left = left[~is_empty & ~is_same]
            places[left] = (places[left] + 1) & self._mask
        return found

    def _find_homes(self, keys: NDArray[np.uint8]) -> NDArray[np.int64]:
        numbers = np.ascontiguousarray(keys[:, :8]).view("<u8")[:, 0]
        return (numbers & np.uint64(self._mask)).astype(np.int64)

    def discard(self, text: str) -> None:
        """Forget a text, if it is known."""
        start = self._find(_digest(text))
        if not self._slots[start]:
            return
        self._count -= 1
        # What follows without a gap moves up where its own place is not behind the gap (Knuth 6.4, R).
        gap = at = start // self._slot
        while True:
            at = (at + 1) & self._mask
            content = self._slots[at * self._slot : (at + 1) * self._slot]
            if not content[0]:
                break
            home = int.from_bytes(content[1:9], "little") & self._mask
            if (at - home) & self._mask >= (at - gap) & self._mask:
                self._slots[gap * self._slot : (gap + 1) * self._slot] = content
                gap = at
        self._slots[gap * self._slot] = 0

    def _find(self, key: bytes) -> int:
        """Where the slot of a key starts, or the empty one where it belongs."""
        slots, slot, wanted = self._slots, self._slot, _USED + key
        at = int.from_bytes(key[:8], "little") & self._mask
        start = at * slot
        while slots[start] and not slots.startswith(wanted, start):
            at = (at + 1) & self._mask
            start = at * slot
        return start

    def _grow(self) -> None:
        """Take twice as many slots, and fill them in the order of the places that their texts belong to."""
        before = self._table
        self._mask = 2 * len(before) - 1
        self._slots = bytearray(2 * before.size)
        after = self._table
        used = np.flatnonzero(before[:, 0])
        homes = self._find_homes(before[used, 1:9])
        order = np.argsort(homes, kind="stable")
        used, numbers = used[order], np.arange(len(used))
        places = np.maximum.accumulate(homes[order] - numbers) + numbers
        fitting = int(np.searchsorted(places, self._mask, side="right"))
        for first in range(0, fitting, _PIECE):
            part = slice(first, min(first + _PIECE, fitting))
            after[places[part]] = before[used[part]]
        for content in before[used[fitting:]]:  # past the end: they go on at the beginning
            start = self._find(content[1:_VALUE].tobytes())
            after[start // self._slot] = content


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_KEY).digest()


def _digest_many(texts: Collection[str]) -> NDArray[np.uint8]:
    encoded = "\0".join(texts).encode("utf-8", "surrogatepass").split(b"\0")
    if len(encoded) != len(texts):  # none, or one with a zero in it
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    make = hashlib.blake2b
    digests = b"".join([make(text, digest_size=_KEY).digest() for text in encoded])
    return np.frombuffer(digests, np.uint8).reshape(-1, _KEY)
