"""An output in a bucket: it appears under its name when it is complete, and can be resumed until then.

Nothing is kept on the machine, which may be gone when the run is resumed. During a run, rows are in part
objects under `scores.csv.part/RUN/`. After each part, a state object with its checksum is written; only parts
with one count. `scores.csv.part/head` identifies the run. At the end the service composes the parts under the
output's name in one step. A run that resumes rewrites the head, and every write names the generation that it
may replace: of two runs at the same time, one continues and the other fails with an error.
"""

from __future__ import annotations

import json
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from wetread.errors import OutputError
from wetread.runtime.entries import PART_SUFFIX, RECORD_SUFFIX
from wetread.runtime.gcs.client import WRITE_ROLE, Storage
from wetread.runtime.gcs.retry import StorageError
from wetread.runtime.gcs.writing import (
    Written,
    delete_object,
    find_object,
    join_objects,
    list_written,
    read_object,
    write_object,
)
from wetread.runtime.scoring.output import Output, check_identity
from wetread.runtime.scoring.row_encoding import Rows
from wetread.runtime.scoring.rows import convert_to_parquet

_HEAD_VERSION = 1
_RUN_NOTE = "wetread-run"
# A part is written when it has this many bytes, or when a kill would lose this many seconds: a fiftieth of
# the run so far, so that a long run has hundreds of parts and not thousands.
_PART_BYTES = 8 << 20
_PART_SECONDS = 5.0
_PART_SHARE = 0.02
_AT_ONCE = 16
_KINDS = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}


