"""What a worker, a thread or a process, does with a chunk of inputs: its predictions, or its encoded rows."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from wetread.errors import ImageError, Status
from wetread.runtime.entries import Entry
from wetread.runtime.scoring.batches import Chunk, Model, Read, Scored, make_chunk, score_chunk
from wetread.runtime.scoring.dicom_columns import Tagging
from wetread.runtime.scoring.row_encoding import Encoder, Rows
from wetread.runtime.scoring.scope_columns import refuse_outside

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wetread.runtime.images.dicom.values import DicomObject

ReadFile = Callable[[Entry], bytes]


@dataclass(frozen=True, kw_only=True)
class ChunkOptions:
    """How chunks are scored, as in `ScoreOptions`."""

    dicom_tags: tuple[str, ...]
    refuse_outside: bool
    batch_size: int
    max_memory: int


@dataclass(frozen=True, kw_only=True)
class RowOptions(ChunkOptions):
    """How chunks are scored, and their rows written: `kind` and `optional` as in `Encoder`."""

    kind: str
    optional: tuple[str, ...]


class _Worker:
    def __init__(self, model: Model, options: ChunkOptions, *, read: ReadFile) -> None:
        self._model, self._options = model, options
        self._tagging = Tagging(options.dicom_tags, read, max_memory=options.max_memory)

    def _score(self, entries: list[Entry], fatal: Collection[int]) -> Scored:
        options = self._options
        read: Read = self._tagging.reading
        if fatal:
            read = _refuse({id(entries[at]) for at in fatal}, otherwise=read)
        return score_chunk(self._model, entries, read, options.max_memory, options.batch_size)

    def _finish(self, chunk: Chunk) -> Chunk:
        return self._tagging.attach(refuse_chunk(chunk) if self._options.refuse_outside else chunk)


class ChunkPredictor(_Worker):
    """Scores chunks with one model, from bytes to predictions. It may be shared between threads."""

    def score(self, entries: list[Entry], *, fatal: Collection[int] = ()) -> Chunk:
        """Score a chunk. `fatal`: positions of inputs that are not read, because they end the process."""
        return self._finish(make_chunk(self._model, self._score(entries, fatal)))


class ChunkScorer(_Worker):
    """Scores chunks with one model, from bytes to encoded rows. It may be shared between threads."""

    def __init__(self, model: Model, options: RowOptions, *, read: ReadFile) -> None:
        super().__init__(model, options, read=read)
        self._encoder = Encoder(model, kind=options.kind, optional=options.optional, finish=self._finish)

    def score(self, entries: list[Entry], *, fatal: Collection[int] = ()) -> Rows:
        """Score a chunk. `fatal`: positions of inputs that are not read, because they end the process."""
        return self._encoder.encode(self._score(entries, fatal))


def _refuse(refused: Collection[int], *, otherwise: Read) -> Read:
    def read(entry: Entry) -> bytes | DicomObject | NDArray[np.uint8]:
        if id(entry) not in refused:
            return otherwise(entry)
        raise ImageError(
            Status.UNREADABLE,
            "It ended the process that read it, again and again. The file may be made to do that, or "
            "memory is short: score it alone, or with fewer --workers.",
        )

    return read


def refuse_chunk(chunk: Chunk) -> Chunk:
    """Give what is outside the scope its status in place of a probability."""
    return replace(chunk, predictions=refuse_outside(chunk.predictions))
