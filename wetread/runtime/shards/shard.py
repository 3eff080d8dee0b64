"""Shards: deterministic slices of a manifest, each scored by itself and written once, whole.

A shard's file holds its rows as JSON Lines and ends in one line, its record, with a digest of all that stands
above and of itself. It is written with a precondition, so that it is right however often a task runs: who
comes second holds what is there to its digest, and writes nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, BinaryIO

from wetread.errors import OutputError, UsageError
from wetread.runtime.entries import SHARD_SUFFIX, require_inputs
from wetread.runtime.scoring.classifier import Classifier
from wetread.runtime.scoring.rows import encode_rows
from wetread.runtime.scoring.run import (
    ScoreOptions,
    Stop,
    Tally,
    Watch,
    advance,
    make_record,
    recall_tally,
    run_identity,
    score_source,
)
from wetread.runtime.sources.manifest import Manifest
from wetread.runtime.sources.shared_folder import Place, open_place

_VERSION = 1
_NAME = re.compile(r"(\d{5,})-of-(\d{5,})\.jsonl" + re.escape(SHARD_SUFFIX))
_RECORD_BYTES = 1 << 20
_COPY_BYTES = 1 << 20


@dataclass(frozen=True, order=True)
class Shard:
    """Slice `index` (0 to count - 1) of `count`."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise UsageError(f"Expected a shard I/N with I from 0 to N-1. Received {self}.")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{self.index:05d}-of-{self.count:05d}.jsonl{SHARD_SUFFIX}"


def parse_shard(text: str) -> Shard:
    """Read `I/N`. Raises UsageError."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None:
        raise UsageError(f"Expected a shard I/N, such as 0/7. Received {text!r}.")
    return Shard(int(found[1]), int(found[2]))


def parse_name(name: str) -> Shard | None:
    """Tell whose file a name is; None for a name that is no shard's. Raises UsageError for 7-of-7."""
    found = _NAME.fullmatch(name)
    return Shard(int(found[1]), int(found[2])) if found else None


