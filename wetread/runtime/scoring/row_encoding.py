"""Encode a chunk's rows in the worker that scored it: what goes back is bytes and counts.

Ordinary rows (a label and probabilities, a name without quotes, separators or control characters) are written
straight from the arrays; a Prediction is made only of the others. Both ways give the same bytes.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wetread.errors import Status
from wetread.runtime.entries import Entry
from wetread.runtime.scoring.batches import Chunk, Model, Scored, Seconds, make_chunk
from wetread.runtime.scoring.input_digest import mark_entries
from wetread.runtime.scoring.rows import (
    Prediction,
    columns,
    count_statuses,
    encode_name,
    encode_rows,
    make_predictions,
    write_csv,
    write_csv_rows,
    write_texts,
)

# What CSV or JSON Lines do not write as it stands. Surrogates stand for bytes that are not UTF-8.
_SPECIAL = re.compile('[\x00-\x1f",\\\\\ud800-\udfff]')
# A label with one of these has rows that only `encode_rows` writes.
_UNFIT = re.compile("[\r\ud800-\udfff]")
# The only float32 whose shortest decimal numpy writes as '1e-04' and Python as '0.0001'.
_OTHERWISE = np.float32(1e-4)


@dataclass(frozen=True, slots=True)
class Rows:
    """The encoded rows of neighbouring inputs, in listing order.

    `data`: CSV, or JSON Lines also for Parquet; `size`: their number; `counts`, `scope`: rows by status and
    by scope; `marks`: eight characters an input, of `mark_entries`; `checksum`: the CRC-32 of `data`.
    """

    data: bytes
    size: int
    counts: dict[str, int]
    scope: dict[str, int]
    marks: str
    checksum: int
    seconds: Seconds

    def describe(self) -> dict[str, Any]:
        """Return the line of state of an unfinished output."""
        line = {"rows": self.size, "bytes": len(self.data), "crc": self.checksum, "counts": self.counts}
        return line | {"marks": self.marks} | ({"scope": self.scope} if self.scope else {})


def encode_chunk(chunk: Chunk, labels: tuple[str, ...], *, kind: str, optional: tuple[str, ...] = ()) -> Rows:
    """Encode a chunk's rows as an output of `kind` spools them: Parquet is made of JSON Lines at the end."""
    data = encode_rows(chunk.predictions, labels, kind=_find_spooled(kind), optional=optional)
    return _make_rows(data, chunk.entries, chunk.counts, chunk.scope, chunk.seconds)


def _find_spooled(kind: str) -> str:
    return "csv" if kind == "csv" else "jsonl"


def _make_rows(
    data: bytes, entries: list[Entry], counts: dict[str, int], scope: dict[str, int], seconds: Seconds
) -> Rows:
    return Rows(data, len(entries), counts, scope, mark_entries(entries), zlib.crc32(data), seconds)


class Encoder:
    """Encodes what a model scored as rows of one output.

    `optional`: the columns after `error`. `finish` changes a chunk's predictions before they are written,
    where there are such columns.
    """

    def __init__(
        self,
        model: Model,
        *,
        kind: str,
        optional: tuple[str, ...] = (),
        finish: Callable[[Chunk], Chunk],
    ) -> None:
        self._model, self._kind, self._optional, self._finish = model, _find_spooled(kind), optional, finish
        self._labels = model.spec.labels
        self._forms = [] if optional or model.spec.scope else _list_forms(self._labels, self._kind)

    def encode(self, scored: Scored) -> Rows:
        """Encode the rows of a chunk."""
        if not self._forms or not _are_ordinary(scored.probabilities):
            chunk = self._finish(make_chunk(self._model, scored))
            return encode_chunk(chunk, self._labels, kind=self._kind, optional=self._optional)
        text = "".join(self._write_rows(scored))
        data = encode_name(text) if self._kind == "csv" else text.encode()
        statuses = (Status.OK if failure is None else failure.status for failure in scored.failures)
        return _make_rows(data, scored.entries, count_statuses(statuses), {}, scored.seconds)

    def _write_rows(self, scored: Scored) -> list[str]:
        names = [entry.name for entry in scored.entries]
        if len(scored.breaches) == len(names) and not _SPECIAL.search("".join(names)):
            return self._write_scores(names, scored.probabilities)
        return list(self._write_mixed(scored))

    def _write_scores(self, names: list[str], probabilities: NDArray[np.float32]) -> list[str]:
        """Write the rows of ordinary names with a score."""
        forms, chosen = self._forms, self._model.spec.decide(probabilities).tolist()
        rows = zip(names, chosen, write_texts(probabilities), strict=True)
        return [forms[index] % (name, values[index], *values) for name, index, values in rows]

    def _write_mixed(self, scored: Scored) -> Iterator[str]:
        """Write failures, and names of any kind, one by one."""
        answers = iter(scored.probabilities)
        for entry, failure in zip(scored.entries, scored.failures, strict=True):
            if failure is not None:
                yield self._write_row(failure)
                continue
            probabilities = next(answers)[None]
            if _SPECIAL.search(entry.name):
                yield self._write_row(*make_predictions([entry.name], probabilities, self._model.spec))
            else:
                yield from self._write_scores([entry.name], probabilities)

    def _write_row(self, row: Prediction) -> str:
        if self._kind == "csv":
            return write_csv_rows([row], self._labels)
        return encode_rows([row], self._labels, kind=self._kind).decode()


def _are_ordinary(probabilities: NDArray[np.float32]) -> bool:
    """Whether all values are finite, and written by numpy as by Python."""
    return bool(np.isfinite(probabilities).all()) and not (probabilities == _OTHERWISE).any()


def _list_forms(labels: tuple[str, ...], kind: str) -> list[str]:
    """For each label, the form of its rows: of the name, its probability, and those of all labels.

    Empty if the labels need what only `encode_rows` does.
    """
    if any(map(_UNFIT.search, labels)):
        return []
    return [_make_form(label, labels, kind) for label in labels]


def _make_form(label: str, labels: tuple[str, ...], kind: str) -> str:
    """Write the row of one label with marks in place of what differs between its rows."""
    marks = ["%s"] * (2 + len(labels))
    if kind == "csv":
        cells = [marks[0], Status.OK, label.replace("%", "%%"), *marks[1:], ""]
        return write_csv([cells])
    values = ['"%s"', json.dumps("ok"), _write_json(label), *marks[1:], "null"]
    fields = zip(map(_write_json, columns(labels)), values, strict=True)
    return "{" + ", ".join(f"{name}: {value}" for name, value in fields) + "}\n"


def _write_json(text: str) -> str:
    """Write a text as JSON, to stand in a form."""
    return json.dumps(text, ensure_ascii=False).replace("%", "%%")
