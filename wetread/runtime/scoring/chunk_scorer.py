"""What a worker, a thread or a process, does with a chunk of inputs: predictions or encoded rows."""

from __future__ import annotations

import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from math import prod
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
from wetread.runtime.scoring.shared_memory import Allocate
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


# Computed at a time by a device: while it computes one batch, the next one is on its way to it.
_BATCHES_AT_ONCE = 2
# More threads than decode: those whose batches a device computes, and one that encodes rows.
_THREADS_BESIDE = _BATCHES_AT_ONCE + 1
# Pixels of chunks that are joined, and of a chunk that comes back through shared memory: a larger one comes
# through a pipe.
_PIXEL_BYTES, _MOST_SHARED_BYTES = 8 << 20, 64 << 20


@dataclass(frozen=True)
class Division(Generic[Result]):
    """The work on neighbouring chunks, divided: `work` may be done in a process that `opening` prepares.

    `finish` does the rest of it here; it takes the entries and what `work` made of them. `most_entries`: that
    `work` should be given at a time. `beside`: threads that are to finish while others wait for `work`.
    `tray`: bytes of the arrays that `work` returns, where it returns any.
    """

    work: Work
    opening: Opening
    finish: Callable[[list[Entry], Any], list[Result]]
    most_entries: int = sys.maxsize
    beside: int = 0
    tray: int = 0

    def complete(self, work: Callable[[list[Entry]], Any], *, workers: int) -> Callable[..., list[Result]]:
        """Return what does all of the work, where `work` does the first part: `workers` threads at a time."""
        if not self.beside:
            return lambda entries: self.finish(entries, work(entries))
        seats = threading.Semaphore(workers)

        def do_all(entries: list[Entry]) -> list[Result]:
            with seats:
                found = work(entries)
            return self.finish(entries, found)

        return do_all


class ChunkDecoder:
    """Reads and decodes chunks for a model of one spec. It may be shared between threads."""

    def __init__(self, spec: ModelSpec, options: ChunkOptions, *, read: ReadFile) -> None:
        self._spec, self._options = spec, options
        self._tagging = Tagging(options.dicom_tags, read, max_memory=options.max_memory)

    def decode(
        self, entries: list[Entry], *, fatal: Collection[int] = (), allocate: Allocate | None = None
    ) -> list[Decoded]:
        """Decode neighbouring chunks. `fatal`: positions of inputs not to be read: they end processes.

        `allocate`: makes the arrays of pixels.
        """
        return [decoded for _, decoded in self.decode_each(entries, fatal=fatal, allocate=allocate)]

    def decode_each(
        self, entries: list[Entry], *, fatal: Collection[int] = (), allocate: Allocate | None = None
    ) -> Iterator[tuple[list[Entry], Decoded]]:
        """Yield each of neighbouring chunks, and what was decoded of it. Arguments as in `decode`."""
        refused = {id(entries[at]) for at in fatal}
        for chunk in self.group(entries):
            yield chunk, self._decode(chunk, refused, allocate)

    def group(self, entries: list[Entry]) -> Iterator[list[Entry]]:
        """Yield the chunks that were joined."""
        return group_entries(entries, batch_size=self._options.batch_size)

    def _decode(self, chunk: list[Entry], refused: Collection[int], allocate: Allocate | None) -> Decoded:
        read: Read = self._tagging.reading
        if refused:
            read = _refuse(refused, otherwise=read)
        most = self._options.max_memory
        decoded = decode_chunk(self._spec, chunk, read, max_memory=most, allocate=allocate)
        tags = self._tagging.take(chunk)
        return replace(decoded, tags=tags) if tags else decoded


class _Worker(ABC, Generic[Result]):
    def __init__(self, model: Model, options: ChunkOptions, *, read: ReadFile) -> None:
        self._model, self._options = model, options
        self._decoder = ChunkDecoder(model.spec, options, read=read)
        self._turn: AbstractContextManager[Any] = (
            nullcontext() if model.device == "cpu" else threading.Semaphore(_BATCHES_AT_ONCE)
        )

    def score(self, entries: list[Entry], *, fatal: Collection[int] = ()) -> list[Result]:
        """Score neighbouring chunks, one after the other. `fatal`: as in `ChunkDecoder.decode`."""
        each = self._decoder.decode_each(entries, fatal=fatal)
        return [self._finish(chunk, decoded) for chunk, decoded in each]

    def finish(self, entries: list[Entry], decoded: list[Decoded]) -> list[Result]:
        """Score neighbouring chunks that were decoded."""
        chunks = self._decoder.group(entries)
        return [self._finish(chunk, each) for chunk, each in zip(chunks, decoded, strict=True)]

    @abstractmethod
    def _finish(self, entries: list[Entry], decoded: Decoded) -> Result:
        """Score one chunk that was decoded."""

    def divide(self, classifier: Reopened, *, read: ReadFile) -> Division[Result]:
        """Say what of the work can be done in another process, where `read` reads.

        On the CPU all of it. Another device has one session, in this process: the others decode for it.
        """
        if classifier.device == "cpu":
            opening = partial(_open_scoring, type(self), classifier.reopening, self._options, read)
            return Division(self.score, opening, lambda _, result: result)
        opening = partial(_open_decoding, classifier.spec, self._options, read)
        image = prod(classifier.spec.pixels.shape)
        return Division(
            self._decoder.decode,
            opening,
            self.finish,
            most_entries=_PIXEL_BYTES // image,
            beside=_THREADS_BESIDE,
            tray=min(max(_PIXEL_BYTES, self._options.batch_size * image), _MOST_SHARED_BYTES),
        )

    def _compute(self, entries: list[Entry], decoded: Decoded) -> Scored:
        with self._turn:
            return score_decoded(self._model, entries, decoded, batch_size=self._options.batch_size)

    def _refuse_outside(self, chunk: Chunk) -> Chunk:
        return refuse_chunk(chunk) if self._options.refuse_outside else chunk


class ChunkPredictor(_Worker[Chunk]):
    """Scores chunks with one model, from bytes to predictions. It may be shared between threads."""

    def _finish(self, entries: list[Entry], decoded: Decoded) -> Chunk:
        return self._refuse_outside(make_chunk(self._model, self._compute(entries, decoded)))


class ChunkScorer(_Worker[Rows]):
    """Scores chunks with one model, from bytes to encoded rows. It may be shared between threads."""

    def __init__(self, model: Model, options: RowOptions, *, read: ReadFile) -> None:
        super().__init__(model, options, read=read)
        self._encoder = Encoder(
            model, kind=options.kind, optional=options.optional, finish=self._refuse_outside
        )

    def _finish(self, entries: list[Entry], decoded: Decoded) -> Rows:
        return self._encoder.encode(self._compute(entries, decoded))


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
