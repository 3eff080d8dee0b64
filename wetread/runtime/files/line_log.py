"""A growing file of JSON lines that survives a kill or a power failure at any time.

    log = LineLog("scores.csv.watch")       # locked: one writer
    log.read(take_in)                       # every whole line, in order
    log.append({"ok": ["52a1…"]})           # on the disk when it returns

A kill or a power failure leaves at most one half-written line at the end, or one of zeros, which is ignored.
A damaged line anywhere else raises an error.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from wetread.errors import OutputError
from wetread.runtime.files.atomic import sync_file
from wetread.runtime.files.locks import lock_file
from wetread.runtime.files.permissions import make_opener

_PIECE = 1 << 18

TakeIn = Callable[[Mapping[str, Any], bool], None]


class BusyLogError(Exception):
    """Another process writes the file."""


class DamagedLogError(Exception):
    """A line is damaged; `number` is its number, from 1."""

    def __init__(self, number: int) -> None:
        super().__init__(f"line {number} is damaged")
        self.number = number


class LineLog:
    """The only writer of a file of JSON lines; a new file has the permissions `mode`.

    Raises OSError, and BusyLogError if another process has it.
    """

    def __init__(self, path: str, *, mode: int = 0o666) -> None:
        opener = make_opener(mode) if mode != 0o666 else None
        self._file: BinaryIO = open(path, "a+b", buffering=0, opener=opener)  # noqa: SIM115
        self._whole = 0  # the end of the complete lines
        if not lock_file(self._file):
            self._file.close()
            raise BusyLogError

    @property
    def is_empty(self) -> bool:
        """Whether there is no complete line."""
        return not self._whole

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def read(self, take_in: TakeIn) -> None:
        """Pass every complete line to `take_in(line, is_first)`, which raises ValueError for a malformed one.

        Raises DamagedLogError if any line but the last is damaged.
        """
        end, whole = self._file.seek(0, os.SEEK_END), 0
        self._file.seek(0)
        for number, (line, found) in enumerate(_parse_lines(self._file), 1):
            if not _pass_on(found, take_in, is_first=number == 1):
                # A power failure may also leave a line of zeros, whose bytes never reached the disk.
                is_last = whole + len(line) + 1 >= end
                if is_last and (whole + len(line) == end or b"\0" in line):
                    break
                raise DamagedLogError(number)
            whole += len(line) + 1
        self._whole = whole  # not before: `append` cuts off what comes after it

    def append(self, line: Mapping[str, Any]) -> None:
        """Write a line and sync it; if it does not fit, it is removed, now or by the next `append`."""
        text = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        data = memoryview(text)
        self._file.truncate(self._whole)
        try:
            while data:
                data = data[self._file.write(data) :]
            sync_file(self._file.fileno())
        except OSError:
            with suppress(OSError):
                self._file.truncate(self._whole)
            raise
        self._whole += len(text)


def _parse_lines(file: BinaryIO) -> Iterator[tuple[bytes, Any]]:
    """Yield a file's lines, without their ends, and what they say: None of one that is damaged or has no end.

    Of a file that has grown for years some are in memory.
    """
    rest = b""
    while data := file.read(_PIECE):
        *whole, rest = (rest + data).split(b"\n")
        yield from zip(whole, _parse_many(whole), strict=True)
    if rest:
        yield rest, None


def _parse_many(lines: list[bytes]) -> list[Any]:
    """Parse all lines at once, which takes a third of the time, or one by one where one is damaged."""
    if all(line.startswith(b"{") and line.endswith(b"}") for line in lines):
        with suppress(ValueError):
            found = json.loads(b"[" + b",".join(lines) + b"]")
            if len(found) == len(lines):
                return list(found)
    return [_parse(line) for line in lines]


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _pass_on(found: Any, take_in: TakeIn, *, is_first: bool) -> bool:
    """Process what one line says; False if it is malformed."""
    if not isinstance(found, dict):
        return False
    try:
        take_in(found, is_first)
    except (ValueError, TypeError, AttributeError, KeyError):
        return False
    return True


@contextmanager
def explain_writing(path: str) -> Iterator[None]:
    """Raise OutputError, with what to do, where the block raises an OSError as it writes `path`."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path!r} cannot be written: {error.strerror or error}. Close the program that has it open, "
            "free disk space, restore the folder, or choose another --output."
        ) from error
