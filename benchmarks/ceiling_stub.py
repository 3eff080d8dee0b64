"""What stands for decoder and model in `ceiling.py`, in its own process and in worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import sleep

import numpy as np

from wetread.runtime.images.recipe import PixelRecipe
from wetread.runtime.model.spec import ModelSpec
from wetread.runtime.scoring import batches

SIDE = 64
SPEC = ModelSpec(labels=("NORMAL", "PNEUMONIA"), pixels=PixelRecipe(height=SIDE, width=SIDE))


@dataclass(frozen=True)
class Stub:
    """A model, and the decoder before it, that answer at once or after sleeping, in seconds an image."""

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
        return _PIXELS

    def classify(self, images: np.ndarray) -> np.ndarray:
        """Stand for the session."""
        if self.infer:
            sleep(self.infer * len(images))
        return _ANSWERS[: len(images)]


_PIXELS = np.zeros((SIDE, SIDE, 1), np.uint8)
_POSITIVE = np.random.default_rng(0).random(4096).astype(np.float32)
_ANSWERS = np.stack([1 - _POSITIVE, _POSITIVE], axis=1)


def open_stub(decode: float, infer: float) -> Stub:
    """Open a stub, and let it decode from now on."""
    stub = Stub(decode, infer)
    batches.read_input = stub.read_input
    return stub


@contextmanager
def decoding_by(stub: Stub) -> Iterator[None]:
    """Replace the decoder by a stub's while the block runs."""
    before, batches.read_input = batches.read_input, stub.read_input
    try:
        yield
    finally:
        batches.read_input = before
