"""Listing in Cloud Storage: a prefix as a folder, a glob, one object, or the URIs of a list.

The rules of what is an input are those of local folders (wetread.runtime.sources.local), and so is the order:
byte order of the whole name, which is the order in which the service lists. One page is held at a time.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from wetread.errors import SourceError, UsageError
from wetread.runtime.entries import (
    BUCKET_SCHEME,
    PROOF_SUFFIXES,
    Entry,
    describe_names,
    find_proven,
    is_bucket_location,
    is_companion,
    is_hidden,
    is_output,
    is_part,
)
from wetread.runtime.files.globs import compile_glob, find_fixed_parts, is_wildcard, matches, refuse_folders
from wetread.runtime.files.reading import find_entry, read_entry
from wetread.runtime.gcs.answers import AnswerError, check_order, describe_entry, parse_page
from wetread.runtime.gcs.client import READ_ROLE, Storage, split_location
from wetread.runtime.gcs.reading import BucketReads
from wetread.runtime.gcs.retry import StorageError
from wetread.runtime.threads import map_in_order

_FIELDS = "items(name,size,generation,crc32c),nextPageToken"
_PAGE = 1000
# Opening a location answers for itself soon: a wrong endpoint should not cost the deadline of a read.
_OPEN_SECONDS = 30.0
_LOOK_UPS, _NAMES_AHEAD = 16, 256


class BucketFolder:
    """The objects of one bucket that are inputs: under a prefix, matching a glob, or one alone."""

    def __init__(
        self, reads: BucketReads, location: str, *, include: str | None = None, allow_empty: bool = False
    ) -> None:
        self.reads = reads
        self.location = location
        self._words, self._allow_empty = include, allow_empty
        self._include = compile_glob(include) if include else None
        self._pattern: re.Pattern[str] | None = None
        self._single: Entry | None = None
        self._bucket, name = split_location(location)
        self._prefix = self._root = self._find_root(name)
        if self._single is not None:
            refuse_folders(include)

    def _find_root(self, name: str) -> str:
        """Tell what stands at a name: an object, a folder or a glob. Raises SourceError for nothing."""
        if not name or name.endswith("/"):
            first = self._first(name)
            if name and first is None and not self._allow_empty:
                raise self._nothing()
            return name
        found = self._first(name)
        if found is not None and found.name == self.location:
            if self._first(name + "/") is not None:
                raise SourceError(
                    f"{self.location!r} is both an object and a folder. Give {self.location + '/'!r} for "
                    "what is below it, or name the object in a list."
                )
            self._single = found
            return name
        folder = name + "/"
        if self._first(folder) is not None:
            return folder
        if not is_wildcard(name):
            if self._allow_empty:
                return folder
            raise self._nothing()
        fixed, rest = find_fixed_parts(name)
        self._pattern = compile_glob(rest, whole=True)
        return fixed

    def _first(self, prefix: str) -> Entry | None:
        with self._explained():
            found, _ = fetch_page(self.reads.storage, self._bucket, prefix, size=1, deadline=_OPEN_SECONDS)
        return found[0] if found else None

    def _explained(self) -> AbstractContextManager[None]:
        need = "storage.objects.list"
        return self.reads.storage.explaining(self.location, need=need, role=READ_ROLE, raises=SourceError)

    def _nothing(self) -> SourceError:
        return SourceError(
            f"{self.location!r} holds nothing: no object and no folder has this name. Check it."
        )

    @property
    def read_file(self) -> Callable[[Entry], bytes]:
        """What reads local files, of which a bucket has none."""
        return read_entry

    def entries(self) -> Iterator[Entry]:
        """List the inputs in order, a page at a time. Raises SourceError."""
        if self._single is not None:
            last = self._single.name.rpartition("/")[2]
            if self._include is None or matches(self._include, last):
                yield self._single
            return
        root = f"{BUCKET_SCHEME}{self._bucket}/{self._root}"
        prefix = self._root + (_literal_start(self.location, root) if self._pattern else "")
        with self._explained():
            for entry in choose_inputs(list_objects(self.reads.storage, self._bucket, prefix), root=root):
                name = entry.name[len(root) :]
                if self._pattern is not None and not self._pattern.fullmatch(name):
                    continue
                if self._include is None or matches(self._include, name):
                    yield entry

    def read(self, entry: Entry) -> bytes:
        """Return an object's bytes. Raises ImageError('unreadable'), or SourceError in an outage."""
        return self.reads.read(entry)

    def read_ahead(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """Pass entries on while their bytes are fetched."""
        return self.reads.read_ahead(entries)

    def describe(self) -> dict[str, Any]:
        """Tell how the reading went, for the run record."""
        return self.reads.describe()

    def explain_empty(self) -> str:
        """Say what is below the prefix. Raises SourceError."""
        if self._single is not None:
            return describe_names([self.location], place=self.location, pattern=self._words)
        root = f"{BUCKET_SCHEME}{self._bucket}/{self._root}"
        pattern = " with --include ".join(filter(None, (self._pattern and self.location, self._words)))
        with self._explained():
            listed = list_objects(self.reads.storage, self._bucket, self._root)
            names = (entry.name for entry in choose_inputs(listed, root=root))
            return describe_names(names, place=root, pattern=pattern)


def _literal_start(location: str, root: str) -> str:
    """The part of a glob below its root that no wildcard has touched yet: the listing narrows by it."""
    return re.split(r"[*?\[]", location[len(root) :], maxsplit=1)[0]


def list_objects(storage: Storage, bucket: str, prefix: str) -> Iterator[Entry]:
    """List every object with a prefix, in byte order of names, a page at a time. Raises StorageError."""
    token: str | None = None
    last = ""
    while True:
        entries, following = fetch_page(storage, bucket, prefix, token=token)
        with storage.judging():
            check_order(entries, after=last)
            if following and following == token:
                raise AnswerError("a page that names itself as the next one")
        yield from entries
        if not following:
            return
        token, last = following, entries[-1].name if entries else last


def fetch_page(
    storage: Storage,
    bucket: str,
    prefix: str,
    *,
    token: str | None = None,
    size: int | None = None,
    deadline: float | None = None,
) -> tuple[list[Entry], str | None]:
    """Fetch one page of names with a prefix, and the token of the next. Raises StorageError."""
    start = f"{BUCKET_SCHEME}{bucket}/"
    asked = {"prefix": prefix, "pageToken": token or "", "maxResults": str(size or _PAGE), "fields": _FIELDS}

    def fetch() -> tuple[list[Entry], str | None]:
        return parse_page(storage.ask(f"/b/{bucket}/o", asked), start=start, prefix=prefix)

    return storage.call(fetch, deadline=deadline)


def choose_inputs(listed: Iterable[Entry], *, root: str) -> Iterator[Entry]:
    """Pass on what is an input below `root`, by the rule of local folders.

    An object that may be an output of wetread's own is held back until the name that would prove it (its
    record's) has been listed or passed.
    """
    held: deque[Entry] = deque()
    verdicts: dict[str, bool] = {}
    for entry in listed:
        base = find_proven(entry.name)
        if base:
            held = deque(other for other in held if other.name != base)
        while held and not _may_be_own(held[0], before=entry.name):
            yield held.popleft()
        if not _is_input(entry.name[len(root) :], verdicts):
            continue
        if held or is_output(entry.name):
            held.append(entry)
        else:
            yield entry
    yield from held


def _may_be_own(entry: Entry, *, before: str) -> bool:
    """Tell whether an entry's record could still be listed at or after the name `before`."""
    return is_output(entry.name) and before <= entry.name + max(PROOF_SUFFIXES)


def _is_input(name: str, verdicts: dict[str, bool]) -> bool:
    """Tell whether a name below the root is an input; `verdicts` remembers the last folder's."""
    folder, _, last = name.rpartition("/")
    if folder not in verdicts:
        verdicts.clear()
        verdicts[folder] = not any(is_hidden(part) or is_part(part) for part in folder.split("/"))
    return bool(last) and verdicts[folder] and not is_hidden(last) and not is_companion(last)


def look_up_names(reads: BucketReads, names: Iterable[str]) -> Iterator[Entry]:
    """Turn URIs (and local names among them) into entries, in their order, asking for many at a time.

    One that is not there, or may not be seen, is an entry of which nothing is known: its row will say why.
    """

    def look(name: str) -> Entry:
        return look_up(reads.storage, name)

    yield from map_in_order(look, names, threads=_LOOK_UPS, ahead=_NAMES_AHEAD, name="wetread-names")


def look_up(storage: Storage, location: str) -> Entry:
    """Ask for one object's size, generation and checksum. Raises SourceError when nobody answers."""
    if not is_bucket_location(location):
        return find_entry(location)
    try:
        bucket, name = split_location(location)
    except UsageError:
        return Entry(location)

    def ask() -> Entry:
        return describe_entry(storage.ask(storage.bucket(bucket).blob(name).path), location=location)

    try:
        return storage.call(ask)
    except StorageError as error:
        if error.failure.kind in ("denied", "missing", "other"):
            return Entry(location)
        words = storage.explain(error.failure, location, need="storage.objects.get", role=READ_ROLE)
        raise SourceError(words) from error
