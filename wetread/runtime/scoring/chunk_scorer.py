"""What a worker, a thread or a process, does with a chunk of inputs: predictions or encoded rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from wetread.errors import ImageError, Status
from wetread.runtime.entries import Entry
from wetread.runtime.scoring.batches import (
    Chunk,
    Decoded,
    Model,
    Read,
    Scored,
    decode_chunk,
    make_chunk,
    score_decoded,
)
from wetread.runtime.scoring.dicom_columns import Tagging
from wetread.runtime.scoring.row_encoding import Encoder, Rows
from wetread.runtime.scoring.scope_columns import refuse_outside
from wetread.runtime.scoring.worker_process import Opening, Work
from wetread.runtime.sources.chunks import group_entries

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wetread.runtime.images.dicom.values import DicomObject
    from wetread.runtime.model.spec import ModelSpec

ReadFile = Callable[[Entry], bytes]
Result = TypeVar("Result")


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


class Reopened(Model, Protocol):
    """A model that another process can open."""

    @property
    def reopening(self) -> Callable[[], Model]:
        """Open the model; it can be pickled."""
        ...


@dataclass(frozen=True)
class Division(Generic[Result]):
    """A chunk's work, divided: `work` may be done in a process that `opening` prepares, the rest is not.

    `finish` does the rest; it takes the entries and what `work` made of them.
    """

    work: Work
    opening: Opening
    finish: Callable[[list[Entry], Any], Result]


class ChunkDecoder:
    """Reads and decodes chunks for a model of one spec. It may be shared between threads."""

    def __init__(self, spec: ModelSpec, options: ChunkOptions, *, read: ReadFile) -> None:
        self._spec, self._max_memory = spec, options.max_memory
        self._tagging = Tagging(options.dicom_tags, read, max_memory=options.max_memory)

    def decode(self, entries: list[Entry], *, fatal: Collection[int] = ()) -> Decoded:
        """Decode a chunk. `fatal`: positions of inputs that are not read, because they end the process."""
        read: Read = self._tagging.reading
        if fatal:
            read = _refuse({id(entries[at]) for at in fatal}, otherwise=read)
        decoded = decode_chunk(self._spec, entries, read, max_memory=self._max_memory)
        tags = self._tagging.take(entries)
        return replace(decoded, tags=tags) if tags else decoded


class _Worker(ABC, Generic[Result]):
    def __init__(self, model: Model, options: ChunkOptions, *, read: ReadFile) -> None:
        self._model, self._options = model, options
        self._decoder = ChunkDecoder(model.spec, options, read=read)

    def score(self, entries: list[Entry], *, fatal: Collection[int] = ()) -> Result:
        """Score a chunk. `fatal`: as in `ChunkDecoder.decode`."""
        return self.finish(entries, self._decoder.decode(entries, fatal=fatal))

    @abstractmethod
    def finish(self, entries: list[Entry], decoded: Decoded) -> Result:
        """Score a chunk that was decoded."""

    def divide(self, classifier: Reopened, *, read: ReadFile) -> Division[Result]:
        """Say what of the work can be done in another process, where `read` reads.

        On the CPU all of it. Another device has one session, in this process: the others decode for it.
        """
        if classifier.device == "cpu":
            opening = partial(_open_scoring, type(self), classifier.reopening, self._options, read)
            return Division(self.score, opening, lambda _, result: result)
        opening = partial(_open_decoding, classifier.spec, self._options, read)
        return Division(self._decoder.decode, opening, self.finish)

    def _compute(self, entries: list[Entry], decoded: Decoded) -> Scored:
        return score_decoded(self._model, entries, decoded, batch_size=self._options.batch_size)

    def _refuse_outside(self, chunk: Chunk) -> Chunk:
        return refuse_chunk(chunk) if self._options.refuse_outside else chunk


class ChunkPredictor(_Worker[Chunk]):
    """Scores chunks with one model, from bytes to predictions. It may be shared between threads."""

    def finish(self, entries: list[Entry], decoded: Decoded) -> Chunk:
        """Make the predictions of a chunk that was decoded."""
        return self._refuse_outside(make_chunk(self._model, self._compute(entries, decoded)))


class ChunkScorer(_Worker[list[Rows]]):
    """Scores chunks with one model, from bytes to encoded rows. It may be shared between threads."""

    def __init__(self, model: Model, options: RowOptions, *, read: ReadFile) -> None:
        super().__init__(model, options, read=read)
        self._encoder = Encoder(
            model, kind=options.kind, optional=options.optional, finish=self._refuse_outside
        )

    def score(self, entries: list[Entry], *, fatal: Collection[int] = ()) -> list[Rows]:
        """Score neighbouring chunks, one after the other. `fatal`: as in `ChunkDecoder.decode`."""
        found: list[Rows] = []
        first = 0
        for chunk in group_entries(entries, batch_size=self._options.batch_size):
            inside = [at - first for at in fatal if first <= at < first + len(chunk)]
            found += super().score(chunk, fatal=inside)
            first += len(chunk)
        return found

    def finish(self, entries: list[Entry], decoded: Decoded) -> list[Rows]:
        """Encode the rows of a chunk that was decoded."""
        return [self._encoder.encode(self._compute(entries, decoded))]


def _open_scoring(
    kind: type[_Worker[Any]], open_model: Callable[[], Model], options: Any, read: ReadFile
) -> Work:
    return kind(open_model(), options, read=read).score


def _open_decoding(spec: ModelSpec, options: ChunkOptions, read: ReadFile) -> Work:
    return ChunkDecoder(spec, options, read=read).decode


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
