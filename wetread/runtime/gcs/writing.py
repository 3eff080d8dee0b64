"""Writing objects: whole or not at all, and never over what somebody else wrote meanwhile.

Every write is conditional on the generation that the writer knows (0: nothing there). A write whose answer
was lost on the way is recognised by a mark in the object's metadata, so that trying again cannot take our
own object for a stranger's.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from wetread.runtime.entries import Entry
from wetread.runtime.gcs.answers import AnswerError, describe_entry, parse_notes
from wetread.runtime.gcs.client import Storage, split_location
from wetread.runtime.gcs.retry import StorageError

_MARK = "wetread-write"
# A request is tried again by our own policy alone.
_ONCE: dict[str, Any] = {"retry": None, "timeout": 120.0}
# The service joins at most so many objects in one request.
_MOST_PARTS = 32


@dataclass(frozen=True)
class Written:
    """An object as it stands: its location, generation, size and crc32c, and what was noted on it."""

    location: str
    generation: int
    size: int
    checksum: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)


def find_object(storage: Storage, location: str) -> Written | None:
    """Ask what stands at a location; None for nothing. Raises StorageError."""

    def ask() -> Written:
        return _written(location, storage.ask(_blob(storage, location).path))

    try:
        return storage.call(ask)
    except StorageError as error:
        if error.failure.status == 404:
            return None
        raise


def _blob(storage: Storage, location: str, generation: int | None = None) -> Any:
    bucket, name = split_location(location)
    return storage.bucket(bucket).blob(name, generation=generation)


def read_object(storage: Storage, location: str) -> bytes:
    """Return an object's bytes, held to their checksum. Raises StorageError."""

    def read() -> bytes:
        found: bytes = _blob(storage, location).download_as_bytes(checksum="crc32c", **_ONCE)
        return found

    return storage.call(read)


def read_range(storage: Storage, written: Written, *, start: int, length: int) -> bytes:
    """Return a part of one generation of an object, held to no checksum. Raises StorageError."""

    def read() -> bytes:
        found: bytes = _blob(storage, written.location, written.generation).download_as_bytes(
            start=start, end=start + length - 1, raw_download=True, checksum=None, **_ONCE
        )
        return found

    return storage.call(read)


def fetch_object(storage: Storage, location: str, file: BinaryIO) -> None:
    """Write an object's bytes, held to their checksum, into an empty file. Raises StorageError."""

    def fetch() -> None:
        file.seek(0)
        file.truncate()
        _blob(storage, location).download_to_file(file, checksum="crc32c", **_ONCE)

    storage.call(fetch)


def write_object(
    storage: Storage,
    location: str,
    data: bytes | Path,
    *,
    match: int | None,
    kind: str = "application/octet-stream",
    notes: Mapping[str, str] | None = None,
) -> Written:
    """Write bytes, or a local file, as one object that appears when it is whole.

    `match`: the generation that must stand there now, 0 for nothing, None for whatever it is. `kind` is
    the content type. Raises StorageError, of kind 'precondition' when something else stands there.
    """

    def send(blob: Any) -> None:
        options = {"if_generation_match": match, "checksum": "crc32c", **_ONCE}
        if isinstance(data, Path):
            blob.upload_from_filename(str(data), content_type=kind, **options)
        else:
            blob.upload_from_string(data, content_type=kind, **options)

    return _settle(storage, location, send, notes=notes or {})


def join_objects(
    storage: Storage,
    location: str,
    parts: list[Written],
    *,
    match: int | None,
    kind: str,
    notes: Mapping[str, str],
) -> Written:
    """Join objects of one bucket, in order, into one that appears when it is whole.

    More than 32 are joined in steps, through objects beside the first part. Arguments and errors as in
    `write_object`; a part of another generation fails it.
    """
    step = 0
    while len(parts) > _MOST_PARTS:
        groups = [parts[at : at + _MOST_PARTS] for at in range(0, len(parts), _MOST_PARTS)]
        names = [
            f"{parts[0].location}-joined-{step}-{index}-{uuid.uuid4().hex}" for index in range(len(groups))
        ]
        parts = [
            _join(storage, name, group, match=0, kind=kind, notes={})
            for name, group in zip(names, groups, strict=True)
        ]
        step += 1
    return _join(storage, location, parts, match=match, kind=kind, notes=notes)


def _join(
    storage: Storage,
    location: str,
    parts: list[Written],
    *,
    match: int | None,
    kind: str,
    notes: Mapping[str, str],
) -> Written:
    generations = [part.generation for part in parts]

    def send(blob: Any) -> None:
        blob.content_type = kind
        sources = [
            blob.bucket.blob(split_location(part.location)[1], generation=part.generation) for part in parts
        ]
        blob.compose(
            sources,
            if_generation_match=match,
            if_source_generation_match=generations,
            **_ONCE,
        )

    return _settle(storage, location, send, notes=notes)


def _settle(
    storage: Storage, location: str, send: Callable[[Any], None], *, notes: Mapping[str, str]
) -> Written:
    """Send a write until it is answered, and tell our own object from a stranger's."""
    mark = uuid.uuid4().hex

    def write() -> Written:
        blob = _blob(storage, location)
        blob.metadata = {**notes, _MARK: mark}
        send(blob)
        return _written(location, blob._properties)

    try:
        return storage.call(write)
    except StorageError as error:
        # An earlier attempt may have succeeded although its answer never came.
        found = find_object(storage, location) if error.failure.kind == "precondition" else None
        if found is None or found.notes.get(_MARK) != mark:
            raise
        return found


def delete_object(storage: Storage, written: Written) -> None:
    """Remove one generation of an object; one that is gone already is as good. Raises StorageError."""

    def delete() -> None:
        _blob(storage, written.location).delete(if_generation_match=written.generation, retry=None)

    try:
        storage.call(delete)
    except StorageError as error:
        if error.failure.kind not in ("missing", "precondition"):
            raise


def list_written(storage: Storage, prefix: str) -> list[Written]:
    """List what stands under a location that ends in `/`, in byte order of names. Raises StorageError."""
    from wetread.runtime.gcs.listing import list_objects

    bucket, name = split_location(prefix)
    entries = list_objects(storage, bucket, name)
    with storage.judging():
        return [_make_written(entry, {}) for entry in entries]


def _written(location: str, answer: object) -> Written:
    """What an answer says of an object. Raises AnswerError."""
    entry = describe_entry(answer, location=location)
    assert isinstance(answer, dict)
    return _make_written(entry, parse_notes(answer))


def _make_written(entry: Entry, notes: Mapping[str, str]) -> Written:
    if not entry.version:
        raise AnswerError(f"a description of {entry.name!r} without its generation")
    if entry.size is None and entry.checksum:
        raise AnswerError(f"a description of {entry.name!r} without its size")
    return Written(entry.name, int(entry.version), entry.size or 0, entry.checksum, notes)
