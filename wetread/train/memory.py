"""How many images a network can train on at a time in the memory that is free."""

from __future__ import annotations

import math

from wetread.train.config import TrainConfig

# Bytes for each pixel of an image in a step of training, outputs of layers and their gradients together.
# benchmarks/training_memory.py measured 284 to 338 of wetread's own networks and 1,738 of ResNet50.
OWN_NETWORK, OTHER_NETWORK = 400, 4_000
_SHARE = 0.5  # of the free memory: the images' cache, TensorFlow and the rest of the machine have the other


def count_bytes(config: TrainConfig, *, size: int) -> int:
    """Estimate the bytes that an image of `size` x `size` pixels takes in a step of training."""
    own = config.backbone is None and ":" not in (config.architecture or "")
    return size * size * (OWN_NETWORK if own else OTHER_NETWORK)


def limit_batch(wanted: int, image: int, *, free: int | None) -> int:
    """Return how many images of `image` bytes train at a time: `wanted`, or the largest power of 2 that fits.

    `free`: the bytes that are free; None if that is not known.
    """
    if free is None or wanted * image <= _SHARE * free:
        return wanted
    fitting = max(1.0, _SHARE * free / image)
    return 1 << int(math.log2(fitting))
