"""Measure how alike copies of an X-ray are, and how alike strangers are: where near-identical begins.

python benchmarks/likeness.py [--data FOLDER] [--images 400]
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np

from wetread.runtime.images.pixels import read_pixels
from wetread.train import near_duplicates
from wetread.train.config import TrainConfig
from wetread.train.dataset import Dataset, load_dataset
from wetread.train.defaults import XRAY

DEFAULT_DATA = Path(os.environ.get("WETREAD_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
Image = np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA / "chest-xray-224")
    parser.add_argument("--images", type=int, default=400)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wetread-bench-") as scratch:
        config = TrainConfig(data=str(arguments.data), output=f"{scratch}/run", near_identical=False, **XRAY)
        data = load_dataset(config)
        print("| pairs | bits apart: 50%, 95%, most | correlation: 50%, 5%, least | found |")
        print("|---|---|---|---:|")
        chosen = np.random.default_rng(0).choice(len(data.names), arguments.images, replace=False)
        files = [arguments.data / data.names[i] for i in chosen]
        for name, change in CHANGES.items():
            print_copies(name, [make_pair(file, change, config) for file in files])
        print_strangers(data)


def turn(image: Image, *, degrees: float = 0.0, zoom: float = 1.0) -> Image:
    height, width = image.shape
    turned = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, zoom)
    return cv2.warpAffine(image, turned, (width, height), borderMode=cv2.BORDER_REPLICATE)


def bend(image: Image, gamma: float) -> Image:
    return (255 * (image / 255.0) ** gamma).astype(np.uint8)


CHANGES: dict[str, Callable[[Image], Image]] = {
    "JPEG at 20": lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [1, 20])[1], 0),
    "half the size": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "gamma 2": lambda image: bend(image, 2.0),
    "equalized": cv2.equalizeHist,
    "noise of 8": lambda image: np.clip(
        image + np.random.default_rng(0).normal(0, 8, image.shape), 0, 255
    ).astype(np.uint8),
    "blurred by 1.5": lambda image: cv2.GaussianBlur(image, (0, 0), 1.5),
    "turned by 1": lambda image: turn(image, degrees=1),
    "enlarged by 2%": lambda image: turn(image, zoom=1.02),
    "a letter": lambda image: cv2.putText(image.copy(), "R", (10, 40), 0, 1.2, 255, 3),
}


def make_pair(file: Path, change: Callable[[Image], Image], config: TrainConfig) -> np.ndarray:
    """An image and its copy as training sees them, (2, 64, 64, 1)."""
    image = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    both = (cv2.imencode(".png", one)[1].tobytes() for one in (image, change(image)))
    return np.stack([read_pixels(one, config.recipe()) for one in both])


def count_bits(first: Image, second: Image) -> int:
    hashes = near_duplicates.hash_image(first), near_duplicates.hash_image(second)
    return int(np.unpackbits(hashes[0] ^ hashes[1]).sum())


def print_copies(name: str, pairs: list[np.ndarray]) -> None:
    bits = [count_bits(*pair) for pair in pairs]
    alike = [near_duplicates.correlate(*pair) for pair in pairs]
    found = np.mean([bool(near_duplicates.find_alike(pair, np.arange(2))) for pair in pairs])
    print(
        f"| {name} | {np.median(bits):.0f}, {np.quantile(bits, 0.95):.0f}, {max(bits)} | "
        f"{np.median(alike):.4f}, {np.quantile(alike, 0.05):.4f}, {min(alike):.4f} | {found:.1%} |"
    )


def print_strangers(data: Dataset) -> None:
    """Pairs of different patients within 20 bits: the nearest of all."""
    start = perf_counter()
    found = near_duplicates.find_alike(data.pixels, data.rows)
    seconds = perf_counter() - start
    hashes = np.stack([near_duplicates.hash_image(data.pixels[row]) for row in data.rows])
    pairs = [
        pair for pair in near_duplicates._pair_hashes(hashes) if len({data.groups[i] for i in pair}) == 2
    ]
    alike = [near_duplicates.correlate(*(data.pixels[data.rows[i]] for i in pair)) for pair in pairs]
    bits = [count_bits(*(data.pixels[data.rows[i]] for i in pair)) for pair in pairs]
    print(
        f"\n{len(pairs):,} pairs of different patients have hashes within {near_duplicates._BITS_APART} "
        f"bits: the nearest {min(bits)}; the largest correlation among them {max(alike):.4f}."
    )
    others = [pair for pair in found if len({data.groups[i] for i in pair}) == 2]
    print(
        f"Near-identical pairs: {len(found)}, of different patients: {len(others)} (byte-identical files are "
        f"one patient's already). {len(data.names):,} images took {seconds:.1f} s."
    )


if __name__ == "__main__":
    main()