def cut_shard(manifest: Manifest, shard: Shard, *, batch_size: int) -> tuple[int, int]:
    """Number the first input of a shard and the first after it; chunks of the whole begin there."""
    first, last = (
        manifest.find_cut(manifest.names * index // shard.count, batch_size=batch_size)
        for index in (shard.index, shard.index + 1)
    )
    return first, last


@dataclass(frozen=True)
class Written:
    """A shard that stands written: its record, and how many bytes of rows are above it."""

    record: dict[str, Any]
    rows_bytes: int
    digest: str


class ShardScorer:
    """Scores shards of `options.from_manifest` into the folder or prefix `options.output`.

    One model, one session; shards come one after the other, in any order, any number of times. Raises
    UsageError for options that shards do not have, and SourceError for a manifest that cannot be used.
    """

    def __init__(self, classifier: Classifier, options: ScoreOptions) -> None:
        location, folder = check_options(options)
        options.check_model(classifier.spec)
        self._classifier, self._options = classifier, options
        self.manifest = open_manifest(location, options)
        self._place = open_place(folder, project=options.project)
        self._identity = run_identity(classifier, options)

    def score(self, shard: Shard, *, watch: Watch | None = None, stop: Stop | None = None) -> Tally:
        """Score a shard, or verify it if it is there. Arguments as of `score_to_file`. Raises OutputError."""
        found = read_shard(self._place, shard)
        if found is not None:
            self._check(found, shard)
            return recall_tally(found.record)
        with tempfile.TemporaryDirectory(prefix="wetread-shard-") as folder:
            spool = Path(folder) / shard.name
            tally, digest = self._score_into(spool, shard, watch, stop)
            if not tally.interrupted and not self._place.put(shard.name, spool):
                self._check_other(shard, digest)
        return tally

    def _score_into(
        self, spool: Path, shard: Shard, watch: Watch | None, stop: Stop | None
    ) -> tuple[Tally, str]:
        started, tally, digest = datetime.now(UTC), Tally(), hashlib.sha256()
        first, last = cut_shard(self.manifest, shard, batch_size=self._options.batch_size)
        entries, labels = self.manifest.list_range(first, last), self._classifier.spec.labels
        optional = self._options.list_optional(self._classifier.spec)
        with spool.open("wb") as file:
            for chunk in score_source(self._classifier, entries, self.manifest, self._options):
                start = perf_counter()
                data = encode_rows(chunk.predictions, labels, kind="jsonl", optional=optional)
                digest.update(data)
                file.write(data)
                tally.add_seconds("write", perf_counter() - start)
                if advance(tally, chunk, watch, stop):
                    return tally, ""
            rows = digest.hexdigest()
            head = {"version": _VERSION, "shard": [shard.index, shard.count], "inputs": [first, last]}
            head |= {"manifest_names": self.manifest.names, "optional": optional, "rows_sha256": rows}
            record = make_record(self._classifier, self._options, tally, started=started)
            file.write(_record_line(head | {"identity": self._identity} | record))
        return tally, rows

    def _check(self, found: Written, shard: Shard) -> None:
        check_same_run(self._identity, found.record, location=f"{self._place.location}/{shard.name}")

    def _check_other(self, shard: Shard, digest: str) -> None:
        """Hold a shard that another task wrote meanwhile to our own rows."""
        found = read_shard(self._place, shard)
        if found is not None:
            self._check(found, shard)
        if found is None or found.record["rows_sha256"] != digest:
            raise OutputError(
                f"Expected shard {shard} in {self._place.location!r} with the rows that were computed here. "
                "Received others, written meanwhile. Remove it, and run it again where it is computed right."
            )


def open_manifest(location: str, options: ScoreOptions) -> Manifest:
    """Open a manifest that lists something. Raises SourceError."""
    manifest = Manifest(location, project=options.project)
    if not manifest.names:
        require_inputs(manifest.entries(), manifest, allow_empty=options.allow_empty)
    return manifest


def check_options(options: ScoreOptions) -> tuple[str, str]:
    """Return the manifest and the folder that shards have. Raises UsageError for what they have not."""
    if options.from_manifest is None or options.output is None:
        raise UsageError("Expected --from-manifest M and --output FOLDER with shards. Received none.")
    if options.overwrite:
        raise UsageError(
            "Expected no --overwrite with shards: one is written once. Received it. Remove the shard's file "
            "to have it written anew, or choose another folder."
        )
    return options.from_manifest, options.output


def read_shard(place: Place, shard: Shard) -> Written | None:
    """Read a shard's record and hold all of it to its digest; None where there is none yet.

    Raises OutputError for a file that is not what was written, or another shard under this one's name.
    """
    file = place.open(shard.name)
    if file is None:
        return None
    with file:
        return verify_shard(file, shard, location=f"{place.location}/{shard.name}")


def check_same_run(identity: Mapping[str, Any], record: Mapping[str, Any], *, location: str) -> None:
    """Raise OutputError naming the first thing in which a shard's run was another."""
    other = record["identity"]
    for name in sorted({*identity, *other}):
        if identity.get(name) != other.get(name):
            raise OutputError(
                f"Expected shards of one run, with {name}: {identity.get(name)!r}. Received "
                f"{other.get(name)!r} in {location!r}. Remove it and score it again, or use another folder."
            )


def verify_shard(file: BinaryIO, shard: Shard, *, location: str) -> Written:
    """Hold an open shard to its digest and to its name. Raises OutputError."""
    rows_bytes, line = _find_record(file)
    try:
        record = json.loads(line)["record"]
        other = Shard(*record["shard"])
        rows_digest = _hash_rows(file, rows_bytes)
        whole = _record_line(record) == line and record["rows_sha256"] == rows_digest
    except (ValueError, KeyError, TypeError, UsageError):
        whole = False
    if not whole:
        raise OutputError(
            f"Expected {location!r} as it was written. Received something else, or a part of it. Remove it, "
            f"and score shard {shard} again."
        )
    if other != shard:
        raise OutputError(
            f"Expected shard {shard} in {location!r}. Received shard {other}, doubled under this name. "
            f"Remove it, and score shard {shard} again."
        )
    return Written(record, rows_bytes, rows_digest)


def _record_line(record: dict[str, Any]) -> bytes:
    text = json.dumps(record, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f'{{"record":{text},"sha256":"{digest}"}}\n'.encode()


def _find_record(file: BinaryIO) -> tuple[int, bytes]:
    """Where the last line of a file begins, and the line."""
    size = file.seek(0, os.SEEK_END)
    start = max(0, size - _RECORD_BYTES)
    file.seek(start)
    last = file.read(_RECORD_BYTES)
    at = last[:-1].rfind(b"\n") + 1
    return start + at, last[at:]


def _hash_rows(file: BinaryIO, length: int) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    while length:
        data = file.read(min(length, _COPY_BYTES))
        digest.update(data)
        length -= len(data) or length
    return digest.hexdigest()
