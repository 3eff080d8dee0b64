"""Prediction, and its rows in CSV, JSON Lines and Parquet, which have the same values."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ImageError, Status, UsageError
from wetread.packages import importing
from wetread.runtime.model.spec import ModelSpec

FORMATS = ("csv", "jsonl", "parquet")
UNCERTAIN = "uncertain"
SCOPE, SCOPE_REASON = "scope", "scope_reason"
_PARQUET_ROWS = 20_000
_INT64, _EXACT_FLOAT = 2**63, 2**53
Value = str | bool | int | float | None


@dataclass(frozen=True, slots=True)
class Prediction:
    """The result for one input: a label with its probability, or a status that says why there is none.

    `path`: the input's name as listed. `probabilities`: K floats, 0 to 1, in the order of the model's labels,
    each the shortest decimal that is read back as the model's float32. Unless `status` is OK, it is empty,
    and `label` and `probability` are None. `error`: what is wrong; `errno`: the system's number of it, where
    a local file could not be read, or there was no memory for it. `optional`: the known values of the
    columns after `error`, by name; a float that is not finite is written as no value.
    """

    path: str
    status: Status
    label: str | None = None
    probability: float | None = None
    probabilities: tuple[float, ...] = ()
    error: str = ""
    optional: Mapping[str, Value] = field(default_factory=dict, hash=False)
    errno: int | None = field(default=None, repr=False)

    @property
    def uncertain(self) -> bool | None:
        """Whether it is in the model's band around the threshold; None without a band or a score."""
        found = self.optional.get(UNCERTAIN)
        return found if isinstance(found, bool) else None

    @property
    def scope(self) -> str | None:
        """Whether it is what the model is for: 'inside' or 'outside'; None without a scope or a score."""
        found = self.optional.get(SCOPE)
        return None if found is None else str(found)

    @property
    def scope_reason(self) -> str | None:
        """Why it is outside the model's scope; None unless it is."""
        found = self.optional.get(SCOPE_REASON)
        return None if found is None else str(found)


def make_predictions(
    paths: list[str], probabilities: NDArray[np.float32], spec: ModelSpec
) -> list[Prediction]:
    """Make a Prediction for each of N paths from float32 probabilities (N, K)."""
    chosen = spec.decide(probabilities).tolist()
    known: list[dict[str, bool]] = [{} for _ in paths]
    if spec.uncertain is not None:
        known = [{UNCERTAIN: doubt} for doubt in spec.find_uncertain(probabilities).tolist()]
    predictions = []
    for path, row, index, beside in zip(paths, write_texts(probabilities), chosen, known, strict=True):
        values = tuple(map(float, row))
        predictions.append(
            Prediction(path, Status.OK, spec.labels[index], values[index], values, optional=beside)
        )
    return predictions


def write_texts(probabilities: NDArray[np.float32]) -> list[list[str]]:
    """Write float32 (N, K), each value as the shortest decimal that is read back as the same float32."""
    if np.get_printoptions()["legacy"]:  # set by a calling program; '1.13' rounds
        with np.printoptions(legacy=False):
            return write_texts(probabilities)
    texts: list[list[str]] = probabilities.astype("U16").tolist()  # the longest has 15 characters
    return texts


def check_band(spec: ModelSpec) -> None:
    """Check that a model has an uncertainty band. Raises UsageError."""
    if spec.uncertain is None:
        raise UsageError(
            "--uncertain needs a model with a band around its threshold, and this one has none. "
            "Export it with --uncertain-band, or train it with --calibration-split."
        )


def list_optional(spec: ModelSpec, *, uncertain: bool, dicom_tags: tuple[str, ...]) -> tuple[str, ...]:
    """The columns after `error`: those that were asked for, and the scope's where the model has one."""
    scope = () if spec.scope is None else (SCOPE, SCOPE_REASON)
    return (*([UNCERTAIN] if uncertain else []), *scope, *dicom_tags)


def count_statuses(statuses: Iterable[str]) -> dict[str, int]:
    """Count each status, in the order in which they first appear."""
    counts: dict[str, int] = {}
    for status in statuses:
        counts[status] = counts.get(status, 0) + 1
    return counts


def count_scope(predictions: Iterable[Prediction]) -> dict[str, int]:
    """Count what is inside and what is outside the model's scope; {} without one."""
    counts: dict[str, int] = {}
    for scope in filter(None, (prediction.scope for prediction in predictions)):
        counts[scope] = counts.get(scope, 0) + 1
    return counts


