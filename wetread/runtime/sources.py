"""Where images come from: a file, a folder, a glob, a list of names; local here, `gs://` in gcs.py.

What is an input: every regular file under the source except dot-files (and what dot-folders hold),
`Thumbs.db`, `desktop.ini` and wetread's own outputs. Order is byte order of the whole name with `/` after
each directory, as git and Cloud Storage sort. Listing holds one directory's names at a time.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

from wetread.errors import SourceError
from wetread.runtime.files import read_local
from wetread.runtime.globs import Beside, compile_glob, find_fixed_parts, is_wildcard, matches, refuse_folders
from wetread.runtime.paths import reach

if TYPE_CHECKING:
    from wetread.runtime.gcs_reads import BucketReads

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


def open_source(
    location: str | os.PathLike[str], *, include: str | None = None, project: str | None = None
) -> Source:
    """Open a local file, folder or glob, or a `gs://` location.

    `include`: a glob that narrows what is listed, matched against the name below the source (against the
    last part alone when it holds no `/`). `project` is billed where a bucket's requesters pay. Raises
    SourceError when nothing is there, and MissingExtraError for `gs://` without the extra `gcs`.
    """
    reads = open_reads(project) if is_bucket_location(location) else None
    return _open(os.fspath(location), include, reads)


def open_sources(
    locations: Iterable[str | os.PathLike[str]], *, include: str | None = None, project: str | None = None
) -> Source:
    """Open several locations as one source, one after the other. Arguments as in `open_source`."""
    names = [os.fspath(location) for location in locations]
    reads = open_reads(project) if any(map(is_bucket_location, names)) else None
    return Chain(tuple(_open(name, include, reads) for name in names), reads)


def open_reads(project: str | None) -> BucketReads:
    """Make what reads objects. Raises MissingExtraError without the extra `gcs`, and SourceError."""
    from wetread.runtime.gcs import Storage
    from wetread.runtime.gcs_reads import BucketReads

    return BucketReads(Storage(project=project))


def _open(location: str, include: str | None, reads: BucketReads | None) -> Source:
    if reads is not None and is_bucket_location(location):
        from wetread.runtime.gcs_list import BucketFolder

        return BucketFolder(reads, location, include=include)
    if not os.path.lexists(location) and is_wildcard(location):
        return LocalGlob(location, include=include)
    return LocalFolder(location, include=include)


@dataclass(frozen=True)
class Chain:
    """Several sources, one after the other; `reads` is what reads those of them that are in buckets."""

    parts: tuple[Source, ...]
    reads: BucketReads | None = None

    def entries(self) -> Iterator[Entry]:
        """List each part in turn."""
        return chain.from_iterable(part.entries() for part in self.parts)

    def read(self, entry: Entry) -> bytes:
        """Read one listed entry, wherever it is."""
        return read_local(entry.name) if self.reads is None else self.reads.read(entry)

    def read_ahead(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """Pass entries on, fetching ahead if a part is in a bucket."""
        return entries if self.reads is None else self.reads.read_ahead(entries)

    def describe(self) -> dict[str, Any]:
        """Tell how reading from buckets went."""
        return {} if self.reads is None else self.reads.describe()


class _LocalSource:
    """What all local sources share: reading is a system call."""

    def read(self, entry: Entry) -> bytes:
        """Return the bytes of one listed file. Raises ImageError('unreadable')."""
        return read_local(entry.name)

    def read_ahead(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """Pass entries on: the system reads ahead."""
        return entries

    def describe(self) -> dict[str, Any]:
        """Tell nothing."""
        return {}


class LocalFolder(_LocalSource):
    """A local folder, walked recursively, or one local file."""

    def __init__(self, location: str, *, include: str | None = None) -> None:
        self.location = location
        self._include = compile_glob(include) if include else None
        try:
            mode = os.stat(reach(location)).st_mode
        except OSError as error:
            raise SourceError(
                f"Expected a file or folder. Received {location!r}: {error.strerror}. Check the name."
            ) from error
        if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            raise SourceError(
                f"Expected a file or folder. Received {location!r}, which is a device, socket or pipe."
            )
        self._is_folder = stat.S_ISDIR(mode)
        if not self._is_folder:
            refuse_folders(include)

    def entries(self) -> Iterator[Entry]:
        """List the folder's inputs in order; a file lists itself. Raises SourceError."""
        if not self._is_folder:
            if self._include is None or matches(self._include, os.path.basename(self.location)):
                yield find_entry(self.location)
            return
        root = self.location if self.location.endswith(("/", os.sep)) else self.location + "/"
        for entry in walk(root):
            if self._include is None or matches(self._include, entry.name[len(root) :]):
                yield entry


