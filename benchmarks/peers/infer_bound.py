"""A bound: only inference, on prepared arrays, one shared session, on all cores."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import numpy as np
from common import finish, list_files, parse_arguments

from wetread.runtime.images.pixels import read_pixels
from wetread.runtime.scoring.classifier import Classifier

arguments = parse_arguments(__doc__)
classifier = Classifier(arguments.model, device="cpu")
files = list_files(arguments.folder)
prepared = np.stack(
    [
        read_pixels(Path(name).read_bytes(), classifier.spec.pixels)
        for name in files[:: max(1, len(files) // 64)][:64]
    ]
)
size = arguments.batch_size
batches = [
    np.ascontiguousarray(prepared[np.arange(at, at + size) % len(prepared)]) for at in range(0, 64, size)
]


def infer(at: int) -> list[int]:
    answers = classifier.classify(batches[at % len(batches)])[: len(files) - at * size]
    return list(answers.argmax(axis=1))


for warm in range(4):
    infer(warm)
start = perf_counter()
with ThreadPoolExecutor(arguments.workers) as pool:
    labels = [label for found in pool.map(infer, range(-(-len(files) // size))) for label in found]
finish(arguments, files, labels, perf_counter() - start)
