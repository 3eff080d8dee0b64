"""What stands for decoder and model in `ceiling.py`, in its own process and in worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from threading import Lock
from time import sleep

import numpy as np

from wetread.runtime.images.recipe import PixelRecipe
from wetread.runtime.model.spec import ModelSpec
from wetread.runtime.scoring import batches, chunk_scorer
from wetread.runtime.scoring.worker_process import Work


@dataclass(frozen=True)
class Stub:
    """A model, and the decoder before it, that answer at once or after sleeping, in seconds an image."""

    decode: float = 0.0
    infer: float = 0.0
    side: int = 64
    device: str = "cpu"
    provider: str = "stub"
    reason: str = "nothing is computed"
    name: str = "stub"
    digest: str = "0" * 64

    @cached_property
    def spec(self) -> ModelSpec:
        """Two labels, and gray images of `side` pixels."""
        return ModelSpec(
            labels=("NORMAL", "PNEUMONIA"), pixels=PixelRecipe(height=self.side, width=self.side)
        )

    @cached_property
    def _pixels(self) -> np.ndarray:
        return np.zeros(self.spec.pixels.shape, np.uint8)

    @property
    def reopening(self) -> partial[Stub]:
        """Return what opens this stub in a worker process."""
        return partial(open_stub, self)

    def read_input(self, data: bytes, recipe: PixelRecipe, *, max_memory: int) -> np.ndarray:
        """Stand for the decoder."""
        if self.decode:
            sleep(self.decode)
        return self._pixels

    def classify(self, images: np.ndarray) -> np.ndarray:
        """Stand for the session."""
        if self.infer:
            with nullcontext() if self.device == "cpu" else _COMPUTING:
                sleep(self.infer * len(images))
        return _ANSWERS[: len(images)]


_COMPUTING = Lock()  # a device does one thing at a time
_POSITIVE = np.random.default_rng(0).random(4096).astype(np.float32)
_ANSWERS = np.stack([1 - _POSITIVE, _POSITIVE], axis=1)


def open_stub(stub: Stub) -> Stub:
    """Open a stub, and let it decode from now on."""
    batches.read_input = stub.read_input
    return stub


def open_decoding(stub: Stub, *arguments: object) -> Work:
    """Open what decodes for a device in a worker process, and let it decode as a stub does."""
    open_stub(stub)
    return chunk_scorer._open_decoding(*arguments)  # type: ignore[arg-type]


@contextmanager
def decoding_by(stub: Stub) -> Iterator[None]:
    """Replace the decoder by a stub's while the block runs, here and in worker processes that decode."""
    before, batches.read_input = batches.read_input, stub.read_input
    opening, chunk_scorer._open_decoding = chunk_scorer._open_decoding, partial(open_decoding, stub)
    try:
        yield
    finally:
        batches.read_input, chunk_scorer._open_decoding = before, opening
