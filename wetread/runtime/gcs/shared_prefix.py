"""Files that a cluster's machines share, in a bucket (wetread.runtime.sources.shared_folder)."""

from __future__ import annotations

import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from wetread.errors import OutputError, SourceError
from wetread.runtime.gcs.client import READ_ROLE, WRITE_ROLE, Storage
from wetread.runtime.gcs.retry import StorageError
from wetread.runtime.gcs.writing import (
    fetch_object,
    find_object,
    list_written,
    read_range,
    write_object,
)

_HELD_BYTES = 32 << 20


class ObjectBytes:
    """One generation of an object, to read parts of."""

    def __init__(self, location: str, project: str | None) -> None:
        self._storage, self._location = Storage(project=project), location
        with self._explained():
            found = find_object(self._storage, location)
        if found is None:
            raise SourceError(f"{location!r} does not exist. Check the name.")
        self._found, self.size = found, found.size

    def read(self, start: int, length: int) -> bytes:
        """Return a part. Raises SourceError."""
        length = min(length, self.size - start)
        with self._explained():
            return read_range(self._storage, self._found, start=start, length=length) if length > 0 else b""

    def _explained(self) -> AbstractContextManager[None]:
        need = "storage.objects.get"
        return self._storage.explaining(self._location, need=need, role=READ_ROLE, raises=SourceError)


class Prefix:
    """The objects right under a prefix: a place."""

    def __init__(self, location: str, project: str | None) -> None:
        self.location = location.rstrip("/")
        self._storage = Storage(project=project)

    def list_names(self) -> list[str]:
        """The names of the objects, in order. Raises OutputError."""
        start = self.location + "/"
        with self._explained():
            names = [written.location[len(start) :] for written in list_written(self._storage, start)]
        return [name for name in names if name and "/" not in name]

    def put(self, name: str, file: Path) -> bool:
        """Write an object whole; tell whether nothing was there before. Raises OutputError."""
        with self._explained():
            try:
                write_object(self._storage, f"{self.location}/{name}", file, match=0)
            except StorageError as error:
                if error.failure.kind != "precondition":
                    raise
                return False
        return True

    def replace(self, name: str, file: Path) -> None:
        """Write an object whole, whatever stands there. Raises OutputError."""
        with self._explained():
            write_object(self._storage, f"{self.location}/{name}", file, match=None)

    def open(self, name: str) -> BinaryIO | None:
        """Open an object to read it and seek in it; None where there is none. Raises OutputError."""
        file = tempfile.SpooledTemporaryFile(_HELD_BYTES)  # noqa: SIM115 - its reader closes it
        with self._explained():
            try:
                fetch_object(self._storage, f"{self.location}/{name}", file)  # type: ignore[arg-type]
            except StorageError as error:
                file.close()
                if error.failure.kind != "missing":
                    raise
                return None
        file.seek(0)
        return file  # type: ignore[return-value]

    def _explained(self) -> AbstractContextManager[None]:
        need = "storage.objects.create"
        return self._storage.explaining(self.location, need=need, role=WRITE_ROLE, raises=OutputError)
