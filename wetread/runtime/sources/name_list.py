"""Lists of names as a source: local names and URIs, streamed from a file or a pipe."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO

from wetread.errors import SourceError
from wetread.runtime.entries import Entry, is_bucket_location
from wetread.runtime.files.reading import find_entry, read_entry
from wetread.runtime.sources.opening import open_reads

if TYPE_CHECKING:
    from wetread.runtime.gcs.reading import BucketReads


class NameList:
    """The names in a list, local ones and URIs, in the list's order.

    A name that does not exist is an input that cannot be read. `project` as in `open_source`.
    """

    read_file = staticmethod(read_entry)

    def __init__(self, names: Iterable[str], *, project: str | None = None) -> None:
        self._names = names
        self._project = project
        self._reads: BucketReads | None = None

    def entries(self) -> Iterator[Entry]:
        """List the names. At the first URI it raises what opening Cloud Storage raises."""
        names = iter(self._names)
        for name in names:
            if is_bucket_location(name):
                from wetread.runtime.gcs.listing import look_up_names

                self._reads = open_reads(self._project)
                yield from look_up_names(self._reads, chain((name,), names))
                return
            yield find_entry(name)

    def read(self, entry: Entry) -> bytes:
        """Read one listed entry, local or in a bucket. Raises ImageError('unreadable')."""
        return read_entry(entry) if self._reads is None else self._reads.read(entry)

    def read_ahead(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """Return entries, prefetching from the first one that is in a bucket."""
        for entry in entries:
            if self._reads is not None:
                yield from self._reads.read_ahead(chain((entry,), entries))
                return
            yield entry

    def describe(self) -> dict[str, Any]:
        """Return statistics about reading from buckets."""
        return {} if self._reads is None else self._reads.describe()

    def explain_empty(self) -> str:
        """Describe the list as empty."""
        return "the list has no names"


def read_name_list(path: str) -> Iterator[str]:
    """Open a text file of names, one a line ('-' is standard input), and stream them.

    A byte order mark, which Windows' editors write, is skipped. Raises SourceError, also while streaming: for
    UTF-16, and on Windows for names that are not UTF-8.
    """
    try:
        stream = sys.stdin.buffer if path == "-" else open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise SourceError(f"The list {path!r} cannot be read: {error.strerror}.") from error
    return _stream_names(stream, path)


def _stream_names(stream: BinaryIO, path: str) -> Iterator[str]:
    with stream:
        for number, line in enumerate(stream):
            line = line if number else line.removeprefix(codecs.BOM_UTF8)
            try:
                if not number and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                    raise ValueError("UTF-16")
                name = os.fsdecode(line.rstrip(b"\r\n"))
            except ValueError as error:
                raise SourceError(
                    f"The names in {path!r} are not UTF-8 at line {number + 1}: {error}. Save the list as "
                    "UTF-8."
                ) from error
            if name:
                yield name
