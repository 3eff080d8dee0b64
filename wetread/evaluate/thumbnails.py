"""Small pictures for the report, as data: URIs."""

from __future__ import annotations

import base64
from collections.abc import Callable

import cv2
import numpy as np

from wetread.errors import ImageError
from wetread.evaluate.evaluation import Evaluation
from wetread.evaluate.labelled_folders import Image
from wetread.runtime.entries import Source
from wetread.runtime.images.pixels import read_pixels
from wetread.runtime.images.recipe import PixelRecipe
from wetread.runtime.sources.opening import open_source

DrawThumbnail = Callable[[str], str]
_SIDE = 224  # pixels


def make_drawer(evaluation: Evaluation) -> DrawThumbnail:
    """Return a function that draws the image of a name below DATA."""
    source, recipe = open_source(evaluation.options.data), evaluation.scores.spec.pixels
    images = {image.name: image for image in evaluation.scores.images}
    return lambda name: draw_thumbnail(images[name], source, recipe)


def draw_thumbnail(image: Image, source: Source, recipe: PixelRecipe) -> str:
    """Return a small JPEG of an image as a data: URI; '' when it can no longer be read."""
    small = PixelRecipe(
        height=_SIDE,
        width=_SIDE,
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
