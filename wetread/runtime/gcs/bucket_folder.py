"""A folder that may be in a bucket, as a folder on this disk: for runs and reports, which are many files.

A local folder stands for itself. One in a bucket is fetched into a passing folder, and what changes there is
published: each file whole, the one that says that all is done last, none over what somebody else wrote
meanwhile.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from wetread.errors import OutputError, SourceError, WetreadError
from wetread.runtime.entries import Entry, is_bucket_location
from wetread.runtime.files.reading import find_entry
from wetread.runtime.gcs.client import READ_ROLE, WRITE_ROLE, Storage, split_location
from wetread.runtime.gcs.listing import fetch_page
from wetread.runtime.gcs.retry import StorageError
from wetread.runtime.gcs.writing import Written, delete_object, find_object, read_object, write_object

# What a RUN directory holds, but for its cache of arrays: that stays where it was made.
RUN_FILES = (
    "config.json",
    "inputs.json",
    "splits.csv",
    "held_out.csv",
    "oof.csv",
    "corrupt.csv",
    "calibration/files.txt",
    "augmentation.png",
    "history.csv",
    "history.png",
    "learned_last.csv",
    "learned_last.png",
    "checkpoint.npz",
    "model.keras",
    "spec.json",
    "metrics.json",
)
_AT_ONCE = 8


@dataclass(frozen=True)
class Staged:
    """A folder on this disk that stands for `location`; `publish` sends what changed in it there."""

    location: str
    folder: str
    publish: Callable[[], None]


@contextmanager
def stage_folder(
    location: str | os.PathLike[str], *, names: Sequence[str], last: str = "", project: str | None = None
) -> Iterator[Staged]:
    """Yield a folder on this disk that stands for a location.

    `names`: the files below it that count, with `/`; in a bucket nothing else is fetched or published.
    `last`: the one that is published after all others. Nothing is published unless `publish` is called.
    Raises SourceError, OutputError, and MissingExtraError without the extra `gcs`.
    """
    location = os.fspath(location)
    if not is_bucket_location(location):
        yield Staged(location, location, lambda: None)
        return
    with tempfile.TemporaryDirectory(prefix="wetread-") as folder:
        mirror = _Mirror(Storage(project=project), location, Path(folder), last)
        mirror.fetch(names)
        with _named(folder, location):
            yield Staged(location, folder, lambda: mirror.publish(names))


@dataclass(frozen=True)
class StagedFile:
    """A file on this disk that stands for one that may be in a bucket.

    `name_of` tells where a file beside it will be.
    """

    path: str
    name_of: Callable[[str | os.PathLike[str]], str]


@contextmanager
def stage_file(
    location: str | os.PathLike[str], *, companions: Sequence[str] = (), project: str | None = None
) -> Iterator[StagedFile]:
    """Yield where to write a file, and others beside it, so that they appear at a location when all is done.

    `companions`: names beside it that go from a bucket where they are not written again; in a local folder
    that is left to who writes. Nothing appears where the block raises. Raises OutputError, and
    MissingExtraError without the extra `gcs`.
    """
    location = os.fspath(location)
    if not is_bucket_location(location):
        yield StagedFile(location, lambda path: os.fspath(path))
        return
    above, _, name = location.rpartition("/")
    with tempfile.TemporaryDirectory(prefix="wetread-") as folder:
        mirror = _Mirror(Storage(project=project), above, Path(folder), name)

        def name_of(path: str | os.PathLike[str]) -> str:
            return f"{above}/{Path(path).relative_to(folder).as_posix()}"

        with _named(folder, above):
            yield StagedFile(os.path.join(folder, name), name_of)
        mirror.publish_all(companions)


@contextmanager
def _named(folder: str, location: str) -> Iterator[None]:
    """Let errors tell of the location that the user knows, not of the folder that stands for it."""
    try:
        yield
    except WetreadError as error:
        error.args = tuple(str(word).replace(folder, location.rstrip("/")) for word in error.args)
        raise


def file_exists(location: str | os.PathLike[str], *, project: str | None = None) -> bool:
    """Tell whether a file is there, on this disk or in a bucket. Raises SourceError for a bucket."""
    location = os.fspath(location)
    if not is_bucket_location(location):
        return os.path.exists(location)
    storage = Storage(project=project)
    with storage.explaining(location, need="storage.objects.get", role=READ_ROLE, raises=SourceError):
        return find_object(storage, location) is not None


def read_file(location: str | os.PathLike[str], *, project: str | None = None) -> bytes:
    """Return the bytes of a file on this disk or in a bucket. Raises OSError, or SourceError for a bucket."""
    location = os.fspath(location)
    if not is_bucket_location(location):
        return Path(location).read_bytes()
    storage = Storage(project=project)
    with storage.explaining(location, need="storage.objects.get", role=READ_ROLE, raises=SourceError):
        try:
            return read_object(storage, location)
        except StorageError as error:
            if error.failure.kind != "missing":
                raise
            raise SourceError(f"{location!r} cannot be read: {error}.") from error


class _Mirror:
    """A folder in a bucket and its copy on this disk."""

    def __init__(self, storage: Storage, location: str, folder: Path, last: str) -> None:
        self._storage = storage
        self._root = location.rstrip("/") + "/"
        self._folder = folder
        self._last = last
        self._there: dict[str, Written] = {}
        self._sent: dict[str, Entry] = {}

    def fetch(self, names: Sequence[str]) -> None:
        """Bring what is in the bucket to this disk. Raises SourceError."""

        def fetch_one(name: str) -> None:
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(read_object(self._storage, self._root + name))

        try:
            # A bucket that is not there must be told from an empty place in one, and before any work.
            fetch_page(self._storage, *split_location(self._root), size=1)
            self._meet(names)
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(fetch_one, self._there))
        except StorageError as error:
            raise SourceError(self._explain(error, need="storage.objects.list and get")) from error
        self._sent = self._look(names)

    def _meet(self, names: Sequence[str]) -> None:
        """Learn which of some files are there, to take their places knowingly. Raises StorageError."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = pool.map(lambda name: find_object(self._storage, self._root + name), names)
            self._there = {name: one for name, one in zip(names, found, strict=True) if one is not None}

    def publish_all(self, companions: Sequence[str]) -> None:
        """Send every file of this folder to where it takes the place of what is there now.

        Of `companions`, those that are not in this folder go.
        """

        files = (path for path in self._folder.rglob("*") if path.is_file())
        names = sorted({*companions, *(path.relative_to(self._folder).as_posix() for path in files)})
        try:
            self._meet(names)
        except StorageError as error:
            raise OutputError(self._explain(error, need="storage.objects.get")) from error
        self.publish(names)

    def publish(self, names: Sequence[str]) -> None:
        """Send every file that changed since, and remove those that are gone. Raises OutputError."""
        now = self._look(names)
        changed = [name for name, state in now.items() if self._sent.get(name) != state]
        try:
            for name in sorted(changed, key=lambda name: (name == self._last, name)):
                known = self._there.get(name)
                match = known.generation if known else 0
                path = self._folder / name
                self._there[name] = write_object(self._storage, self._root + name, path, match=match)
            for name in [name for name in self._there if name not in now]:
                delete_object(self._storage, self._there.pop(name))
        except StorageError as error:
            raise OutputError(self._explain(error, need="storage.objects.create")) from error
        self._sent = now

    def _explain(self, error: StorageError, *, need: str) -> str:
        if error.failure.kind == "precondition":
            return (
                f"Another program writes into {self._root!r} at the same time. Let it end, or choose another "
                "output."
            )
        return self._storage.explain(error.failure, self._root, need=need, role=WRITE_ROLE)

    def _look(self, names: Sequence[str]) -> dict[str, Entry]:
        """The files that are on this disk, as they are now."""
        places = {name: self._folder / name for name in names}
        return {name: find_entry(str(path)) for name, path in places.items() if path.is_file()}
