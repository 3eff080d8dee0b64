"""What a model's scope costs: score a folder with and without it, in turns, in one process.

    python benchmarks/scope_cost.py DATA [--model wetread/models/chest-xray.onnx] [--rounds 14] [--workers N]

The second file is the first one without the output `unlike`, the rules and the words. Ratios are of
neighbouring runs: a machine that slows down for a while slows both. The graph alone is timed on one core for
ten seconds, in turns: the fastest round of each, as `inspect --speed` prints it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import numpy as np
import onnx

from wetread.export.contract import finish
from wetread.export.unlike_nodes import detach_unlike
from wetread.runtime.model.packaged import choose_model
from wetread.runtime.model.spec import NO_DIGEST
from wetread.runtime.model.speed import measure_speeds
from wetread.runtime.scoring.classifier import Classifier
from wetread.runtime.scoring.run import ScoreOptions, score_to_file

_IMAGES = 64


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--model", type=Path, default=Path(choose_model(None)))
    parser.add_argument("--rounds", type=int, default=14)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    bytes_with = arguments.model.read_bytes()
    bytes_without = remove_scope(bytes_with)
    pair = [Classifier(data, device="cpu") for data in (bytes_with, bytes_without)]
    print(f"file: {len(bytes_with):,} bytes, {len(bytes_with) - len(bytes_without):,} of them the scope")
    compare_graphs(pair)
    compare_runs(pair, arguments)


def remove_scope(data: bytes) -> bytes:
    """Return the bytes of the same model without its scope."""
    spec = Classifier(data, device="cpu").spec
    golden = spec.golden and replace(spec.golden, unlike=(), unlike_tolerance=0.0)
    bare = replace(spec, version=1, scope=None, golden=golden, digest=NO_DIGEST)
    return finish(detach_unlike(onnx.load_from_string(data)), bare)


def compare_graphs(pair: list[Classifier]) -> None:
    """Print images/s of both graphs on one core, the fastest of many rounds in turns."""
    images = np.random.default_rng(0).integers(0, 256, (_IMAGES, *pair[0].spec.pixels.shape), np.uint8)
    speeds = measure_speeds(pair, images, seconds=10)
    print(f"graph alone, one core: {speeds[0]:,.0f} images/s, {speeds[1]:,.0f} without the scope")


def compare_runs(pair: list[Classifier], arguments: argparse.Namespace) -> None:
    """Print how many times as long scoring takes with the scope."""
    seconds: tuple[list[tuple[float, float]], ...] = ([], [])
    with tempfile.TemporaryDirectory() as folder:
        output = str(Path(folder) / "scores.csv")
        options = ScoreOptions(
            sources=(str(arguments.data),), output=output, overwrite=True, workers=arguments.workers
        )
        for turn in range(arguments.rounds):
            for which in (0, 1) if turn % 2 else (1, 0):
                start = perf_counter(), process_time()
                score_to_file(pair[which], options)
                seconds[which].append((perf_counter() - start[0], process_time() - start[1]))
    for place, name in enumerate(("by the clock", "processor time")):
        ratios = [one[place] / other[place] for one, other in zip(*seconds, strict=True)]
        print(
            f"score, {name}: {median(ratios):.3f} times as long with the scope (median of {len(ratios)} "
            f"pairs, {min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
