"""A bound: decode and inference as wetread does them, a process of its own for each core.

Nothing is listed in the time that counts, nothing written, and no interpreter is shared: what no program
can pass that takes these pixels and this graph from these libraries.
"""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from common import chunks, finish, list_files, parse_arguments

from wetread.runtime.images.pixels import read_pixels
from wetread.runtime.scoring.classifier import Classifier


def work(model: str, files: list[str], size: int, ready: Any, answers: Any) -> None:
    classifier = Classifier(model, device="cpu")
    recipe = classifier.spec.pixels
    batch = np.empty((size, *recipe.shape), np.uint8)

    def answer(names: list[str]) -> list[int]:
        for place, name in enumerate(names):
            batch[place] = read_pixels(Path(name).read_bytes(), recipe)
        return list(map(int, classifier.classify(batch[: len(names)]).argmax(axis=1)))

    answer(files[:size])
    ready.wait()
    start = perf_counter()
    labels = [label for names in chunks(files, size) for label in answer(list(names))]
    answers.put((files, labels, perf_counter() - start))


def main() -> None:
    arguments = parse_arguments(__doc__)
    files = list_files(arguments.folder)
    context = multiprocessing.get_context("spawn")
    ready, answers = context.Barrier(arguments.workers), context.Queue()
    processes = [
        context.Process(
            target=work,
            args=(arguments.model, files[k :: arguments.workers], arguments.batch_size, ready, answers),
        )
        for k in range(arguments.workers)
    ]
    for process in processes:
        process.start()
    parts = [answers.get() for _ in processes]
    for process in processes:
        process.join()
    found = {name: label for names, labels, _ in parts for name, label in zip(names, labels, strict=True)}
    finish(arguments, files, [found[name] for name in files], max(seconds for _, _, seconds in parts))


if __name__ == "__main__":
    main()
