"""Versions of training images as other machines and hospitals would have made them.

What is like the training images is more than those images: other exposure, framing and sharpness. A scope
that knew the plain images alone would call all of them outside. `benchmarks/shifts.py` judges by versions of
its own.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from wetread.runtime.images.pixels import Pixels

Floats = NDArray[np.float32]


def vary_image(image: Pixels, chance: np.random.Generator) -> Pixels:
    """Return one version of an image, uint8 (H, W, C): moved, exposed, filtered and framed by chance."""
    changed = np.multiply(_move(image, chance), np.float32(1 / 255), dtype=np.float32)
    changed = _expose(changed, chance)
    changed = _filter(changed, chance)
    changed = _lay_bars(changed, chance)
    result: Pixels = np.rint(np.clip(changed, 0, 1) * 255).astype(np.uint8)
    return result.reshape(image.shape)


def _move(image: Pixels, chance: np.random.Generator) -> Pixels:
    """Scale each side by about a tenth, turn by about 6 degrees, move by up to 8 % of the sides."""
    height, width = image.shape[:2]
    both = float(chance.normal(0, 0.1))
    wide, high = (float(np.clip(np.exp(both + chance.normal(0, 0.07)), 0.75, 1.3)) for _ in range(2))
    turn = float(np.clip(chance.normal(0, 6), -15, 15))
    centre = ((width - 1) / 2, (height - 1) / 2)
    matrix = cv2.getRotationMatrix2D(centre, turn, 1.0)
    matrix[:, :2] = matrix[:, :2] @ np.diag([wide, high])
    matrix[:, 2] = centre - matrix[:, :2] @ centre + chance.uniform(-0.08, 0.08, 2) * (width, height)
    border = cv2.BORDER_REPLICATE if chance.random() < 0.5 else cv2.BORDER_CONSTANT
    moved: Pixels = np.asarray(cv2.warpAffine(image, matrix, (width, height), borderMode=border), np.uint8)
    return moved.reshape(image.shape)


def _expose(image: Floats, chance: np.random.Generator) -> Floats:
    """Another gamma, contrast and brightness."""
    gamma = float(np.clip(np.exp(chance.normal(0, 0.28)), 0.55, 1.8))
    contrast = float(np.clip(np.exp(chance.normal(0, 0.25)), 0.55, 1.6))
    return ((image**gamma - 0.5) * contrast + 0.5 + chance.normal(0, 0.08)).astype(np.float32)


def _filter(image: Floats, chance: np.random.Generator) -> Floats:
    """Blur one in seven, sharpen one in seven, and give one in ten grain."""
    kind = chance.random()
    if kind < 0.15:
        return _blur(image, chance.uniform(0.5, 1.6))
    if kind < 0.3:
        return image + np.float32(chance.uniform(0.3, 1.2)) * (image - _blur(image, 1.7))
    if kind < 0.4:
        return image + chance.normal(0, chance.uniform(0.01, 0.06), image.shape).astype(np.float32)
    return image


def _blur(image: Floats, sigma: float) -> Floats:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32).reshape(image.shape)


def _lay_bars(image: Floats, chance: np.random.Generator) -> Floats:
    """Black bars at two sides of one in seven."""
    if chance.random() >= 0.15:
        return image
    axis = int(chance.integers(0, 2))
    bar = int(chance.uniform(0.02, 0.12) * image.shape[axis])
    framed = np.moveaxis(image.copy(), axis, 0)
    framed[:bar] = framed[len(framed) - bar :] = 0
    return np.moveaxis(framed, 0, axis)


def change_images(images: Pixels, change: str) -> Pixels:
    """Change images, uint8 (N, H, W, C), in one of the ways that a scope can find.

    'turned' gives all three turns one after the other, or of an image that is not square the half turn alone.
    """
    if change == "negative":
        return np.invert(images)
    if change == "mirrored":
        return np.ascontiguousarray(images[:, :, ::-1])
    turns = (1, 2, 3) if images.shape[1] == images.shape[2] else (2,)
    return np.concatenate([np.rot90(images, turn, axes=(1, 2)) for turn in turns])


def vary_images(images: Pixels, *, copies: int, seed: int = 0) -> Pixels:
    """Return `copies` versions of each image, uint8 (N, H, W, C), one round after the other."""
    chance = np.random.default_rng(seed)
    return np.stack([vary_image(image, chance) for _ in range(copies) for image in images])
