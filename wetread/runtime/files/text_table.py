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

_KEY = 16
_LEAST = 1024  # slots, a power of 2
_USED = 1


class TextTable:
    """A hash table in one array of bytes, open addressing with linear probing; values of `width` bytes."""

    def __init__(self, width: int) -> None:
        self._width, self._slot = width, 1 + _KEY + width
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
        at = self._find(_digest(text))
        return self._value(at) if self._slots[at * self._slot] else None

    def put(self, text: str, value: bytes) -> None:
        """Set the value of a text, `width` bytes."""
        if len(value) != self._width:
            raise ValueError(f"a value of {self._width} bytes is wanted, not of {len(value)}")
        key = _digest(text)
        at = self._find(key)
        if not self._slots[at * self._slot]:
            if 3 * self._count >= 2 * self._mask:
                self._grow()
                at = self._find(key)
            self._count += 1
        self._fill(at, key + value)

    def discard(self, text: str) -> None:
        """Forget a text, if it is known."""
        at = self._find(_digest(text))
        if not self._slots[at * self._slot]:
            return
        self._count -= 1
        # What follows without a gap moves up where its own place is not behind the gap (Knuth 6.4, R).
        gap = at
        while True:
            at = (at + 1) & self._mask
            if not self._slots[at * self._slot]:
                break
            home = self._home(self._key(at))
            if (at - home) & self._mask >= (at - gap) & self._mask:
                self._fill(gap, self._key(at) + self._value(at))
                gap = at
        self._slots[gap * self._slot] = 0

    def _find(self, key: bytes) -> int:
        """The slot of a key, or the empty one where it belongs."""
        at = self._home(key)
        while self._slots[at * self._slot] and self._key(at) != key:
            at = (at + 1) & self._mask
        return at

    def _home(self, key: bytes) -> int:
        return int.from_bytes(key[:8], "little") & self._mask

    def _key(self, at: int) -> bytes:
        start = at * self._slot + 1
        return bytes(self._slots[start : start + _KEY])

    def _value(self, at: int) -> bytes:
        start = at * self._slot + 1 + _KEY
        return bytes(self._slots[start : start + self._width])

    def _fill(self, at: int, content: bytes) -> None:
        start = at * self._slot
        self._slots[start : start + self._slot] = bytes([_USED]) + content

    def _grow(self) -> None:
        before, count, slot = self._slots, self._mask + 1, self._slot
        self._mask = 2 * count - 1
        self._slots = bytearray(2 * count * slot)
        for start in range(0, count * slot, slot):
            if before[start]:
                content = bytes(before[start + 1 : start + slot])
                self._fill(self._find(content[:_KEY]), content)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_KEY).digest()
