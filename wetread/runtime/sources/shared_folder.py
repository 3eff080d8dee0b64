"""A folder that several machines share: a mounted folder, or a prefix in a bucket.

Files are written atomically and only once, never over another; they are read completely or in parts.
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
        """Return `length` bytes from `start`; fewer at the end of the file. Raises SourceError."""
        ...


class Place(Protocol):
    """A folder of files that are written once."""

    location: str

    def list_names(self) -> list[str]:
        """Return the names of the files, sorted; none if the folder does not exist. Raises OutputError."""
        ...

    def put(self, name: str, file: Path) -> bool:
        """Write a file atomically, unless it exists; return whether it was written. Raises OutputError."""
        ...

    def replace(self, name: str, file: Path) -> None:
        """Write a file atomically, replacing an existing one. Raises OutputError."""
        ...

    def open(self, name: str) -> BinaryIO | None:
        """Open a file for reading and seeking; None if it does not exist. Raises OutputError."""
        ...


def open_bytes(location: str, *, project: str | None = None) -> Bytes:
    """Open a local file or an object to read parts of it. Raises SourceError if it does not exist."""
    if not is_bucket_location(location):
        return _FileBytes(location)
    from wetread.runtime.gcs.shared_prefix import ObjectBytes

    return ObjectBytes(location, project)


def open_place(location: str, *, project: str | None = None) -> Place:
    """Open a local folder or a `gs://` prefix, without reading or creating anything yet."""
    if not is_bucket_location(location):
        return _Folder(location)
    from wetread.runtime.gcs.shared_prefix import Prefix

    return Prefix(location, project)


def put_file(location: str, file: Path, *, overwrite: bool, project: str | None = None) -> None:
    """Write a file atomically. Raises OutputError if the name exists, unless `overwrite`."""
    place, _, name = location.rpartition("/") if is_bucket_location(location) else _split(location)
    opened = open_place(place, project=project)
    if overwrite:
        opened.replace(name, file)
    elif not opened.put(name, file):
        raise OutputError(
            f"{location!r} already exists. Replace it with --overwrite, or choose another name."
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
                f"{self._location!r} cannot be read: {error.strerror}. Check the name."
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
                f"The folder {self.location!r} cannot be read or written: {error.strerror or error}. Check "
                "its name, its permissions and the space that is left."
            ) from error
