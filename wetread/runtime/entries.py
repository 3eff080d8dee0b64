"""Inputs: `Entry`, the protocols that list and read entries, and which file names are inputs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any, NamedTuple, Protocol

from wetread.errors import SourceError

BUCKET_SCHEME = "gs://"
_NOT_INPUTS = frozenset({"thumbs.db", "desktop.ini"})
OUTPUT_SUFFIXES = (".csv", ".jsonl", ".parquet")
RECORD_SUFFIX = ".run.json"
PART_SUFFIX = ".part"
JOURNAL_SUFFIX = ".watch"
SHARD_SUFFIX = ".shard"
REVIEWS_SUFFIX = ".journal"
_MOST_NAMES = 10_000
_MOST_ENDINGS = 5
# Endings of files beside an output: those that prove that it is wetread's, and all of them.
PROOF_SUFFIXES = (RECORD_SUFFIX, JOURNAL_SUFFIX, PART_SUFFIX, REVIEWS_SUFFIX)
_OWN_SUFFIXES = (*PROOF_SUFFIXES, PART_SUFFIX + ".state", SHARD_SUFFIX)


class Entry(NamedTuple):
    """One input as listed: its name (its identity), size in bytes, and a version that changes with it.

    `version` is the modification time in nanoseconds for a file and the generation for an object; size and
    version are empty if the listing did not have them (for example a name from a list that does not exist).
    `checksum` is the crc32c from a bucket's listing, in base64.
    """

    name: str
    size: int | None = None
    version: str = ""
    checksum: str = ""

    @classmethod
    def of_file(cls, name: str, *, size: int, modified: int) -> Entry:
        """Return the entry of a local file: size in bytes, modification time in nanoseconds."""
        return cls(name, size, str(modified))

    def identify(self, root: str = "") -> bytes:
        """Return bytes that identify this input in digests: its name below `root`, size and version."""
        name = self.name.removeprefix(root) if root else self.name
        return f"{name}\0{self.size}\0{self.version}".encode("utf-8", "surrogatepass")


class Reading(Protocol):
    """Something that reads listed inputs."""

    def read(self, entry: Entry) -> bytes:
        """Return a file's bytes. Raises ImageError('unreadable')."""
        ...

    def read_ahead(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """Return entries in order; if they are on a network, prefetch them before `read` is called.

        Each entry must then be read once, in about this order.
        """
        ...


class Source(Reading, Protocol):
    """Something that lists inputs in order and reads them."""

    @property
    def read_file(self) -> Callable[[Entry], bytes]:
        """What reads its local files, in any process: it can be pickled. Errors as in `read`."""
        ...

    def entries(self) -> Iterator[Entry]:
        """List the inputs, in order, with one directory's names in memory at a time."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return statistics about reading, for a run's record; empty for local files."""
        ...

    def explain_empty(self) -> str:
        """Describe, as part of a sentence, what is there instead of inputs. Called if nothing was listed."""
        ...


def is_bucket_location(location: str | os.PathLike[str]) -> bool:
    """Whether a location is in Cloud Storage."""
    return os.fspath(location).startswith(BUCKET_SCHEME)


def is_hidden(name: str) -> bool:
    """Whether a file or folder with this name is never an input."""
    return name.startswith(".") or name.lower() in _NOT_INPUTS


def is_part(name: str) -> bool:
    """Whether a name is that of an unfinished output; in a bucket, that is a folder of its parts."""
    return is_output(name.removesuffix(PART_SUFFIX)) and name.endswith(PART_SUFFIX)


def is_output(name: str) -> bool:
    """Whether a name has an ending of an output, in upper or lower case, as in `choose_format`."""
    return name.lower().endswith(OUTPUT_SUFFIXES)


def is_companion(name: str) -> bool:
    """Whether a file with this name is always wetread's own file beside an output."""
    if not name.endswith(_OWN_SUFFIXES):
        return False
    return any(name.endswith(end) and is_output(name.removesuffix(end)) for end in _OWN_SUFFIXES)


def find_proven(name: str) -> str:
    """Return the output that a file with this name proves to be wetread's own; '' if it proves none."""
    bases = (name.removesuffix(end) for end in PROOF_SUFFIXES if name.endswith(end))
    return next(filter(is_output, bases), "")


def own_outputs(names: Iterable[str]) -> set[str]:
    """Return those of a directory's files that runs of wetread wrote."""
    companions = set(filter(is_companion, names))
    return companions | set(map(find_proven, companions)) - {""}


def require_inputs(entries: Iterator[Entry], source: Source, *, allow_empty: bool) -> Iterator[Entry]:
    """Return a source's entries; the first one is listed at once.

    Raises SourceError if there is none, unless `allow_empty`: usually the folder or pattern is wrong, and an
    output without rows would look like success.
    """
    first = next(entries, None)
    if first is not None:
        return chain((first,), entries)
    if allow_empty:
        return iter(())
    raise SourceError(f"Nothing to score: {source.explain_empty()}. If that is right, use --allow-empty.")


def describe_names(names: Iterable[str], *, place: str, pattern: str | None) -> str:
    """Describe a place in which no name matches a pattern: its number of files and their endings.

    Reads at most 10,000 names.
    """
    seen = list(islice(names, _MOST_NAMES + 1))
    if not seen:
        return f"no file in {place!r} is an input (hidden files and wetread's own outputs do not count)"
    more = "more than " if len(seen) > _MOST_NAMES else ""
    endings = Counter(os.path.splitext(name)[1].lower() or "none" for name in seen[:_MOST_NAMES])
    words = ", ".join(f"{ending} {count:,}" for ending, count in endings.most_common(_MOST_ENDINGS))
    rest = ", ..." if len(endings) > _MOST_ENDINGS else ""
    count = min(len(seen), _MOST_NAMES)
    files = "file is" if count == 1 else "files are"
    return f"no name in {place!r} matches {pattern!r}; {more}{count:,} {files} there: {words}{rest}"
