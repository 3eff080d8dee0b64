"""Find the worst mistakes: wrong images whose true label got the lowest probability."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import cv2
import numpy as np

from wetread.errors import ImageError
from wetread.evaluate.labelled_folders import Image
from wetread.evaluate.scores import Scores
from wetread.runtime.entries import Source
from wetread.runtime.images.pixels import read_pixels
from wetread.runtime.images.recipe import PixelRecipe

_THUMBNAIL = 224  # pixels


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """An image with a wrong prediction: the probability of its true label, and of the chosen one."""

    image: Image
    patient: str
    chosen: str
    truth_probability: float
    chosen_probability: float


def find_mistakes(scores: Scores, *, count: int) -> list[Mistake]:
    """Find the worst mistakes, sorted by the probability of the true label, then by name."""
    positions = scores.scored
    truth, probabilities = scores.truth(positions), scores.probabilities(positions)
    chosen = scores.spec.decide(probabilities)
    wrong = np.flatnonzero(chosen != truth)
    ranked = sorted(
        wrong, key=lambda row: (probabilities[row, truth[row]], scores.images[positions[row]].name)
    )
    return [
        Mistake(
            image=scores.images[positions[row]],
            patient=scores.groups[positions[row]],
            chosen=scores.spec.labels[chosen[row]],
            truth_probability=float(probabilities[row, truth[row]]),
            chosen_probability=float(probabilities[row, chosen[row]]),
        )
        for row in ranked[:count]
    ]


def draw_thumbnail(image: Image, source: Source, recipe: PixelRecipe) -> str:
    """Return a small JPEG of an image as a data: URI; '' when it can no longer be read."""
    small = PixelRecipe(
        height=_THUMBNAIL,
        width=_THUMBNAIL,
        color="gray" if recipe.color == "gray" else "rgb",
        resize="fit",
        orientation=recipe.orientation,
    )
    try:
        pixels = read_pixels(source.read(image.entry), small)
    except ImageError:
        return ""
    return encode_picture(pixels[..., ::-1])


def encode_picture(pixels: np.ndarray) -> str:
    """Write uint8 (H, W, 1 or 3), BGR, as a JPEG in a data: URI."""
    data = cv2.imencode(".jpg", np.ascontiguousarray(pixels), [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()
