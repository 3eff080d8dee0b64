"""Small labelled folders of drawn shapes, easy enough to be learned in a few epochs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from wetread.train.config import TrainConfig
from wetread.train.defaults import XRAY

SHAPES = ("bar", "cross", "disc", "ring")
_INKS = {"bar": (230, 60, 60), "cross": (60, 230, 60), "disc": (60, 60, 230), "ring": (200, 200, 60)}


def draw_shape(label: str, *, seed: int, side: int = 40, color: bool = False) -> np.ndarray:
    """One shape at a random place on noise: uint8 (side, side) or (side, side, 3), BGR."""
    random = np.random.default_rng([seed, SHAPES.index(label)])
    image = random.integers(0, 70, (side, side, 3)).astype(np.uint8)
    x, y = (int(v) for v in random.integers(side // 3, side - side // 3, 2))
    ink, half = _INKS[label] if color else (225, 225, 225), side // 4
    if label in ("bar", "cross"):
        cv2.line(image, (x - half, y), (x + half, y), ink, 4)
    if label == "cross":
        cv2.line(image, (x, y - half), (x, y + half), ink, 4)
    if label in ("disc", "ring"):
        cv2.circle(image, (x, y), half, ink, -1 if label == "disc" else 3)
    return image if color else image[..., 0]


def write_image(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())


def draw_folder(folder: Path, *, counts: dict[str, int], patients: int = 2, color: bool = False) -> Path:
    """Fill folder/<label>/person<P>_<n>.png, so that each patient has `patients` images."""
    for label, count in counts.items():
        start = 1000 * SHAPES.index(label)
        for number in range(count):
            name = f"person{start + number // patients}_{number}.{'png' if number % 2 else 'jpg'}"
            write_image(folder / label / name, draw_shape(label, seed=number, color=color))
    return folder


def configure_xray(**values) -> TrainConfig:
    """The recipe for X-rays, of data that nobody looks at."""
    return TrainConfig(**{"data": "data", "output": "run", **XRAY, **values})
