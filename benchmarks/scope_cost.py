"""What a model's scope costs: score a folder with and without it, chunk by chunk in turns, on one thread.

    python benchmarks/scope_cost.py DATA [--model wetread/models/chest-xray.onnx] [--rounds 3]

The second file is the first one without the output `unlike`, the rules and the words. A chunk is 32 files,
from their names to the bytes of their rows. Ratios are of the processor time of neighbouring turns, as a
machine with neighbours changes its speed within seconds. The graph alone is timed on one core for ten
seconds, in turns: the fastest round of each, as `inspect --speed` prints it.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import thread_time

import numpy as np
import onnx

from wetread.export.contract import finish
from wetread.export.unlike_nodes import detach_unlike
from wetread.runtime.model.packaged import choose_model
from wetread.runtime.model.spec import NO_DIGEST
from wetread.runtime.model.speed import measure_speeds
from wetread.runtime.scoring.chunk_scorer import ChunkScorer, ReadFile, RowOptions
from wetread.runtime.scoring.classifier import Classifier
from wetread.runtime.scoring.run import ScoreOptions, open_options

_IMAGES, _CHUNK = 64, 32


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--model", type=Path, default=Path(choose_model(None)))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    bytes_with = arguments.model.read_bytes()
    bytes_without = remove_scope(bytes_with)
    pair = [Classifier(data, device="cpu") for data in (bytes_with, bytes_without)]
    print(f"file: {len(bytes_with):,} bytes, {len(bytes_with) - len(bytes_without):,} of them the scope")
    compare_graphs(pair)
    compare_chunks(pair, arguments.data, arguments.rounds)


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


def compare_chunks(pair: list[Classifier], data: Path, rounds: int) -> None:
    """Print how many times the processor time of scoring a chunk takes with the scope."""
    options = ScoreOptions(sources=(str(data),), output="unused.csv")
    source = open_options(options)
    entries = list(source.entries())
    chunks = [entries[at : at + _CHUNK] for at in range(0, len(entries), _CHUNK)]
    scorers = [make_scorer(classifier, options, source.read) for classifier in pair]
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds):
        for number, chunk in enumerate(chunks):
            for which in (0, 1) if (turn + number) % 2 else (1, 0):
                start = thread_time()
                scorers[which].score(chunk)
                seconds[which].append(thread_time() - start)
    ratios = [one / other for one, other in zip(*seconds, strict=True)]
    print(
        f"scoring {len(entries):,} files: {median(ratios):.3f} times the processor time with the scope "
        f"(median of {len(ratios)} pairs), {sum(seconds[0]) / sum(seconds[1]):.3f} times in all"
    )


def make_scorer(classifier: Classifier, options: ScoreOptions, read: ReadFile) -> ChunkScorer:
    """What a worker of `wetread score` does with a chunk."""
    how = RowOptions(
        kind="csv",
        optional=options.list_optional(classifier.spec),
        dicom_tags=(),
        refuse_outside=False,
        batch_size=_CHUNK,
        max_memory=options.max_memory,
    )
    return ChunkScorer(classifier, how, read=read)


if __name__ == "__main__":
    main()
