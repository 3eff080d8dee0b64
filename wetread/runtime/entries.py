"""Entry, what reads and lists entries, and which names are inputs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Protocol

from wetread.errors import SourceError

BUCKET_SCHEME = "gs://"
_NOT_INPUTS = frozenset({"thumbs.db", "desktop.ini"})
OUTPUT_SUFFIXES = (".csv", ".jsonl", ".parquet")
RECORD_SUFFIX = ".run.json"
PART_SUFFIX = ".part"
JOURNAL_SUFFIX = ".watch"
SHARD_SUFFIX = ".shard"
_MOST_NAMES = 10_000
_MOST_ENDINGS = 5
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

    def explain_empty(self) -> str:
        """Say, as a part of a sentence, what is there instead of inputs. Called when nothing was listed."""
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


def require_inputs(entries: Iterator[Entry], source: Source, *, allow_empty: bool) -> Iterator[Entry]:
    """Pass a source's entries on, the first of them listed at once.

    Raises SourceError where there is none, unless `allow_empty`: a wrong folder or pattern looks like that,
    and an output without rows looks like success.
    """
    first = next(entries, None)
    if first is not None:
        return chain((first,), entries)
    if allow_empty:
        return iter(())
    raise SourceError(f"Nothing to score: {source.explain_empty()}. Use --allow-empty where that is right.")


def describe_names(names: Iterable[str], *, place: str, pattern: str | None) -> str:
    """Say what is in a place where no name matched a pattern: how many files, with which endings.

    Looks at 10,000 names at the most.
    """
    seen = list(islice(names, _MOST_NAMES + 1))
    if not seen:
        return f"no file in {place!r} is an input (hidden files and wetread's own outputs are none)"
    more = "more than " if len(seen) > _MOST_NAMES else ""
    endings = Counter(os.path.splitext(name)[1].lower() or "none" for name in seen[:_MOST_NAMES])
    words = ", ".join(f"{ending} {count:,}" for ending, count in endings.most_common(_MOST_ENDINGS))
    rest = ", ..." if len(endings) > _MOST_ENDINGS else ""
    count = min(len(seen), _MOST_NAMES)
    files = "file is" if count == 1 else "files are"
    return f"no name in {place!r} matches {pattern!r}; {more}{count:,} {files} there: {words}{rest}"
