"""Where a cluster's machines meet: a folder that all of them see, or a prefix in a bucket.

Files are written once, whole or not at all, never over another; and read whole, or a part at a time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from wetread.errors import OutputError, SourceError
from wetread.runtime.entries import is_bucket_location
from wetread.runtime.files.atomic import copy_file


class Bytes(Protocol):
    """A file whose parts can be read."""

    size: int

    def read(self, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`; fewer where the file ends. Raises SourceError."""
        ...


class Place(Protocol):
    """A folder of files that are written once."""

    location: str

    def list_names(self) -> list[str]:
        """The names of the files here, in order; none where there is no folder yet. Raises OutputError."""
        ...

    def put(self, name: str, file: Path) -> bool:
        """Write a file whole; tell whether it was not there before. Raises OutputError."""
        ...

    def replace(self, name: str, file: Path) -> None:
        """Write a file whole, whatever stands there. Raises OutputError."""
        ...

    def open(self, name: str) -> BinaryIO | None:
        """Open a file to read it and seek in it; None where there is none. Raises OutputError."""
        ...


def open_bytes(location: str, *, project: str | None = None) -> Bytes:
    """Open a local file or an object to read parts of it. Raises SourceError when it is not there."""
    if not is_bucket_location(location):
        return _FileBytes(location)
    from wetread.runtime.gcs.shared_prefix import ObjectBytes

    return ObjectBytes(location, project)


def open_place(location: str, *, project: str | None = None) -> Place:
    """Open a local folder or a `gs://` prefix. Touches nothing yet."""
    if not is_bucket_location(location):
        return _Folder(location)
    from wetread.runtime.gcs.shared_prefix import Prefix

    return Prefix(location, project)


def put_file(location: str, file: Path, *, overwrite: bool, project: str | None = None) -> None:
    """Write a file whole under a name of its own. Raises OutputError when something stands there already."""
    place, _, name = location.rpartition("/") if is_bucket_location(location) else _split(location)
    opened = open_place(place, project=project)
    if overwrite:
        opened.replace(name, file)
    elif not opened.put(name, file):
        raise OutputError(
            f"Expected nothing at {location!r} yet. Received a file. Use --overwrite to replace it, or "
            "another name."
        )


def _split(location: str) -> tuple[str, str, str]:
    folder, name = os.path.split(location)
    return folder or ".", "", name


class _FileBytes:
    def __init__(self, location: str) -> None:
        self._location = location
        with self._explained():
            self.size = os.stat(location).st_size

    def read(self, start: int, length: int) -> bytes:
        with self._explained(), open(self._location, "rb") as file:
            file.seek(start)
            return file.read(length)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SourceError(
                f"Expected a file that can be read. Received {self._location!r}: {error.strerror}. "
                "Check the name."
            ) from error


class _Folder:
    def __init__(self, location: str) -> None:
        self.location = location

    def list_names(self) -> list[str]:
        with self._explained():
            try:
                return sorted(os.listdir(self.location))
            except FileNotFoundError:
                return []

    def put(self, name: str, file: Path) -> bool:
        return self._copy(name, file, overwrite=False)

    def replace(self, name: str, file: Path) -> None:
        self._copy(name, file, overwrite=True)

    def _copy(self, name: str, file: Path, *, overwrite: bool) -> bool:
        with self._explained():
            os.makedirs(self.location, exist_ok=True)
            return copy_file(file, os.path.join(self.location, name), overwrite=overwrite)

    def open(self, name: str) -> BinaryIO | None:
        with self._explained():
            try:
                return open(os.path.join(self.location, name), "rb")
            except FileNotFoundError:
                return None

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"Expected a folder that can be read and written: {self.location!r}. Received: "
                f"{error.strerror or error}. Check its name, its permissions and the space that is left."
            ) from error
