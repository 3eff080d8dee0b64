"""Draw stained slides: a colour data set whose labels cannot be told apart in gray.

The three stains have the same brightness (Rec. 601). So if a channel is lost or swapped anywhere, the labels
cannot be learned.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

STAINS: Mapping[str, float] = {"AZURE": 1, "EOSIN": 1, "MALACHITE": 1}
"""The labels, in equal shares."""

_COLOURS = {"AZURE": (70, 100, 235), "EOSIN": (200, 65, 60), "MALACHITE": (40, 150, 60)}


def draw_slide(
    label: str, *, patient: int = 0, picture: int = 0, seed: int = 0, size: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """Draw cells whose nuclei took up one stain.

    `label`: a key of `STAINS`. `size`: (height, width); None: chosen at random from 120 to 260 pixels.
    Returns uint8 (height, width, 3), RGB. The same arguments give the same image.
    """
    random = np.random.default_rng([seed, patient, picture, 4])
    height, width = size or (int(random.integers(120, 261)), int(random.integers(120, 261)))
    slide = np.empty((height, width, 3), np.uint8)
    slide[:] = random.integers(205, 245, 3)
    radius = min(height, width) * random.uniform(0.05, 0.08)
    for _ in range(int(random.integers(25, 60))):
        _draw_cell(slide, random, radius, np.array(_COLOURS[label]))
    light = random.uniform(0.8, 1.1)
    noise = random.normal(0, 4, slide.shape)
    return np.clip(slide * light + noise, 0, 255).astype(np.uint8)


def _draw_cell(
    slide: NDArray[np.uint8], random: np.random.Generator, radius: float, colour: NDArray[np.int_]
) -> None:
    """Draw one cell: a pale body with a nucleus of about the stain's colour."""
    at = int(random.integers(slide.shape[1])), int(random.integers(slide.shape[0]))
    axes = tuple(int(a) for a in radius * random.uniform(0.8, 1.3, 2))
    turn, body = random.uniform(0, 180), random.integers(165, 200, 3)
    cv2.ellipse(slide, at, axes, turn, 0, 360, body.tolist(), -1, cv2.LINE_AA)
    nucleus = np.clip(colour + random.integers(-18, 19, 3), 0, 255)
    inner = tuple(max(1, a // 2) for a in axes)
    cv2.ellipse(slide, at, inner, turn, 0, 360, nucleus.tolist(), -1, cv2.LINE_AA)
