"""A folder that may be in a bucket, as a folder on this disk: for runs and reports, which are many files.

A local folder stands for itself. One in a bucket is fetched into a passing folder, and what changes there is
published: each file whole, the one that says that all is done last, none over what somebody else wrote
meanwhile.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wetread.errors import OutputError, SourceError
from wetread.runtime.sources import is_bucket_location, is_hidden

if TYPE_CHECKING:
    from wetread.runtime.gcs import Storage, StorageError
    from wetread.runtime.gcs_write import Written

_AT_ONCE = 8


@dataclass(frozen=True)
class Staged:
    """A folder on this disk that stands for `location`; `publish` sends what changed in it there."""

    location: str
    folder: str
    publish: Callable[[], None]


@contextmanager
def stage_folder(
    location: str | os.PathLike[str],
    *,
    last: str = "",
    leave_out: tuple[str, ...] = (),
    project: str | None = None,
) -> Iterator[Staged]:
    """Yield a folder on this disk that stands for a location.

    `last`: the name of the file that is published after all others. `leave_out`: folders below it that are
    neither fetched nor published, as dot-files are not. Nothing is published unless `publish` is called.
    Raises SourceError, OutputError, and MissingExtraError without the extra `gcs`.
    """
    location = os.fspath(location)
    if not is_bucket_location(location):
        yield Staged(location, location, lambda: None)
        return
    from wetread.runtime.gcs import Storage

    with tempfile.TemporaryDirectory(prefix="wetread-") as folder:
        mirror = _Mirror(Storage(project=project), location, Path(folder), last, leave_out)
        mirror.fetch()
        yield Staged(location, folder, mirror.publish)


class _Mirror:
    """A folder in a bucket and its copy on this disk."""

    def __init__(
        self, storage: Storage, location: str, folder: Path, last: str, leave_out: tuple[str, ...]
    ) -> None:
        self._storage = storage
        self._root = location.rstrip("/") + "/"
        self._folder = folder
        self._last = last
        self._leave_out = leave_out
        self._there: dict[str, Written] = {}
        self._sent: dict[str, tuple[int, int]] = {}

    def fetch(self) -> None:
        """Bring what is in the bucket to this disk."""
        from wetread.runtime.gcs import StorageError
        from wetread.runtime.gcs_write import list_written

        try:
            found = list_written(self._storage, self._root)
            self._there = {w.location[len(self._root) :]: w for w in found}
            self._there = {name: w for name, w in self._there.items() if self._belongs(name)}
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(self._fetch_one, self._there))
        except StorageError as error:
            words = self._storage.explain(
                error.failure, self._root, need="storage.objects.list", role="roles/storage.objectUser"
            )
            raise SourceError(words) from error
        self._sent = self._look()

    def _fetch_one(self, name: str) -> None:
        from wetread.runtime.gcs_write import read_object

        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(read_object(self._storage, self._there[name].location))

    def publish(self) -> None:
        """Send every file that changed since, and remove those that are gone. Raises OutputError."""
        from wetread.runtime.gcs import StorageError
        from wetread.runtime.gcs_write import WRITE_ROLE, delete_object, write_object

        now = self._look()
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
            raise OutputError(self._explain(error, need="storage.objects.create", role=WRITE_ROLE)) from error
        self._sent = now

    def _explain(self, error: StorageError, *, need: str, role: str) -> str:
        if error.failure.kind == "precondition":
            return (
                f"Expected to be the only one that writes into {self._root!r}. Received files that somebody "
                "else wrote there meanwhile. Let that one end, or choose another output."
            )
        return self._storage.explain(error.failure, self._root, need=need, role=role)

    def _look(self) -> dict[str, tuple[int, int]]:
        """Size and time of every file that belongs."""
        found = {}
        for path in sorted(self._folder.rglob("*")):
            name = path.relative_to(self._folder).as_posix()
            if path.is_file() and self._belongs(name):
                status = path.stat()
                found[name] = (status.st_size, status.st_mtime_ns)
        return found

    def _belongs(self, name: str) -> bool:
        if os.name == "nt" and ("\\" in name or ":" in name):
            return False  # there, such a name would lead out of the folder
        parts = name.split("/")
        return parts[0] not in self._leave_out and not any(not part or is_hidden(part) for part in parts)
