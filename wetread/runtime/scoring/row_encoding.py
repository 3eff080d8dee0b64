"""Encode a chunk's rows in the worker that scored it: what goes back is bytes and counts.

Ordinary rows (a label and probabilities, a name without quotes, separators or control characters, inside the
scope where there is one) are written straight from the arrays; a Prediction is made of the others, and of a
whole chunk whose probabilities, labels or columns need it. Both ways give the same bytes.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wetread.errors import Status
from wetread.runtime.entries import Entry
from wetread.runtime.model.scope import INSIDE
from wetread.runtime.scoring.batches import Chunk, Model, Scored, Seconds, make_chunk
from wetread.runtime.scoring.input_digest import mark_entries
from wetread.runtime.scoring.rows import (
    SCOPE,
    SCOPE_REASON,
    Prediction,
    columns,
    count_statuses,
    encode_name,
    encode_rows,
    write_csv,
    write_csv_rows,
    write_texts,
)
from wetread.runtime.scoring.scope_columns import exceeds

# Characters that CSV or JSON Lines quote or escape. Surrogates stand for bytes that are not UTF-8.
_SPECIAL = re.compile('[\x00-\x1f",\\\\\ud800-\udfff]')
# A label with one of these has rows that only `encode_rows` writes.
_UNFIT = re.compile("[\r\ud800-\udfff]")
# The only float32 whose shortest decimal numpy writes as '1e-04' and Python as '0.0001'.
_OTHERWISE = np.float32(1e-4)


class Rows(NamedTuple):
    """The encoded rows of neighbouring inputs, in listing order. A tuple pickles faster than a dataclass.

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
        self._scoped = model.spec.scope is not None
        plain = optional == ((SCOPE, SCOPE_REASON) if self._scoped else ())
        self._forms = _list_forms(self._labels, self._kind, optional) if plain else []

    def encode(self, scored: Scored) -> Rows:
        """Encode the rows of a chunk."""
        if not self._forms or not _are_ordinary(scored.probabilities):
            chunk = self._finish(make_chunk(self._model, scored))
            return encode_chunk(chunk, self._labels, kind=self._kind, optional=self._optional)
        listed = zip(scored.entries, scored.failures, strict=True)
        good = [entry for entry, failure in listed if failure is None]
        lines = self._write_scores([entry.name for entry in good], scored.probabilities)
        unusual = self._list_unusual(good, scored)
        if unusual or len(good) < len(scored.entries):
            return self._encode_mixed(scored, lines, self._predict(good, scored, unusual))
        counts, scope = {str(Status.OK): len(lines)}, {INSIDE: len(lines)} if self._scoped else {}
        return _make_rows("".join(lines).encode(), scored.entries, counts, scope, scored.seconds)

    def _list_unusual(self, good: list[Entry], scored: Scored) -> list[int]:
        """List the inputs with a score whose rows need a Prediction: odd names, or outside the scope."""
        outside = np.zeros(len(good), bool)
        if any(scored.breaches):
            outside |= np.array([bool(breach) for breach in scored.breaches], bool)
        rule = None if self._model.spec.scope is None else self._model.spec.scope.unlike
        if rule is not None and scored.unlike is not None:
            outside |= exceeds(rule, scored.unlike[: len(good)])
        if not outside.any() and not _SPECIAL.search("".join(entry.name for entry in good)):
            return []
        rows = enumerate(zip(good, outside.tolist(), strict=True))
        return [at for at, (entry, is_outside) in rows if is_outside or _SPECIAL.search(entry.name)]

    def _predict(self, good: list[Entry], scored: Scored, chosen: list[int]) -> dict[int, Prediction]:
        """Make the predictions of some of the inputs with a score."""
        if not chosen:
            return {}
        some = Scored(
            [good[at] for at in chosen],
            [None] * len(chosen),
            scored.pixels[chosen],
            scored.probabilities[chosen],
            None if scored.unlike is None else scored.unlike[chosen],
            [scored.breaches[at] for at in chosen],
            scored.seconds,
        )
        predictions = self._finish(make_chunk(self._model, some)).predictions
        return dict(zip(chosen, predictions, strict=True))

    def _encode_mixed(self, scored: Scored, lines: list[str], others: dict[int, Prediction]) -> Rows:
        """Encode a chunk with failures, or with `others` in place of some of the `lines`."""
        rows: list[str] = []
        statuses: list[str] = []
        scope: list[str | None] = []
        ordinary = INSIDE if self._scoped else None
        answers = iter(range(len(lines)))
        for failure in scored.failures:
            row = failure or others.get(at := next(answers))
            rows.append(lines[at] if row is None else self._write_row(row))
            statuses.append(Status.OK if row is None else row.status)
            scope.append(ordinary if row is None else row.scope)
        counts, found = count_statuses(statuses), count_statuses(filter(None, scope))
        text = "".join(rows)  # encoded as one, as names that are no Unicode are the same way in all rows
        data = encode_name(text) if self._kind == "csv" else text.encode()
        return _make_rows(data, scored.entries, counts, found, scored.seconds)

    def _write_scores(self, names: list[str], probabilities: NDArray[np.float32]) -> list[str]:
        """Write the rows of ordinary names with a score, inside the scope where there is one."""
        if not names:
            return []
        forms, chosen = self._forms, self._model.spec.decide(probabilities).tolist()
        rows = zip(names, chosen, write_texts(probabilities), strict=True)
        return [forms[index] % (name, values[index], *values) for name, index, values in rows]

    def _write_row(self, row: Prediction) -> str:
        if self._kind == "csv":
            return write_csv_rows([row], self._labels, self._optional)
        return encode_rows([row], self._labels, kind=self._kind, optional=self._optional).decode()


def _are_ordinary(probabilities: NDArray[np.float32]) -> bool:
    """Whether all values are written by numpy as by Python."""
    return not (probabilities == _OTHERWISE).any()


def _list_forms(labels: tuple[str, ...], kind: str, optional: tuple[str, ...]) -> list[str]:
    """For each label, the form of its rows: of the name, its probability, and those of all labels.

    `optional`: none, or the columns of the scope; every row is inside. Empty if the labels need what only
    `encode_rows` does.
    """
    if any(map(_UNFIT.search, labels)):
        return []
    return [_make_form(label, labels, kind, optional) for label in labels]


def _make_form(label: str, labels: tuple[str, ...], kind: str, optional: tuple[str, ...]) -> str:
    """Write the row of one label with marks in place of what differs between its rows."""
    marks = ["%s"] * (2 + len(labels))
    if kind == "csv":
        cells = [
            marks[0],
            Status.OK,
            label.replace("%", "%%"),
            *marks[1:],
            "",
            *([INSIDE, ""] if optional else []),
        ]
        return write_csv([cells])
    values = ['"%s"', json.dumps("ok"), _write_json(label), *marks[1:], "null"]
    values += [json.dumps(INSIDE), "null"] if optional else []
    fields = zip(map(_write_json, columns(labels, optional)), values, strict=True)
    return "{" + ", ".join(f"{name}: {value}" for name, value in fields) + "}\n"


def _write_json(text: str) -> str:
    """Write a text as JSON, to stand in a form."""
    return json.dumps(text, ensure_ascii=False).replace("%", "%%")
