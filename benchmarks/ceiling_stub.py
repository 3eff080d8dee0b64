"""What stands for decoder and model in `ceiling.py`, in its own process and in worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from threading import Lock
from time import sleep

import numpy as np

from wetread.runtime.images.recipe import PixelRecipe
from wetread.runtime.model.spec import ModelSpec
from wetread.runtime.scoring import batches, chunk_scorer
from wetread.runtime.scoring.chunk_scorer import ChunkOptions, ReadFile
from wetread.runtime.scoring.worker_process import Work

LABELS = ("NORMAL", "PNEUMONIA")
SPEC = ModelSpec(labels=LABELS, pixels=PixelRecipe(height=64, width=64))
LARGE = ModelSpec(labels=LABELS, pixels=PixelRecipe(height=224, width=224, color="rgb"))


@dataclass(frozen=True)
class Stub:
    """A model, and the decoder before it, that answer at once or after sleeping, in seconds an image.

    On the CPU each worker's model sleeps for itself; any other device has one model for all of them.
    """

    decode: float = 0.0
    infer: float = 0.0
    spec: ModelSpec = SPEC
    device: str = "cpu"
    provider: str = "stub"
    reason: str = "nothing is computed"
    name: str = "stub"
    digest: str = "0" * 64

    @property
    def reopening(self) -> partial[Stub]:
        """Return what opens this stub in a worker process."""
        return partial(open_stub, self.decode, self.infer)

    def read_input(self, data: bytes, recipe: PixelRecipe, *, max_memory: int) -> np.ndarray:
        """Stand for the decoder."""
        if self.decode:
            sleep(self.decode)
        return _PIXELS[recipe.shape]

    def classify(self, images: np.ndarray) -> np.ndarray:
        """Stand for the session."""
        if self.infer:
            with _DEVICE if self.device != "cpu" else nullcontext():
                sleep(self.infer * len(images))
        return _ANSWERS[: len(images)]


_DEVICE = Lock()
_PIXELS = {spec.pixels.shape: np.zeros(spec.pixels.shape, np.uint8) for spec in (SPEC, LARGE)}
_POSITIVE = np.random.default_rng(0).random(4096).astype(np.float32)
_ANSWERS = np.stack([1 - _POSITIVE, _POSITIVE], axis=1)


def open_stub(decode: float, infer: float) -> Stub:
    """Open a stub, and let it decode from now on."""
    stub = Stub(decode, infer)
    batches.read_input = stub.read_input
    return stub


def open_decoding(decode: float, spec: ModelSpec, options: ChunkOptions, read: ReadFile) -> Work:
    """Open what decodes in a worker process, with a stub's decoder."""
    batches.read_input = Stub(decode).read_input
    return chunk_scorer.ChunkDecoder(spec, options, read=read).decode


@contextmanager
def decoding_by(stub: Stub) -> Iterator[None]:
    """Replace the decoder by a stub's while the block runs, in worker processes too."""
    before, batches.read_input = batches.read_input, stub.read_input
    opening, chunk_scorer._open_decoding = chunk_scorer._open_decoding, partial(open_decoding, stub.decode)
    try:
        yield
    finally:
        batches.read_input, chunk_scorer._open_decoding = before, opening
