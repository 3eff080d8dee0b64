"""Which way to feed Keras costs least? Processor time of one epoch of model-3, every way in turn.

    python benchmarks/feeding.py [--images 800] [--rounds 3] [--deterministic]

Random images: what is measured is the way, not the learning. All in one process, after one epoch of each.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from statistics import median
from time import perf_counter, process_time
from typing import Any

import numpy as np

from wetread.keras_backend import import_keras
from wetread.train.architectures import build_network

BATCH = 32
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=800)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--deterministic", action="store_true")
    arguments = parser.parse_args()
    ways = make_ways(arguments)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(arguments.rounds + 1):
        for name, run in ways.items():
            start = perf_counter(), process_time()
            run()
            if turn:  # the first compiles
                times[name].append((perf_counter() - start[0], process_time() - start[1]))
    print(f"{arguments.images} images, {os.cpu_count()} processors, load average {os.getloadavg()[0]:.1f}\n")
    print("| way | wall s, fastest | CPU s | × fit's CPU |\n|---|---:|---:|---:|")
    base = median(cpu for _, cpu in times["model.fit on arrays"])
    for name, found in times.items():
        cpu = median(cpu for _, cpu in found)
        print(f"| {name} | {min(wall for wall, _ in found):.2f} | {cpu:.2f} | {cpu / base:.2f} |")


def make_ways(arguments: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    """Each way trains the same network once over the images."""
    keras = import_keras()
    import tensorflow

    keras.utils.set_random_seed(0)
    if arguments.deterministic:
        tensorflow.config.experimental.enable_op_determinism()
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (arguments.images, 64, 64, 1), dtype=np.uint8)
    arrays = (
        pixels.astype(np.float32) / 255,
        random.integers(0, 2, (arguments.images, 1)).astype(np.float32),
        np.ones(arguments.images, np.float32),
    )
    model = build_network("model-3", (64, 64, 1), 1)
    model.compile(keras.optimizers.AdamW(1e-3), loss=keras.losses.BinaryCrossentropy(from_logits=True))

    class Batches(keras.utils.PyDataset):
        def __len__(self) -> int:
            return arguments.images // BATCH

        def __getitem__(self, index: int) -> Arrays:
            return cut(arrays, index)

    def generate() -> Iterator[Arrays]:
        yield from (cut(arrays, index) for index in range(arguments.images // BATCH))

    shapes = tuple(tensorflow.TensorSpec((BATCH, *array.shape[1:])) for array in arrays)
    stream = tensorflow.data.Dataset.from_generator(generate, output_signature=shapes).prefetch(4)
    return {
        "model.fit on arrays": lambda: model.fit(*arrays[:2], batch_size=BATCH, verbose=0),
        "model.fit on a PyDataset": lambda: model.fit(Batches(), verbose=0),
        "model.fit on a PyDataset, 2 threads": lambda: model.fit(Batches(workers=2), verbose=0),
        "model.fit on tf.data from a generator": lambda: model.fit(stream, verbose=0),
        "train_on_batch": lambda: [model.train_on_batch(x, y, sample_weight=w) for x, y, w in generate()],
    }


def cut(arrays: Arrays, index: int) -> Arrays:
    images, targets, weights = (array[index * BATCH : (index + 1) * BATCH] for array in arrays)
    return images, targets, weights


if __name__ == "__main__":
    main()
