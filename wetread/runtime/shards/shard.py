"""Shards: deterministic parts of a manifest, each scored separately and written once, atomically.

A shard's file has its rows as JSON Lines; the last line is its record, with a digest of the rows and of the
record itself. It is written only if it does not exist, so a task may run any number of times: a second task
verifies the digest of the existing file and writes nothing.
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
    """Part `index` (0 to count - 1) of `count`."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise UsageError(f"--shard I/N needs I from 0 to N-1, and is {self}.")

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
        raise UsageError(f"--shard must be I/N, such as 0/7, not {text!r}.")
    return Shard(int(found[1]), int(found[2]))


def parse_name(name: str) -> Shard | None:
    """Return the shard that a file name belongs to; None for another name. Raises UsageError for 7-of-7."""
    found = _NAME.fullmatch(name)
    return Shard(int(found[1]), int(found[2])) if found else None


def cut_shard(manifest: Manifest, shard: Shard, *, batch_size: int) -> tuple[int, int]:
    """Return the numbers of a shard's first input and of the first after it; chunks begin at both."""
    first, last = (
        manifest.find_cut(manifest.names * index // shard.count, batch_size=batch_size)
        for index in (shard.index, shard.index + 1)
    )
    return first, last


@dataclass(frozen=True)
class Written:
    """A shard that is written: its record, and the number of bytes of its rows."""

    record: dict[str, Any]
    rows_bytes: int
    digest: str


class ShardScorer:
    """Scores shards of `options.from_manifest` into the folder or prefix `options.output`.

    It uses one model and one session. Shards are scored one after the other, in any order, any number of
    times. Raises UsageError for options that shards do not have, and SourceError for a manifest that cannot
    be used.
    """

    def __init__(self, classifier: Classifier, options: ScoreOptions) -> None:
        location, folder = check_options(options)
        options.check_model(classifier.spec)
        self._classifier, self._options = classifier, options
        self.manifest = open_manifest(location, options)
        self._place = open_place(folder, project=options.project)
        self._identity = run_identity(classifier, options)

    def score(self, shard: Shard, *, watch: Watch | None = None, stop: Stop | None = None) -> Tally:
        """Score a shard, or verify it if it exists. Arguments as in `score_to_file`. Raises OutputError."""
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
        entries = self.manifest.list_range(first, last)
        optional = self._options.list_optional(self._classifier.spec)
        with spool.open("wb") as file:
            for rows in score_source(self._classifier, entries, self.manifest, self._options, kind="jsonl"):
                start = perf_counter()
                digest.update(rows.data)
                file.write(rows.data)
                tally.add_seconds("write", perf_counter() - start)
                if advance(tally, rows, watch, stop):
                    return tally, ""
            rows_digest = digest.hexdigest()
            head = {"version": _VERSION, "shard": [shard.index, shard.count], "inputs": [first, last]}
            head |= {"manifest_names": self.manifest.names, "optional": optional, "rows_sha256": rows_digest}
            record = make_record(self._classifier, self._options, tally, started=started)
            file.write(_record_line(head | {"identity": self._identity} | record))
        return tally, rows_digest

    def _check(self, found: Written, shard: Shard) -> None:
        check_same_run(self._identity, found.record, location=f"{self._place.location}/{shard.name}")

    def _check_other(self, shard: Shard, digest: str) -> None:
        """Compare a shard that another task wrote meanwhile with the rows computed here."""
        found = read_shard(self._place, shard)
        if found is not None:
            self._check(found, shard)
        if found is None or found.record["rows_sha256"] != digest:
            raise OutputError(
                f"Shard {shard} in {self._place.location!r} was written meanwhile, with other rows than "
                "those computed here. Find out which machine is wrong, remove the shard and score it again."
            )


def open_manifest(location: str, options: ScoreOptions) -> Manifest:
    """Open a manifest with at least one input. Raises SourceError."""
    manifest = Manifest(location, project=options.project)
    if not manifest.names:
        require_inputs(manifest.entries(), manifest, allow_empty=options.allow_empty)
    return manifest


def check_options(options: ScoreOptions) -> tuple[str, str]:
    """Return the manifest and the output folder. Raises UsageError for options that shards do not have."""
    if options.from_manifest is None or options.output is None:
        raise UsageError("Shards need --from-manifest M and --output FOLDER.")
    if options.overwrite:
        raise UsageError(
            "--overwrite cannot be used with shards, which are written only once. Remove the shard's file to "
            "score it again, or choose another folder."
        )
    return options.from_manifest, options.output


def read_shard(place: Place, shard: Shard) -> Written | None:
    """Read a shard's record and verify the file's digest; None if the shard does not exist yet.

    Raises OutputError for a file that has changed, or another shard under this one's name.
    """
    file = place.open(shard.name)
    if file is None:
        return None
    with file:
        return verify_shard(file, shard, location=f"{place.location}/{shard.name}")


def check_same_run(identity: Mapping[str, Any], record: Mapping[str, Any], *, location: str) -> None:
    """Raise OutputError, which names the first difference, if a shard is of another run."""
    other = record["identity"]
    for name in sorted({*identity, *other}):
        if identity.get(name) != other.get(name):
            raise OutputError(
                f"{location!r} is of another run, with {name} {other.get(name)!r}, not "
                f"{identity.get(name)!r}. Remove it and score it again, or use another folder."
            )


def verify_shard(file: BinaryIO, shard: Shard, *, location: str) -> Written:
    """Verify an open shard's digest and its name. Raises OutputError."""
    rows_bytes, line = _find_record(file)
    try:
        record = json.loads(line)["record"]
        other = Shard(*record["shard"])
        rows_digest = _hash_rows(file, rows_bytes)
        whole = _record_line(record) == line and record["rows_sha256"] == rows_digest
    except (ValueError, KeyError, TypeError, UsageError):
        whole = False
    if not whole:
        raise OutputError(f"{location!r} is damaged or incomplete. Remove it, and score shard {shard} again.")
    if other != shard:
        raise OutputError(
            f"{location!r} has the name of shard {shard}, but is a copy of shard {other}. Remove it, and "
            f"score shard {shard} again."
        )
    return Written(record, rows_bytes, rows_digest)


def _record_line(record: dict[str, Any]) -> bytes:
    text = json.dumps(record, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f'{{"record":{text},"sha256":"{digest}"}}\n'.encode()


def _find_record(file: BinaryIO) -> tuple[int, bytes]:
    """Return the last line of a file and the position where it begins."""
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