def make_failure(path: str, error: ImageError) -> Prediction:
    """Make the Prediction of an input that has no score."""
    return Prediction(path, error.status, error=str(error), errno=error.errno)


def columns(labels: tuple[str, ...], optional: tuple[str, ...] = ()) -> list[str]:
    """Return the names of the columns: path, status, label, probability, p_<label>..., error, optional."""
    values = [f"p_{label}" for label in labels]
    return ["path", "status", "label", "probability", *values, "error", *optional]


def choose_format(output: str | None) -> str:
    """Choose the format by an output's name; CSV for standard output. Raises UsageError."""
    if output is None:
        return "csv"
    suffix = output.rpartition(".")[2].lower()
    if suffix not in FORMATS:
        raise UsageError(f"The output must be a name that ends in .csv, .jsonl or .parquet, not {output!r}.")
    return suffix


def encode_header(labels: tuple[str, ...], *, kind: str, optional: tuple[str, ...] = ()) -> bytes:
    """Return the bytes before the first row: the column names in CSV, nothing in JSON Lines."""
    return encode_csv([columns(labels, optional)]) if kind == "csv" else b""


def encode_rows(
    predictions: Iterable[Prediction],
    labels: tuple[str, ...],
    *,
    kind: str,
    optional: tuple[str, ...] = (),
) -> bytes:
    """Encode rows as CSV or JSON Lines (Parquet is spooled as JSON Lines until it is complete).

    `optional`: the columns after `error`. A name that is not UTF-8 keeps its bytes in CSV and its surrogate
    escapes in JSON Lines.
    """
    if kind == "csv":
        return encode_name(write_csv_rows(predictions, labels, optional))
    return b"".join(_encode_json(prediction, labels, optional) for prediction in predictions)


def write_csv_rows(
    predictions: Iterable[Prediction], labels: tuple[str, ...], optional: tuple[str, ...] = ()
) -> str:
    """Write rows as CSV, as `encode_rows` encodes them."""
    return write_csv(_csv_row(prediction, labels, optional) for prediction in predictions)


def _csv_row(prediction: Prediction, labels: tuple[str, ...], optional: tuple[str, ...]) -> list[Any]:
    values: Iterable[Any] = prediction.probabilities or [""] * len(labels)
    head = [prediction.path, prediction.status, prediction.label, prediction.probability]
    beside = (_write_bool(value) for value in _optional_values(prediction, optional))
    return [*head, *values, prediction.error, *beside]


def _optional_values(prediction: Prediction, optional: tuple[str, ...]) -> Iterator[Value]:
    """Return the values after `error`; None for a float that is not finite, which JSON cannot express."""
    for name in optional:
        value = prediction.optional.get(name)
        yield None if isinstance(value, float) and not math.isfinite(value) else value


def _write_bool(value: Value) -> Value:
    """Write a boolean in CSV as in JSON."""
    return str(value).lower() if isinstance(value, bool) else value


def encode_csv(rows: Iterable[Sequence[Any]]) -> bytes:
    """Encode rows as CSV (RFC 4180, but with \\n); names that are not UTF-8 keep their bytes."""
    return encode_name(write_csv(rows))


def write_csv(rows: Iterable[Sequence[Any]]) -> str:
    """Write rows as CSV, as `encode_csv` encodes them."""
    text = io.StringIO(newline="")
    plain = csv.writer(text, lineterminator="\n")
    quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in rows:
        # Python's csv does not quote a lone carriage return, which readers take for the end of the row.
        (quoted if any(type(cell) is str and "\r" in cell for cell in row) else plain).writerow(row)
    return text.getvalue()


