"""Entry, what reads and lists entries, and which names are inputs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    pass


BUCKET_SCHEME = "gs://"


_NOT_INPUTS = frozenset({"thumbs.db", "desktop.ini"})


OUTPUT_SUFFIXES = (".csv", ".jsonl", ".parquet")


RECORD_SUFFIX = ".run.json"


PART_SUFFIX = ".part"


JOURNAL_SUFFIX = ".watch"


SHARD_SUFFIX = ".shard"


_OWN_SUFFIXES = (RECORD_SUFFIX, JOURNAL_SUFFIX, PART_SUFFIX, PART_SUFFIX + ".state", SHARD_SUFFIX)


@dataclass(frozen=True, slots=True)
class Entry:
    """One input as listed: its name (its identity), size in bytes, and a word that changes when it does.

    `version` is the modification time in nanoseconds locally and the generation in a bucket; both are
    empty where the listing did not say (a name from a list that is not there, say). `checksum` is the
    crc32c that a bucket's listing promises, in base64.
    """

    name: str
    size: int | None = None
    version: str = ""
    checksum: str = ""


class Reading(Protocol):
    """Something that reads listed inputs."""

    def read(self, entry: Entry) -> bytes:
        """Return a file's bytes. Raises ImageError('unreadable')."""
        ...

    def read_ahead(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """Pass entries on, in order; where reading waits on a network, fetch them before `read` asks.

        Each entry is then to be read once, in about this order.
        """
        ...


class Source(Reading, Protocol):
    """Something that lists inputs in order and reads them."""

    def entries(self) -> Iterator[Entry]:
        """List the inputs, in order, holding one directory's names at a time."""
        ...

    def describe(self) -> dict[str, Any]:
        """Tell how reading went, for a run's record; nothing of local files."""
        ...


def is_bucket_location(location: str | os.PathLike[str]) -> bool:
    """Tell whether a location is in Cloud Storage."""
    return os.fspath(location).startswith(BUCKET_SCHEME)


def is_hidden(name: str) -> bool:
    """Tell whether a file or folder of this name is never an input."""
    return name.startswith(".") or name.lower() in _NOT_INPUTS


def is_part(name: str) -> bool:
    """Tell whether a name is that of an unfinished output: in a bucket, a folder of its parts."""
    return is_output(name.removesuffix(PART_SUFFIX)) and name.endswith(PART_SUFFIX)


def is_output(name: str) -> bool:
    """Tell whether a name is that of rows, as `choose_format` takes it: its end in any case."""
    return name.lower().endswith(OUTPUT_SUFFIXES)


def own_outputs(names: Iterable[str]) -> set[str]:
    """Those of a directory's files that runs of wetread wrote; a folder is none by its neighbours."""
    present = set(names)
    own: set[str] = set()
    for name in present:
        for suffix in _OWN_SUFFIXES:
            base = name.removesuffix(suffix)
            if base != name and is_output(base):
                own |= {name, base} if suffix in (RECORD_SUFFIX, JOURNAL_SUFFIX, PART_SUFFIX) else {name}
    return own
