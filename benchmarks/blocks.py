"""How much faster an int8 graph's first convolution is when it reads blocks of 2 x 2 pixels.

    python benchmarks/blocks.py [--side 128] [--rounds 25]

Small graphs of two convolutions, the first one of each kind: both forms in turns, one thread, four images at
a time. It is the whole graph's time, so what the first convolution gains is more. `_pays` in
wetread/export/first_convolution.py leaves out those that lose here.
"""

from __future__ import annotations

import argparse
import sys
import time
from itertools import product
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.export.test_first_convolution import Beginning
from wetread.export import first_convolution
from wetread.export.graph import open_plain

KINDS = (
    (2, 1, False),
    (3, 1, False),
    (3, 1, True),
    (4, 1, False),
    (5, 1, True),
    (3, 2, False),
    (7, 2, False),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=25)
    arguments = parser.parse_args()
    chosen = first_convolution._pays
    first_convolution._pays = lambda *_, **__: True  # measure what it leaves out, too
    print("| channels | filters | kernel | stride | maximum | times as fast | applied |")
    print("|---:|---:|---:|---:|---|---:|---|")
    for channels, filters, (kernel, stride, pool) in product((1, 3), (16, 32), KINDS):
        pad = (kernel - 1) // 2
        beginning = Beginning(
            height=arguments.side,
            width=arguments.side,
            channels=channels,
            filters=filters,
            kernel=kernel,
            stride=stride,
            pads=(pad, pad, kernel - 1 - pad, kernel - 1 - pad),
            pool=pool,
        )
        gain = compare(beginning, arguments.rounds)
        applied = chosen(channels, stride)
        row = (
            channels,
            filters,
            kernel,
            stride,
            "yes" if pool else "",
            f"{gain:.2f}",
            "yes" if applied else "",
        )
        print("| " + " | ".join(map(str, row)) + " |", flush=True)


def compare(beginning: Beginning, rounds: int) -> float:
    """The median of the ratios of neighbouring runs."""
    plain = beginning.quantize()
    pair = [open_plain(m.SerializeToString()) for m in (plain, first_convolution.read_blocks(plain))]
    images, ratios = beginning.draw(4, 1), []
    for _ in range(rounds):
        seconds = []
        for session in pair:
            start = time.perf_counter()
            session.run(["probabilities"], {"image": images})
            seconds.append(time.perf_counter() - start)
        ratios.append(seconds[0] / seconds[1])
    return median(ratios)


if __name__ == "__main__":
    main()
