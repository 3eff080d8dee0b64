"""Follow a scores file: finished, still growing (`watch`, or `scores.csv.part` of a run), or replaced.

    file = ScoresFile("scores.csv")
    for batch in file.read_new(): ...     # rows that came since; file.generation changes when it began anew
        batch[file.columns.index("path")]     # the texts of one column

CSV and JSON Lines are read on from where the last whole row ended. Parquet appears when it is whole, and is
read then; until then its rows grow as JSON Lines.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from wetread.errors import SourceError
from wetread.runtime.entries import JOURNAL_SUFFIX, PART_SUFFIX, RECORD_SUFFIX
from wetread.runtime.scoring.output import read_record
from wetread.runtime.scoring.rows import choose_format, import_parquet

# The texts of each column, all of one length above 0, in the order of `ScoresFile.columns`.
Batch = list[Sequence[str]]
_NEEDED = ("path", "status", "label", "probability")
_TAIL_BYTES = 4096
_FIRST_BYTES, _PIECE_BYTES = 64 << 10, 1 << 20  # what is no scores file is found in the first of them
_PARQUET_ROWS = 10_000


class ScoresFile:
    """Rows of a scores file in order, as texts, `columns` naming them. `generation` counts beginnings.

    Raises UsageError for a name that is none of an output.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.generation = 0
        self.columns: tuple[str, ...] = ()
        self._kind = choose_format(path)
        self._at = 0  # where the last whole row ended
        self._tail = b""  # the bytes before that, by which a file that was replaced is told
        self._state: tuple[int, int] | None = None

    @property
    def is_growing(self) -> bool:
        """Whether rows may still come: the output of a run that goes on, or of a watch."""
        return not os.path.exists(self.path) or os.path.exists(self.path + JOURNAL_SUFFIX)

    def find(self) -> str:
        """Return the present name of the file with the rows. Raises SourceError if there is none."""
        for name in (self.path, self.path + PART_SUFFIX):
            if os.path.isfile(name):
                return name
        raise SourceError(
            f"There is no file {self.path!r} with rows of `wetread score`, `watch` or `merge`. "
            "Check the name."
        )

    def read_head(self) -> dict[str, Any]:
        """What the file's record, or that of a run under way, knows of the model; {} where nothing does."""
        record = read_record(self.path)
        return record if record is not None else self._read_identity()

    def _read_identity(self) -> dict[str, Any]:
        for suffix in (PART_SUFFIX + ".state", JOURNAL_SUFFIX):
            try:
                with open(self.path + suffix, encoding="utf-8", errors="surrogateescape") as lines:
                    found = json.loads(lines.readline())
            except (OSError, ValueError):
                continue
            if isinstance(found, dict) and isinstance(found.get("identity"), dict):
                return {"identity": found["identity"]}
        return {}

    def read_new(self) -> Iterator[Batch]:
        """Yield what came since the last call, in batches. Raises SourceError.

        Where the file is another than before, `generation` has grown when the first batch comes, which then
        is the file's first.
        """
        try:
            name = self.find()
            if name.lower().endswith(".parquet"):
                yield from self._read_parquet(name)
            else:
                yield from self._read_lines(name)
        except (OSError, ValueError, KeyError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise SourceError(f"The rows of {self.path!r} cannot be read: {reason}.") from error

    def _begin(self) -> None:
        self.generation += 1
        self.columns, self._at, self._tail = (), 0, b""

    def _read_lines(self, name: str) -> Iterator[Batch]:
        with open(name, "rb") as file:
            if not self._goes_on(file):
                self._begin()
            while piece := self._read_piece(file):
                self._at += len(piece)
                self._tail = (self._tail + piece[-_TAIL_BYTES:])[-_TAIL_BYTES:]
                batch = self._parse(piece)
                if batch:
                    yield batch

    def _goes_on(self, file: io.BufferedReader) -> bool:
        """Tell whether the file still holds what was read of it."""
        if not self.generation or file.seek(0, os.SEEK_END) < self._at:
            return False
        file.seek(self._at - len(self._tail))
        return file.read(len(self._tail)) == self._tail

    def _read_piece(self, file: io.BufferedReader) -> bytes:
        """The next whole rows, some megabytes of them at the most; b'' where there is none yet."""
        size = _PIECE_BYTES if self._at else _FIRST_BYTES
        while True:
            file.seek(self._at)
            data = file.read(size)
            end = _find_end(data, quoted=self._is_csv(file.name))
            if end or len(data) < size:
                return data[:end]
            size *= 2  # one row that is larger than a piece

    def _is_csv(self, name: str) -> bool:
        return name.lower().removesuffix(PART_SUFFIX).endswith(".csv")

    def _parse(self, piece: bytes) -> Batch:
        text = piece.decode("utf-8", "surrogateescape")
        if self._kind != "csv":
            return self._parse_json(text.split("\n"))
        if not self.columns:
            lines = io.StringIO(text.removeprefix("\ufeff"), newline="")
            self.columns = _check_columns(next(csv.reader(lines)), self.path)
            text = lines.read()
        width = len(self.columns)
        return _split_plain(text, width) or _turn(_read_csv(text, width))

    def _parse_json(self, lines: Sequence[str]) -> Batch:
        found = [json.loads(line) for line in lines if line.strip()]
        if found and not self.columns:
            self.columns = _check_columns(list(found[0]), self.path)
        return _turn([[_write_text(row.get(name)) for name in self.columns] for row in found])

    def _read_parquet(self, name: str) -> Iterator[Batch]:
        status = os.stat(name)
        state = (status.st_size, status.st_mtime_ns)
        if state == self._state:
            return
        _, parquet = import_parquet()
        self._begin()
        with parquet.ParquetFile(name) as file:
            names = [column for column in file.schema_arrow.names if column != "path_bytes"]
            self.columns = _check_columns(names, name)
            for batch in file.iter_batches(_PARQUET_ROWS):
                yield _turn([self._read_parquet_row(row) for row in batch.to_pylist()])
        self._state = state

    def _read_parquet_row(self, row: dict[str, Any]) -> list[str]:
        exact = row.get("path_bytes")
        values = [_write_text(row[name]) for name in self.columns]
        if exact is not None:
            values[self.columns.index("path")] = exact.decode("utf-8", "surrogateescape")
        return values


def _find_end(data: bytes, *, quoted: bool) -> int:
    """Where the last whole row of some bytes ends: a line's end within quotes is none."""
    end = data.rfind(b"\n") + 1
    while quoted and end and data.count(b'"', 0, end) % 2:
        end = data.rfind(b"\n", 0, end - 1) + 1
    return end


def _read_csv(text: str, width: int) -> list[list[str]]:
    """Read rows of CSV, filled or cut to a width; an empty line is none."""
    rows = csv.reader(io.StringIO(text, newline=""))
    return [row if len(row) == width else (row + [""] * width)[:width] for row in rows if row]


def _turn(rows: list[list[str]]) -> Batch:
    """Return the columns of rows that are equally long."""
    return list(zip(*rows, strict=True))


def _split_plain(text: str, width: int) -> Batch | None:
    """Split whole rows of CSV by their commas: `_read_csv` takes three times as long.

    None for a text that it would read differently: with quotes, carriage returns, empty lines, or rows of
    another width.
    """
    if '"' in text or "\r" in text:
        return None
    lines = text.removesuffix("\n").split("\n")
    if {line.count(",") for line in lines} != {width - 1}:
        return None
    cells = ",".join(lines).split(",")
    return [cells[column::width] for column in range(width)]


def _check_columns(names: list[str], path: str) -> tuple[str, ...]:
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        raise SourceError(
            f"{path!r} must have the columns {', '.join(_NEEDED)}, and lacks {', '.join(missing)}. Name a "
            "file that `wetread score`, `watch` or `merge` wrote."
        )
    return tuple(names)


def _write_text(value: Any) -> str:
    """A value as CSV writes it; probabilities of Parquet are float32."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def stage_scores(location: str, folder: str) -> str:
    """Fetch a scores file of a bucket, and its record, into a folder; return its name there.

    Raises SourceError where it is not there.
    """
    from wetread.errors import WetreadError
    from wetread.runtime.gcs.bucket_folder import read_file

    place = Path(folder, location.rpartition("/")[2])
    place.write_bytes(read_file(location))
    try:
        Path(f"{place}{RECORD_SUFFIX}").write_bytes(read_file(location + RECORD_SUFFIX))
    except WetreadError:
        return str(place)  # rows without a record: of a user's own
    return str(place)
