"""Are IM-0115 and NORMAL2-IM-0115 one patient? Compare how alike images are, by what their names share.

    python benchmarks/patients.py [--data FOLDER]

Each image is brought to 32 x 32, the mean image is taken off, and pairs are correlated.
"""

from __future__ import annotations

import argparse
import os
import re
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import numpy as np

from wetread.evaluate.labelled_folders import list_images
from wetread.runtime.images.pixels import read_pixels
from wetread.runtime.images.recipe import PixelRecipe

DEFAULT_DATA = Path(os.environ.get("WETREAD_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA / "chest-xray-224")
    listing = list_images(str(parser.parse_args().data))
    images = [image for image in listing.images if image.label == "NORMAL"]
    recipe = PixelRecipe(height=32, width=32)
    rows = np.array([read_pixels(listing.source.read(i.entry), recipe).ravel() for i in images], np.float64)
    rows -= rows.mean(axis=0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    print("| NORMAL images that share | pairs | 5% | 25% | 50% | 75% | 95% |")
    print("|---|" + "---:|" * 6)
    for words, pairs in find_pairs([image.name for image in images]).items():
        alike = np.percentile([rows[i] @ rows[j] for i, j in pairs], [5, 25, 50, 75, 95])
        print(f"| {words} | {len(pairs):,} | " + " | ".join(f"{value:.2f}" for value in alike) + " |")


def find_pairs(names: list[str]) -> dict[str, list[tuple[int, int]]]:
    """Pairs by what they share; the strangers are drawn at random, with a fixed seed."""
    batches = ["NORMAL2" if "NORMAL2-" in name else "" for name in names]
    by_number = defaultdict(list)
    for index, name in enumerate(names):
        found = re.search(r"IM-(\d+)", name)
        by_number[found.group(1) if found else name].append(index)
    shared = [pair for group in by_number.values() for pair in combinations(group, 2)]
    random = np.random.default_rng(0)
    strangers = [tuple(random.choice(len(names), 2, replace=False)) for _ in range(2000)]
    return {
        "number and prefix": [(i, j) for i, j in shared if batches[i] == batches[j]],
        "the number alone, one with NORMAL2-": [(i, j) for i, j in shared if batches[i] != batches[j]],
        "nothing (drawn at random)": strangers,
    }


if __name__ == "__main__":
    main()