class LocalGlob(_LocalSource):
    """The local files whose names match a pattern with `*`, `?`, `[...]` and `**`."""

    def __init__(self, pattern: str, *, include: str | None = None) -> None:
        self._root, rest = find_fixed_parts(pattern.replace(os.sep, "/"))
        self._pattern = compile_glob(rest, whole=True)
        self._passed_over = Beside(self._root, rest)
        self._include = compile_glob(include) if include else None
        if not os.path.isdir(reach(self._root or ".")):
            raise SourceError(f"Expected a folder to search. Received {self._root!r}. Check the name.")

    def entries(self) -> Iterator[Entry]:
        """List the matching files in order. Raises SourceError."""
        for entry in walk(self._root, pruned=self._passed_over):
            name = entry.name[len(self._root) :]
            if self._pattern.fullmatch(name) and (self._include is None or matches(self._include, name)):
                yield entry


def find_entry(name: str) -> Entry:
    """The entry of a local name; of one that is not there, the name alone."""
    try:
        status = os.stat(reach(name))
    except (OSError, ValueError):
        return Entry(name)
    return Entry(name, status.st_size, str(status.st_mtime_ns))


def walk(root: str, *, pruned: Container[str] = ()) -> Iterator[Entry]:
    """List the inputs under `root` ('' or a name that ends in '/'), in order.

    `pruned`: folders that are passed over, by their whole names, each with a '/' at its end.
    Links to folders are followed, except where one leads back to a folder that holds it. A directory that
    cannot be listed raises SourceError: its images would go missing without a row.
    """
    yield from _walk(root, (), pruned)


def _walk(folder: str, above: tuple[tuple[int, int], ...], pruned: Container[str]) -> Iterator[Entry]:
    try:
        place = reach(folder or ".")
        here = os.stat(place)
        key = (here.st_dev, here.st_ino)
        if key in above and here.st_ino:
            return
        with os.scandir(place) as listing:
            found = [(os.fsencode(item.name) + b"/" * _is_folder(item), item) for item in listing]
    except OSError as error:
        raise SourceError(
            f"Expected a folder that can be listed. Received {folder or '.'!r}: {error.strerror}. "
            "Give read permission, or leave it out of the source."
        ) from error
    own = own_outputs(item.name for name, item in found if not name.endswith(b"/"))
    for name, item in sorted(found, key=lambda pair: pair[0]):
        if is_hidden(item.name):
            continue
        if name.endswith(b"/"):
            if not is_part(item.name) and folder + item.name + "/" not in pruned:
                yield from _walk(folder + item.name + "/", (*above, key), pruned)
        elif item.name not in own:
            entry = _file_entry(folder + item.name, item)
            if entry is not None:
                yield entry


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:
        return False


def _file_entry(name: str, item: os.DirEntry[str]) -> Entry | None:
    """The entry of a regular file; None for what must not be opened (a pipe, a socket, a device)."""
    try:
        status = item.stat()
    except OSError:
        return Entry(name)  # a dangling link, or vanished since: its row will say so
    if not stat.S_ISREG(status.st_mode):
        return None
    return Entry(name, status.st_size, str(status.st_mtime_ns))


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


def read_entry(entry: Entry) -> bytes:
    """Return the bytes of a local entry, whatever it is by now. Raises ImageError('unreadable')."""
    return read_local(entry.name)
