"""Turn a source into predictions, in chunks, on several workers, in order and with bounded memory.

A worker processes a whole chunk from bytes to probabilities: there is no queue between decoding and
inference, and all workers share the session. The end of a chunk depends only on the listing (a number of
files, or of bytes, so that large images are spread over the workers), never on timing: a run can be repeated.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ImageError, SlowImageWarning, UsageError, WetreadError, make_fault
from wetread.runtime.entries import Entry
from wetread.runtime.images.limits import MAX_MEMORY, lack_memory
from wetread.runtime.images.pixels import read_input
from wetread.runtime.model.answers import are_probabilities, lack_answer
from wetread.runtime.model.spec import ModelSpec
from wetread.runtime.scoring.rows import (
    Prediction,
    count_scope,
    count_statuses,
    make_failure,
    make_predictions,
)
from wetread.runtime.scoring.scope_columns import AttributeCheck, judge_scope
from wetread.runtime.scoring.shared_memory import Allocate
from wetread.runtime.sources.chunks import DEFAULT_BATCH, group_entries, join_chunks
from wetread.runtime.threads import count_processors, map_in_order

if TYPE_CHECKING:
    from wetread.runtime.images.dicom.values import DicomObject

_CHUNKS_AHEAD = 2
_JOIN_SECONDS = 0.1  # no chunk waits longer for a slow listing to be joined with the next
_SLOW_SECONDS = 60.0
_NOTHING = np.empty((0, 0), np.float32)
Result = TypeVar("Result")

Read = Callable[[Entry], "bytes | DicomObject | NDArray[np.uint8]"]


class Model(Protocol):
    """The part of a classifier that scoring uses."""

    spec: ModelSpec
    device: str

    def classify(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute float32 probabilities (N, K) of uint8 images (N, H, W, C)."""
        ...

    def judge(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Compute probabilities, and how unlike the training images each is (N,), where the spec has that."""
        ...


class Seconds(NamedTuple):
    """Worker seconds that one chunk took, by stage."""

    read: float
    decode: float
    infer: float


@dataclass(frozen=True, slots=True)
class Chunk:
    """The predictions of neighbouring inputs, in listing order, with their entries."""

    entries: list[Entry]
    predictions: list[Prediction]
    seconds: Seconds

    @property
    def counts(self) -> dict[str, int]:
        """Rows by status, in the order in which they first appear."""
        return count_statuses(prediction.status for prediction in self.predictions)

    @property
    def scope(self) -> dict[str, int]:
        """Rows by scope; {} without one."""
        return count_scope(self.predictions)


@dataclass(frozen=True, slots=True)
class Decoded:
    """What was read of a chunk's entries, before a model sees it; `score_decoded` asks one.

    `failures`: for each entry None, or the Prediction of its failure. `pixels`: of the N others, in order,
    uint8 (N, H, W, C); `breaches`: how their attributes break the rules of the scope. `tags`: the attributes
    of each entry that are columns; none where no column was asked for. `reading`, `decoding`: in seconds.
    """

    failures: list[Prediction | None]
    pixels: NDArray[np.uint8]
    breaches: list[str]
    reading: float
    decoding: float
    tags: Sequence[Mapping[str, str | None]] = ()


@dataclass(frozen=True, slots=True)
class Scored:
    """What a model answered for a chunk's entries; `make_chunk` makes their predictions.

    `failures`, `pixels`, `breaches`, `tags` as in `Decoded`; float32 `probabilities` (N, K), and `unlike`
    (N,) where the spec has that.
    """

    entries: list[Entry]
    failures: list[Prediction | None]
    pixels: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    unlike: NDArray[np.float32] | None
    breaches: list[str]
    seconds: Seconds
    tags: Sequence[Mapping[str, str | None]] = ()


def score_entries(
    model: Model,
    entries: Iterable[Entry],
    *,
    read: Callable[[Entry], bytes],
    workers: int | None = None,
    batch_size: int = DEFAULT_BATCH,
    max_memory: int = MAX_MEMORY,
) -> Iterator[Prediction]:
    """Yield one Prediction for each entry, in order, lazily. Arguments as in `score_chunks`."""
    chunks = score_chunks(
        model, entries, read=read, workers=workers, batch_size=batch_size, max_memory=max_memory
    )
    for chunk in chunks:
        yield from chunk.predictions


def score_chunks(
    model: Model,
    entries: Iterable[Entry],
    *,
    read: Read,
    workers: int | None = None,
    batch_size: int = DEFAULT_BATCH,
    max_memory: int = MAX_MEMORY,
) -> Iterator[Chunk]:
    """Yield chunks of predictions in listing order, with at most 2 chunks for each worker in progress.

    `read` returns an entry's bytes, or its DICOM object if it is parsed already, or the array of its pixels
    if they are cached, or raises ImageError.
    `workers`: threads (default: the processors that this process may use). `max_memory`: bytes that decoding
    one image may take. Raises UsageError for a count below 1.
    """

    def work(chunk: list[Entry]) -> Chunk:
        decoded = decode_chunk(model.spec, chunk, read, max_memory=max_memory)
        return make_chunk(model, score_decoded(model, chunk, decoded, batch_size=batch_size))

    yield from map_chunks(work, entries, workers=workers, batch_size=batch_size)


def map_chunks(
    work: Callable[[list[Entry]], Result],
    entries: Iterable[Entry],
    *,
    workers: int | None = None,
    batch_size: int = DEFAULT_BATCH,
) -> Iterator[Result]:
    """Yield what `work`, on a worker, makes of each chunk of entries. Otherwise as `score_chunks`."""
    yield from map_joined(work, entries, workers=workers, batch_size=batch_size)


def map_joined(
    work: Callable[[list[Entry]], Result],
    entries: Iterable[Entry],
    *,
    workers: int | None = None,
    batch_size: int = DEFAULT_BATCH,
    most_entries: Callable[[], int] = lambda: 0,
) -> Generator[Result, None, None]:
    """Yield what `work` makes of each chunk, or of neighbouring ones at once: at most `most_entries()`.

    In progress are at most two of these for each worker.
    """
    workers = count_processors() if workers is None else workers
    for name, value in (("--workers", workers), ("--batch-size", batch_size)):
        if value < 1:
            raise UsageError(f"{name} must be 1 or more, not {value}.")
    chunks = group_entries(entries, batch_size=batch_size)
    chunks = join_chunks(chunks, most_entries=most_entries, seconds=_JOIN_SECONDS)
    yield from map_in_order(work, chunks, threads=workers, ahead=workers * _CHUNKS_AHEAD, name="wetread")


def score_decoded(model: Model, entries: list[Entry], decoded: Decoded, *, batch_size: int) -> Scored:
    """Compute the probabilities of a chunk of entries that were decoded.

    An image of which the model answers no probabilities is a failure.
    """
    pixels, start = decoded.pixels, perf_counter()
    count = len(pixels)
    # Some providers tune themselves to each shape, so they get only one: a whole batch, the rest of it black.
    if model.device in ("cuda", "tensorrt") and 0 < count < batch_size:
        batch = np.zeros((batch_size, *pixels.shape[1:]), np.uint8)
        batch[:count] = pixels
    else:
        batch = pixels
    probabilities, unlike = _compute(model, batch) if count else (_NOTHING, None)
    probabilities = probabilities[:count]
    scored = Scored(
        entries,
        decoded.failures,
        pixels,
        probabilities,
        unlike if unlike is None else unlike[:count],
        decoded.breaches,
        Seconds(decoded.reading, decoded.decoding, perf_counter() - start),
        decoded.tags,
    )
    fits = are_probabilities(probabilities)
    return scored if fits.all() else _refuse_answers(scored, fits)


def _refuse_answers(scored: Scored, fits: NDArray[np.bool_]) -> Scored:
    """Make failures of the images whose answers do not fit: boolean, as many as have pixels."""
    answers = iter(zip(fits, scored.probabilities, strict=True))
    failures = list(scored.failures)
    for at, (entry, failure) in enumerate(zip(scored.entries, scored.failures, strict=True)):
        if failure is None:
            is_fit, answer = next(answers)
            failures[at] = None if is_fit else make_failure(entry.name, lack_answer(answer))
    return replace(
        scored,
        failures=failures,
        pixels=scored.pixels[fits],
        probabilities=scored.probabilities[fits],
        unlike=None if scored.unlike is None else scored.unlike[fits],
        breaches=[breach for breach, is_fit in zip(scored.breaches, fits, strict=True) if is_fit],
    )


def _compute(
    model: Model, batch: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    scope = model.spec.scope
    if scope is not None and scope.unlike is not None:
        return model.judge(batch)
    return model.classify(batch), None


def make_chunk(model: Model, scored: Scored) -> Chunk:
    """Make the predictions of a chunk that `model` scored."""
    rows = zip(scored.entries, scored.failures, strict=True)
    good = [entry.name for entry, failure in rows if failure is None]
    found = make_predictions(good, scored.probabilities, model.spec) if good else []
    if model.spec.scope is not None:
        found = judge_scope(model, found, scored.pixels, scored.unlike, scored.breaches)
    predictions = iter(found)
    ordered = [next(predictions) if failure is None else failure for failure in scored.failures]
    if scored.tags:
        ordered = [
            replace(row, optional={**row.optional, **tags})
            for row, tags in zip(ordered, scored.tags, strict=True)
        ]
    return Chunk(scored.entries, ordered, scored.seconds)


def decode_chunk(
    spec: ModelSpec, entries: list[Entry], read: Read, *, max_memory: int, allocate: Allocate | None = None
) -> Decoded:
    """Read and decode a chunk of entries for a model of this spec. `read`, `max_memory` as `score_chunks`.

    `allocate`: makes the array of the pixels.
    """
    check = AttributeCheck(spec, max_memory=max_memory)
    has_rules = check.has_rules
    shape = (len(entries), *spec.pixels.shape)
    batch = np.empty(shape, np.uint8) if allocate is None else allocate(shape)
    failures: list[Prediction | None] = []
    breaches: list[str] = []
    reading = decoding = 0.0
    for entry in entries:
        start = middle = perf_counter()
        try:
            data = _read_entry(read, entry)
            middle = perf_counter()
            if has_rules:
                data = check.parse(data)
            batch[len(breaches)] = (
                data if isinstance(data, np.ndarray) else read_input(data, spec.pixels, max_memory=max_memory)
            )
            breaches.append(check.find_breaches(data) if has_rules else "")
            failures.append(None)
        except (ImageError, MemoryError) as error:
            why = error if isinstance(error, ImageError) else lack_memory()
            failures.append(make_failure(entry.name, why))
        reading += middle - start
        taken = perf_counter() - middle
        decoding += taken
        if taken > _SLOW_SECONDS:
            _warn_slow(entry, taken)
    return Decoded(failures, batch[: len(breaches)], breaches, reading, decoding)


def _warn_slow(entry: Entry, seconds: float) -> None:
    """Warn about an input that took too long to decode, with its name, so that it can be found."""
    warnings.warn(
        f"{entry.name} took {seconds:.0f} s to decode. Check that file: it may be made to be slow.",
        SlowImageWarning,
        stacklevel=2,
    )


def _read_entry(read: Read, entry: Entry) -> bytes | DicomObject | NDArray[np.uint8]:
    """Read one input; an unforeseen exception becomes its row, as in decoding, and the run continues."""
    try:
        return read(entry)
    except (WetreadError, MemoryError, OSError):
        raise
    except Exception as error:
        raise make_fault(error) from error
