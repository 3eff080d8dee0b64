"""Texts that wait, first in, first out, in a file: however many there are, a few hundred are in memory.

    waiting = DiskQueue("/data")
    waiting.put("1.2.840.113.dcm")
    waiting.first                      # "1.2.840.113.dcm"; it stays until `drop`
    waiting.drop()

The file has no name and ends with the process, however that ends: what is in it must follow from what else is
on the disk. A queue that stays short has no file. While the disk is full, what is put stays in memory.
"""

from __future__ import annotations

import errno
import json
import tempfile
from collections import deque
from contextlib import suppress
from typing import BinaryIO, cast

_PAGE = 256  # texts that are written at a time
_PIECE = 1 << 14  # bytes that are read at a time
_ROOM = 1 << 20  # bytes of what has left, above which their room is used again


class DiskQueue:
    """A queue of texts of less than 2,000 characters, whose middle is in a file of `folder`.

    Not for two threads at a time.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._front: deque[str] = deque()
        self._back: deque[str] = deque()
        self._file: BinaryIO | None = None
        self._start, self._end = 0, 0  # of the lines in the file that wait
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, text: str) -> None:
        """Let a text wait behind all others."""
        self._back.append(text)
        self._count += 1
        if len(self._back) % _PAGE == 0:
            with suppress(OSError):  # a full disk: it is tried again with the next page
                self._write_back()

    @property
    def first(self) -> str:
        """The text that has waited longest. Raises IndexError without any, OSError if it cannot be read."""
        if not self._front:
            self._fill_front()
        return self._front[0]

    def drop(self) -> None:
        """Let the first text go. Raises as `first` does."""
        if not self._front:
            self._fill_front()
        self._front.popleft()
        self._count -= 1

    def close(self) -> None:
        """Let go of the file, and what waits in it; only the length can be asked then."""
        if self._file is not None:
            self._file.close()

    def _write_back(self) -> None:
        """Move what came last into the file; what cannot be written whole stays where it is."""
        data = "".join(json.dumps(text) + "\n" for text in self._back).encode()
        self._write(data, self._end)
        self._end += len(data)
        self._back.clear()

    def _fill_front(self) -> None:
        if self._start == self._end:
            self._front, self._back = self._back, self._front
            return
        data = self._read(self._start, min(_PIECE, self._end - self._start))
        whole = data[: data.rfind(b"\n") + 1]
        self._front.extend(_parse(whole))
        self._start += len(whole)
        with suppress(OSError):  # then the room stays taken for a while
            self._use_room_again()

    def _use_room_again(self) -> None:
        """Move what waits to the beginning of the file, once as much and more has left before it."""
        rest = self._end - self._start
        if rest and self._start < max(_ROOM, rest):
            return
        for done in range(0, rest, _PIECE):
            self._write(self._read(self._start + done, min(_PIECE, rest - done)), done)
        self._start, self._end = 0, rest
        self._use_file().truncate(rest)

    def _read(self, start: int, count: int) -> bytes:
        file, data = self._use_file(), b""
        file.seek(start)
        while len(data) < count:
            piece = file.read(count - len(data))
            if not piece:
                raise OSError(errno.EIO, "the file of what waits was cut off")
            data += piece
        return data

    def _write(self, data: bytes, start: int) -> None:
        file, rest = self._use_file(), memoryview(data)
        file.seek(start)
        while rest:
            rest = rest[file.write(rest) :]

    def _use_file(self) -> BinaryIO:
        if self._file is None:
            made = tempfile.TemporaryFile(dir=self._folder, prefix=".wetread-", buffering=0)  # noqa: SIM115
            self._file = cast("BinaryIO", made)
        return self._file


def _parse(lines: bytes) -> list[str]:
    """Read all lines or none. Raises OSError: a share may lose what it took long before."""
    try:
        if found := [json.loads(line) for line in lines.splitlines()]:
            return found
    except ValueError:
        pass
    raise OSError(errno.EIO, "what waits cannot be read back from its disk: start the command again")
