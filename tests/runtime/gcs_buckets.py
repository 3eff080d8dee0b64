"""The buckets of the loopback Cloud Storage server: objects, generations, preconditions, listing, compose."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import threading
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import google_crc32c

_GENERATIONS = itertools.count(1_700_000_000_000_000)


class Refusal(Exception):  # noqa: N818
    """An answer other than success: the HTTP status, and the reason and message of its JSON body."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message

    def body(self) -> bytes:
        """The JSON that Cloud Storage answers with."""
        error = {"domain": "global", "reason": self.reason, "message": self.message}
        return json.dumps(
            {"error": {"code": self.status, "message": self.message, "errors": [error]}}
        ).encode()


@dataclass(frozen=True, slots=True)
class Stored:
    """One object, in one generation."""

    data: bytes
    crc32c: str
    generation: int
    content_type: str = "application/octet-stream"
    content_encoding: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    components: int = 0

    def resource(self, bucket: str, name: str) -> dict[str, object]:
        """The object as the JSON API describes it."""
        found: dict[str, object] = {
            "kind": "storage#object",
            "id": f"{bucket}/{name}/{self.generation}",
            "bucket": bucket,
            "name": name,
            "size": str(len(self.data)),
            "generation": str(self.generation),
            "metageneration": "1",
            "crc32c": self.crc32c,
            "contentType": self.content_type,
            "updated": "2026-11-22T00:00:00.000Z",
            "metadata": dict(self.metadata),
        }
        if self.content_encoding:
            found["contentEncoding"] = self.content_encoding
        if self.components:
            found["componentCount"] = self.components
        else:
            found["md5Hash"] = base64.b64encode(hashlib.md5(self.data).digest()).decode()
        return found


def checksum(data: bytes) -> str:
    """The crc32c of bytes as Cloud Storage writes it: base64 of four bytes, big-endian."""
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


class Buckets:
    """All the buckets of one server; safe to share between its threads."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[str, Stored]] = {}
        self._names: dict[str, list[bytes]] = {}
        self._lock = threading.RLock()

    def create(self, bucket: str) -> None:
        """Make an empty bucket."""
        with self._lock:
            self._objects.setdefault(bucket, {})
            self._names.setdefault(bucket, [])

    def drop(self, bucket: str) -> None:
        """Remove a bucket with all that it holds, if it is there."""
        with self._lock:
            self._objects.pop(bucket, None)
            self._names.pop(bucket, None)

    def put(
        self,
        bucket: str,
        name: str,
        data: bytes,
        *,
        conditions: Mapping[str, str] | None = None,
        like: Stored | None = None,
    ) -> Stored:
        """Store an object as a new generation, if the preconditions hold; `like` gives the rest of it."""
        crc = checksum(data)
        with self._lock:
            self._check(bucket, name, conditions or {})
            shape = like or Stored(b"", "", 0)
            stored = replace(shape, data=data, crc32c=crc, generation=next(_GENERATIONS))
            self._insert(bucket, name, stored)
            return stored

    def _insert(self, bucket: str, name: str, stored: Stored) -> None:
        if name not in self._objects[bucket]:
            insort(self._names[bucket], name.encode())
        self._objects[bucket][name] = stored

    def fill(self, bucket: str, folder: str, *, count: int = 0, prefix: str = "") -> int:
        """Store a folder's files under `prefix`, repeated under numbered folders until there are `count`."""
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        made = []
        for path in files:
            data = path.read_bytes()
            stored = Stored(data, checksum(data), next(_GENERATIONS))
            made.append((path.relative_to(folder).as_posix(), stored))
        with self._lock:
            self.create(bucket)
            for index in range(count or len(made)):
                name, stored = made[index % len(made)]
                again = f"{index // len(made):06d}/" if count else ""
                self._objects[bucket][f"{prefix}{again}{name}"] = stored
            self._names[bucket] = sorted(name.encode() for name in self._objects[bucket])
            return len(self._names[bucket])

    def get(self, bucket: str, name: str, *, generation: str = "") -> Stored:
        """Return an object, of one generation if one is asked for."""
        with self._lock:
            found = self._bucket(bucket).get(name)
        if found is None or (generation and str(found.generation) != generation):
            raise Refusal(404, "notFound", f"No such object: {bucket}/{name}")
        return found

    def delete(self, bucket: str, name: str, *, conditions: Mapping[str, str] | None = None) -> None:
        """Remove an object, if the preconditions hold."""
        with self._lock:
            self.get(bucket, name)
            self._check(bucket, name, conditions or {})
            del self._objects[bucket][name]
            del self._names[bucket][bisect_left(self._names[bucket], name.encode())]

    def compose(
        self,
        bucket: str,
        name: str,
        sources: list[dict[str, object]],
        *,
        conditions: Mapping[str, str],
        like: Stored,
    ) -> Stored:
        """Join up to 32 objects into one."""
        if not 1 <= len(sources) <= 32:
            raise Refusal(400, "invalid", "The number of source components must be between 1 and 32.")
        with self._lock:
            parts = []
            for source in sources:
                part = self.get(bucket, str(source["name"]))
                wanted = source.get("objectPreconditions") or {}
                if str(wanted.get("ifGenerationMatch", part.generation)) != str(part.generation):  # type: ignore[attr-defined]
                    raise Refusal(412, "conditionNotMet", "At least one of the pre-conditions did not hold.")
                parts.append(part)
            components = sum(part.components or 1 for part in parts)
            whole = b"".join(part.data for part in parts)
            return self.put(
                bucket, name, whole, conditions=conditions, like=replace(like, components=components)
            )

    def page(self, bucket: str, *, prefix: str, after: str, start: str, limit: int) -> tuple[list[str], bool]:
        """One page of names with a prefix, after a name, in byte order; and whether there are more."""
        with self._lock:
            self._bucket(bucket)
            names, lead = self._names[bucket], prefix.encode()
            at = bisect_left(names, max(lead, start.encode(), after.encode() + b"\0" if after else b""))
            found = list(itertools.islice(self._run(names, at, lead), limit + 1))
        return found[:limit], len(found) > limit

    @staticmethod
    def _run(names: list[bytes], at: int, lead: bytes) -> Iterator[str]:
        while at < len(names) and names[at].startswith(lead):
            yield names[at].decode()
            at += 1

    def names(self, bucket: str) -> list[str]:
        """Every name of a bucket, in byte order."""
        with self._lock:
            return [name.decode() for name in self._names[bucket]]

    def _bucket(self, bucket: str) -> dict[str, Stored]:
        if bucket not in self._objects:
            raise Refusal(404, "notFound", "The specified bucket does not exist.")
        return self._objects[bucket]

    def _check(self, bucket: str, name: str, conditions: Mapping[str, str]) -> None:
        wanted = conditions.get("ifGenerationMatch")
        found = self._bucket(bucket).get(name)
        if wanted is not None and int(wanted) != (found.generation if found else 0):
            raise Refusal(
                412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold."
            )