def encode_name(text: str) -> bytes:
    """Encode as UTF-8; other bytes of names (Linux) and unpaired surrogates (Windows) stay unchanged."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _encode_json(prediction: Prediction, labels: tuple[str, ...], optional: tuple[str, ...]) -> bytes:
    values: Iterable[float | None] = prediction.probabilities or [None] * len(labels)
    row = dict(zip(columns(labels), _json_values(prediction, values), strict=True))
    row |= zip(optional, _optional_values(prediction, optional), strict=True)
    try:
        return (json.dumps(row, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:
        return (json.dumps(row, ensure_ascii=True) + "\n").encode()


def _json_values(prediction: Prediction, values: Iterable[float | None]) -> list[Any]:
    head = [prediction.path, prediction.status, prediction.label, prediction.probability]
    return [*head, *values, prediction.error or None]


def decode_row(line: bytes, labels: tuple[str, ...], *, optional: tuple[str, ...] = ()) -> Prediction:
    """Decode a row of JSON Lines: the Prediction that `encode_rows` wrote, with the same arguments."""
    row = json.loads(line)
    head = (row["path"], Status(row["status"]), row["label"], row["probability"])
    values = tuple(row[f"p_{label}"] for label in labels) if row["status"] == Status.OK else ()
    return Prediction(*head, values, row["error"] or "", {name: row[name] for name in optional})


def convert_to_parquet(
    spool: str | os.PathLike[str], output: str, labels: tuple[str, ...], *, optional: tuple[str, ...] = ()
) -> None:
    """Convert a spool of JSON Lines to Parquet, a limited number of rows at a time.

    Probabilities are float32. An optional column has the type of its values; text if there are none, or
    several types. In text, bytes that are not UTF-8 become U+FFFD; `path_bytes` has the path's bytes. Raises
    MissingExtraError without pyarrow.
    """
    pyarrow, parquet = import_parquet()
    types = _find_types(spool, optional)
    names = {name: _parquet_text(name) or "" for name in (f"p_{label}" for label in labels)}
    schema = _parquet_schema(pyarrow, names.values(), types)
    texts = [name for name, kind in types.items() if kind == "string"]
    with parquet.ParquetWriter(output, schema, compression="zstd") as writer:
        for rows in _read_spool(spool):
            for row in rows:
                row["path_bytes"] = encode_name(row["path"])
                row |= {name: _parquet_text(row[name]) for name in ("path", "label", "error", *texts)}
                row |= {text: row[name] for name, text in names.items()}
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))


def import_parquet() -> tuple[Any, Any]:
    """Import pyarrow and its Parquet module. Raises MissingExtraError."""
    with importing("pyarrow", extra="parquet"):
        import pyarrow
        import pyarrow.parquet
    return pyarrow, pyarrow.parquet


def _find_types(spool: str | os.PathLike[str], optional: tuple[str, ...]) -> dict[str, str]:
    """Find the Parquet type of each optional column: the narrowest that holds every value exactly."""
    known = {UNCERTAIN: "bool_", SCOPE: "string", SCOPE_REASON: "string"}
    found: dict[str, set[str]] = {name: set() for name in optional if name not in known}
    for rows in _read_spool(spool) if found else ():
        for row, name in itertools.product(rows, found):
            found[name] |= _list_types(row[name])
    types = known | {name: _choose_type(kinds) for name, kinds in found.items()}
    return {name: types[name] for name in optional}


def _list_types(value: Value) -> set[str]:
    """List what a value requires of its column's type."""
    if isinstance(value, int) and not isinstance(value, bool):
        sizes = {"beyond int64": not -_INT64 <= value < _INT64, "beyond float64": abs(value) > _EXACT_FLOAT}
        return {"int", *(size for size, is_so in sizes.items() if is_so)}
    return set() if value is None else {type(value).__name__}


def _choose_type(kinds: set[str]) -> str:
    if kinds == {"bool"}:
        return "bool_"
    if kinds in ({"int"}, {"int", "beyond float64"}):
        return "int64"
    return "float64" if kinds in ({"float"}, {"int", "float"}) else "string"


def _parquet_text(value: Value) -> str | None:
    """Write a value for a text column: as in CSV, with U+FFFD for bytes that are not UTF-8."""
    if value is None:
        return None
    return encode_name(str(_write_bool(value))).decode("utf-8", "replace")


def _parquet_schema(pyarrow: Any, names: Iterable[str], types: Mapping[str, str]) -> Any:
    text, real = pyarrow.string(), pyarrow.float32()
    numbers = [("probability", real), *((name, real) for name in names)]
    fields = [("path", text), ("status", text), ("label", text), *numbers, ("error", text)]
    fields += [(name, getattr(pyarrow, kind)()) for name, kind in types.items()]
    return pyarrow.schema([*fields, ("path_bytes", pyarrow.binary())])


def _read_spool(spool: str | os.PathLike[str]) -> Iterator[list[dict[str, Any]]]:
    with Path(spool).open("rb") as lines:
        while rows := [json.loads(line) for line in itertools.islice(lines, _PARQUET_ROWS)]:
            yield rows
