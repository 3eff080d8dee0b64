"""Measure the memory that an image takes in a step of training, for each pixel: what memory.py bounds.

    python benchmarks/training_memory.py [edge:512 photo:512 model-1:512 ResNet50:256 ...]

Each network takes two steps with 4 and with 12 colour images of that side, each in a process of its own; the
difference of their peak memory is that of 8 images.
"""

from __future__ import annotations

import resource
import subprocess
import sys

DEFAULTS = ("edge:512", "photo:512", "model-1:512", "ResNet50:256")
FEW, MANY = 4, 12


def main() -> None:
    if sys.argv[1:2] == ["--step"]:
        name, size, batch = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
        print(measure_peak(name, size, batch))
        return
    for one in sys.argv[1:] or DEFAULTS:
        name, _, size = one.partition(":")
        few, many = (run_step(name, size, batch) for batch in (FEW, MANY))
        each = (many - few) / (MANY - FEW) / int(size) ** 2
        print(f"{name} at {size} x {size}: {each:,.0f} bytes a pixel, peak {many >> 20:,} MB with {MANY}")


def run_step(name: str, size: str, batch: int) -> int:
    command = [sys.executable, __file__, "--step", name, size, str(batch)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return int(done.stdout.split()[-1])


def measure_peak(name: str, size: int, batch: int) -> int:
    """Take two steps; return the peak of this process' memory in bytes."""
    import numpy as np

    from wetread.train.backbones import BACKBONES
    from wetread.train.batches import Batch
    from wetread.train.config import TrainConfig
    from wetread.train.defaults import XRAY
    from wetread.train.network import make_network
    from wetread.train.training_state import Learner

    chosen = {"backbone": name} if name in BACKBONES else {"architecture": name}
    values = XRAY | {"color": "rgb", "size": size, "batch_size": batch} | chosen
    learner = Learner(make_network(TrainConfig(data="data", output="run", **values), 1, steps=2))
    images = np.random.default_rng(0).random((batch, size, size, 3), np.float32)
    for _ in range(2):
        learner.learn(Batch(images, np.arange(batch) % 2, np.ones(batch, np.float32), np.arange(batch)))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


if __name__ == "__main__":
    main()