class BucketOutput(Output):
    """The only writer of an output in a bucket. Arguments as in `Output`; use `make_output`."""

    def __init__(
        self,
        path: str,
        *,
        labels: tuple[str, ...],
        kind: str,
        identity: Mapping[str, Any],
        storage: Storage,
        optional: tuple[str, ...] = (),
    ) -> None:
        super().__init__(path, labels=labels, kind=kind, identity=identity, optional=optional)
        self._storage = storage
        self._folder = path + PART_SUFFIX + "/"
        self._head: Written | None = None
        self._run = ""
        self._replaces = 0
        self._parts: list[Written] = []
        self._lines: list[dict[str, Any]] = []
        self._rows_held = bytearray()
        self._held_since = self._started = monotonic()

    def look(self) -> tuple[bool, bool]:
        """Return whether a finished output exists, and whether an unfinished one does."""
        with self._explained():
            final = find_object(self._storage, self.path)
            self._replaces = final.generation if final else 0
            self._head = find_object(self._storage, self._folder + "head")
        return final is not None, self._head is not None

    def is_finished(self) -> bool:
        """Whether the output is complete; leftovers of a finished run are removed."""
        exists, unfinished = self.look()
        if not exists or not unfinished:
            return exists
        with self._explained():
            final, run = find_object(self._storage, self.path), self._read_head()["run"]
            record = self.read_record() or {}
        if final is None or final.notes.get(_RUN_NOTE) != run or record.get("run") != run:
            return False
        self._clear()
        return True

    def read_record(self) -> dict[str, Any] | None:
        """Read the record beside the output; None if it does not exist or cannot be read."""
        try:
            record = json.loads(read_object(self._storage, self.path + RECORD_SUFFIX))
        except StorageError as error:
            if error.failure.kind == "missing":
                return None
            raise
        except ValueError:
            return None
        return record if isinstance(record, dict) else None

    def is_own_leftover(self) -> bool:
        """Whether an unfinished output has this run's identity."""
        with self._explained():
            return bool(self._read_head().get("identity") == self.identity)

    def _measure(self) -> dict[str, Any]:
        """Get the size and checksum of the output from its metadata, without reading it."""
        with self._explained():
            final = find_object(self._storage, self.path)
        return _measured(final) if final else {"bytes": 0}

    def hold(self) -> None:
        """Do nothing: in a bucket the head's generation takes the place of a lock."""

    def start(self) -> None:
        """Start again, replacing an unfinished output."""
        self._run = uuid.uuid4().hex
        head = {
            "version": _HEAD_VERSION,
            "run": self._run,
            "replaces": self._replaces,
            "identity": self.identity,
        }
        with self._explained():
            old = list_written(self._storage, self._folder)
            self._write_head(head)
            for written in old:
                if not written.location.endswith("/head"):
                    delete_object(self._storage, written)
        self._begin()

    def _write_head(self, head: Mapping[str, Any]) -> None:
        data = json.dumps(head, indent=2).encode()
        match = self._head.generation if self._head else 0
        self._head = write_object(
            self._storage, self._folder + "head", data, match=match, kind="application/json"
        )

    def _begin(self) -> None:
        if not self._parts:
            self._rows_held += self._header()
            self.progress.bytes = len(self._rows_held)
        self._held_since = self._started = monotonic()

    def resume(self) -> None:
        """Continue after the last part that has a state, as the only run from now on.

        Raises OutputError, which names the difference, if the unfinished run has another identity.
        """
        if self._head is None:
            self.start()
            return
        with self._explained():
            head = self._read_head()
            check_identity(head.get("identity", {}), self.identity, output=self.path)
            self._run, self._replaces = head["run"], head["replaces"]
            self._write_head(head)
            self._read_parts()
        self._begin()

    def _read_head(self) -> dict[str, Any]:
        head = json.loads(read_object(self._storage, self._folder + "head"))
        if not isinstance(head, dict) or head.get("version") != _HEAD_VERSION:
            raise OutputError(
                f"The unfinished output at {self.path!r} is from another version of wetread. Use --overwrite "
                "to start again."
            )
        return head

    def _read_parts(self) -> None:
        """Take over every part that has a state; remove the others."""
        found = {written.location: written for written in list_written(self._storage, self._folder)}
        states = [location for location in found if location.endswith(".state")]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            texts = list(pool.map(lambda location: read_object(self._storage, location), states))
        for number, (location, text) in enumerate(zip(states, texts, strict=True)):
            first, *lines = (json.loads(line) for line in text.splitlines())
            rows = found.get(first["rows"])
            if location != self._state_name(number) or not rows or rows.generation != first["generation"]:
                raise OutputError(
                    f"A part of {self.path!r} has changed since it was written: {location!r}. Use "
                    "--overwrite to start again."
                )
            self._parts.append(rows)
            self.progress.bytes += first["header"]
            for line in lines:
                self._advance(line)
                self.progress.marks.append(line["marks"])
        kept = {part.location for part in self._parts} | set(states) | {self._folder + "head"}
        for written in found.values():
            if written.location not in kept:
                delete_object(self._storage, written)

    def _state_name(self, number: int) -> str:
        return f"{self._folder}{self._run}/{number:08d}.state"

    def write_rows(self, rows: Rows) -> None:
        """Add a chunk's rows; at intervals, write them as a part. Raises OutputError."""
        line = rows.describe()
        self._rows_held += rows.data
        self._lines.append(line)
        self._advance(line)
        now = monotonic()
        patience = max(_PART_SECONDS, _PART_SHARE * (now - self._started))
        if len(self._rows_held) >= _PART_BYTES or now - self._held_since >= patience:
            self._flush()

    def _flush(self) -> None:
        """Write the collected rows as one part, then its state."""
        if not self._rows_held:
            return
        number, data = len(self._parts), bytes(self._rows_held)
        name = f"{self._folder}{self._run}/{number:08d}-{uuid.uuid4().hex}.rows"
        header = len(data) - sum(line["bytes"] for line in self._lines)
        with self._explained():
            self._check_head()
            rows = write_object(self._storage, name, data, match=0)
            first = {"rows": name, "generation": rows.generation, "header": header}
            text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in (first, *self._lines))
            write_object(self._storage, self._state_name(number), text.encode(), match=0)
        self._parts.append(rows)
        self._rows_held, self._lines = bytearray(), []
        self._held_since = monotonic()

    def _check_head(self) -> None:
        head = find_object(self._storage, self._folder + "head")
        if head is None or self._head is None or head.generation != self._head.generation:
            raise self._taken()

    def finish(self, record: Mapping[str, Any]) -> None:
        """Give the output its name, then its record, and remove the parts. Raises OutputError.

        The output's size and checksum are added to `record`.
        """
        self._flush()
        with self._explained():
            self._check_head()
            final, old = find_object(self._storage, self.path), find_object(self._storage, self._record_name)
            if final is None or final.notes.get(_RUN_NOTE) != self._run:
                if (final.generation if final else 0) != self._replaces:
                    raise self._taken()
                if old is not None:  # if killed here, no run's record is beside another's rows
                    delete_object(self._storage, old)
                final, old = self._appear(), None
            text = json.dumps({**record, "run": self._run, "output": _measured(final)}, indent=2) + "\n"
            match = old.generation if old else 0
            write_object(
                self._storage, self._record_name, text.encode(), match=match, kind="application/json"
            )
            self._clear()

    @property
    def _record_name(self) -> str:
        return self.path + RECORD_SUFFIX

    def _appear(self) -> Written:
        """Make the complete output visible in one step, replacing the one that existed when the run began."""
        storage, path, match, notes = self._storage, self.path, self._replaces, {_RUN_NOTE: self._run}
        kind = _KINDS[self.kind]
        if self.kind == "parquet":
            with tempfile.TemporaryDirectory() as folder:
                whole = self._convert(Path(folder))
                return write_object(storage, path, whole, match=match, kind=kind, notes=notes)
        if not self._parts:  # JSON Lines without rows
            return write_object(storage, path, b"", match=match, kind=kind, notes=notes)
        return join_objects(storage, path, self._parts, match=match, kind=kind, notes=notes)

    def _convert(self, folder: Path) -> Path:
        spool, whole = folder / "rows.jsonl", folder / "rows.parquet"
        with spool.open("wb") as file:
            for part in self._parts:
                file.write(read_object(self._storage, part.location))
        convert_to_parquet(spool, str(whole), self.labels, optional=self.optional)
        return whole

    def _clear(self) -> None:
        """Remove what resuming needed, the head last: until then, the rest is known to be this run's."""
        with self._explained():
            left = list_written(self._storage, self._folder)
            heads = [written for written in left if written.location.endswith("/head")]
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                others = (written for written in left if written not in heads)
                list(pool.map(lambda written: delete_object(self._storage, written), others))
            for head in heads:
                delete_object(self._storage, head)
        self._head = None

    def close(self) -> None:
        """Write the collected rows, so that the run can be resumed."""
        if self._head is not None:
            self._flush()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except StorageError as error:
            if error.failure.kind == "precondition":
                raise self._taken() from error
            words = self._storage.explain(
                error.failure, self.path, need="storage.objects.create", role=WRITE_ROLE
            )
            raise OutputError(words) from error

    def _taken(self) -> OutputError:
        self._head = None
        return OutputError(
            f"Another run has written to {self.path!r} since this one began. Let that one end, or choose "
            "another output."
        )


def _measured(final: Written) -> dict[str, Any]:
    return {"bytes": final.size, "crc32c": final.checksum}
