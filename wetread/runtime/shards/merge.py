"""Merge shards into the output that a run without shards writes, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, BinaryIO

from wetread.errors import OutputError, SourceError
from wetread.runtime.entries import SHARD_SUFFIX, Entry
from wetread.runtime.scoring.batches import Chunk, Seconds
from wetread.runtime.scoring.output import Output, check_free, open_output
from wetread.runtime.scoring.output_opening import make_output
from wetread.runtime.scoring.row_encoding import encode_chunk
from wetread.runtime.scoring.rows import Prediction, choose_format, decode_row, import_parquet
from wetread.runtime.scoring.run import Stop, Tally, Watch, advance
from wetread.runtime.shards.shard import Shard, check_same_run, parse_name, verify_shard
from wetread.runtime.sources.shared_folder import Place, open_place

_ROWS = 1000
_NAMED = 10


@dataclass(frozen=True, kw_only=True)
class MergeOptions:
    """The options of `wetread merge`: the folder or prefix of the shards, and the merged file."""

    folder: str
    output: str
    overwrite: bool = False
    project: str | None = None


def merge_shards(options: MergeOptions, *, watch: Watch | None = None, stop: Stop | None = None) -> Tally:
    """Merge the shards of a folder into one output, which appears when it is complete, with its record.

    Raises OutputError for a shard that is missing, doubled, damaged, or of another run; it names the shard.
    """
    kind = choose_format(options.output)
    if kind == "parquet":
        import_parquet()  # fail before the work, not after it
    place = open_place(options.folder, project=options.project)
    shards = find_shards(place)
    reader = _Reader(place)
    first = reader.check(shards[0])
    output = make_output(
        options.output,
        labels=tuple(first["spec"]["labels"]),
        kind=kind,
        identity=first["identity"] | {"merged": True},  # an unfinished merge must not be resumed by a run
        optional=tuple(first["optional"]),
        project=options.project,
    )
    exists, unfinished = output.look()
    # An interrupted merge is started again: the shards still have everything that is in it.
    anew = unfinished and not exists and output.is_own_leftover()
    check_free(output, resume=False, overwrite=options.overwrite or anew, advice="")
    with open_output(output, resume=False):
        tally = _copy_rows(reader, shards, output, watch, stop)
        if not tally.interrupted:
            output.finish(reader.make_record(tally))
    return tally


def find_shards(place: Place) -> list[Shard]:
    """List all shards of a folder. Raises OutputError, which names shards that are missing or too many."""
    found: list[Shard] = []
    for name in place.list_names():
        if not name.endswith(SHARD_SUFFIX) or name.startswith("."):
            continue
        shard = parse_name(name)
        if shard is None or shard.name != name:
            raise OutputError(
                f"{name!r} in {place.location!r} is not a shard under its own name: it is a copy or another "
                "file. Move it away."
            )
        found.append(shard)
    if not found:
        raise SourceError(f"There are no shards in {place.location!r}. Check the name.")
    counts = sorted({shard.count for shard in found})
    if len(counts) > 1:
        names = " and ".join(next(s.name for s in found if s.count == count) for count in counts[:2])
        raise OutputError(
            f"{place.location!r} has shards of different numbers of shards: {names}. Move one set away."
        )
    _check_complete(sorted(found), place)
    return sorted(found)


def _check_complete(found: list[Shard], place: Place) -> None:
    count = found[0].count
    if len(found) == count:
        return
    present = {shard.index for shard in found}
    missing = [index for index in range(count) if index not in present]
    named = ", ".join(f"{index}/{count}" for index in missing[:_NAMED])
    more = f" and {len(missing) - _NAMED:,} more" if len(missing) > _NAMED else ""
    raise OutputError(
        f"{place.location!r} has {len(found):,} of {count:,} shards: {named}{more} missing. "
        "Score them, then merge again."
    )


class _Reader:
    """Reads shards one after the other, and checks each against its digest, its neighbours and the first."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._first: dict[str, Any] | None = None
        self._shards = self._next = 0
        self._seconds: dict[str, float] = {}
        self._times: tuple[str, str] | None = None

    def check(self, shard: Shard) -> dict[str, Any]:
        """Read only a shard's record."""
        with self._open(shard) as file:
            return verify_shard(file, shard, location=self._name(shard)).record

    def read_rows(self, shard: Shard) -> Iterator[list[Prediction]]:
        """Read a shard's rows in batches. Raises OutputError for a shard of another run."""
        with self._open(shard) as file:
            written = verify_shard(file, shard, location=self._name(shard))
            self._check_place(written.record, shard)
            labels, optional = tuple(written.record["spec"]["labels"]), tuple(written.record["optional"])
            file.seek(0)
            lines = islice(file, written.record["rows"])
            while rows := [decode_row(line, labels, optional=optional) for line in islice(lines, _ROWS)]:
                yield rows

    def _check_place(self, record: dict[str, Any], shard: Shard) -> None:
        self._first = first = self._first or record
        check_same_run(first["identity"], record, location=self._name(shard))
        start, stop = record["inputs"]
        ends = stop == record["manifest_names"] if shard.index == shard.count - 1 else True
        if start != self._next or stop - start != record["rows"] or not ends:
            raise OutputError(
                f"Shard {shard} must begin with input {self._next + 1:,} of {record['manifest_names']:,}, "
                f"and {self._name(shard)!r} has inputs {start + 1:,} to {stop:,}. Score it again."
            )
        self._next = stop
        self._note(record)

    def _note(self, record: dict[str, Any]) -> None:
        """Add a shard's numbers to those of the merged record; the shard's own record is not kept."""
        self._shards += 1
        for stage, seconds in record["seconds"].items():
            self._seconds[stage] = round(self._seconds.get(stage, 0.0) + seconds, 3)
        started, ended = self._times or (record["started"], record["ended"])
        self._times = min(started, record["started"]), max(ended, record["ended"])

    def make_record(self, tally: Tally) -> dict[str, Any]:
        """Return the record of the merged output."""
        assert self._first is not None
        assert self._times is not None
        kept = ("model", "spec", "device", "provider", "versions", "identity")
        return {name: self._first[name] for name in kept} | {
            "shards": self._shards,
            "rows": tally.rows,
            "counts": dict(sorted(tally.counts.items())),
            **({"scope": dict(sorted(tally.scope.items()))} if "scope" in self._first else {}),
            "seconds": self._seconds,
            "started": self._times[0],
            "ended": self._times[1],
            "merged": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def _open(self, shard: Shard) -> BinaryIO:
        file = self._place.open(shard.name)
        if file is None:
            raise OutputError(f"{self._name(shard)!r} was removed during the merge. Score it again.")
        return file

    def _name(self, shard: Shard) -> str:
        return f"{self._place.location}/{shard.name}"


def _copy_rows(
    reader: _Reader, shards: list[Shard], output: Output, watch: Watch | None, stop: Stop | None
) -> Tally:
    tally = Tally()
    for shard in shards:
        for rows in reader.read_rows(shard):
            chunk = Chunk([Entry(row.path) for row in rows], rows, Seconds(0, 0, 0))
            encoded = encode_chunk(chunk, output.labels, kind=output.kind, optional=output.optional)
            output.write_rows(encoded)
            if advance(tally, encoded, watch, stop):
                return tally
    return tally
