"""Bytes to the uint8 array that the network sees: the only pixel code in the project.

Every step is integer arithmetic, or floating point on integers small enough to be exact, so the same
file gives the same array on every CPU: `docs/pixels.md` states the rules and the proof. Training,
calibration, parity and scoring all come through `read_pixels`.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, gcd

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from wetread.errors import ImageError
from wetread.runtime.formats import Header, read_header, truncated
from wetread.runtime.spec import PixelRecipe

Pixels = NDArray[np.uint8]

MAX_PIXELS = 300_000_000
# libjpeg's scaled inverse DCT: an 8 x 8 block becomes n x n.
_DCT_SCALES = (1, 2, 4, 8)
# Below this many equal parts of a gray level, float32 rounding cannot reach the nearest tie.
_FLOAT_SAFE_PARTS = 500
_STRIP_ROWS = 256

cv2.setNumThreads(0)
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def read_pixels(data: bytes, recipe: PixelRecipe, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decode an image file and bring it to the model's size.

    `data`: the bytes of a JPEG, PNG, TIFF, WebP, BMP or PNM file. Returns uint8 (height, width, channels),
    0 to 255. Raises ImageError with the status of a file that has no such array.
    """
    image = resize(decode_image(data, recipe, max_pixels=max_pixels), recipe)
    return equalize(image) if recipe.equalize == "histogram" else image


def decode_image(data: bytes, recipe: PixelRecipe, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decode an image file and turn it upright: what `read_pixels` resizes.

    With `scaled_decoding` 0 in the recipe, at its own size. Returns uint8 (H, W, channels), 0 to 255. Raises
    ImageError with the status of a file that cannot be decoded.
    """
    header = read_header(data)
    if header.height * header.width > max_pixels:
        raise ImageError(
            "too_large",
            f"Expected at most {max_pixels:,} pixels. Received {header.width:,} x {header.height:,}.",
        )
    upright = recipe.orientation == "ignore" or header.orientation == 1
    image = _decode_jpeg(data, header, recipe) if header.kind == "jpeg" else _decode_other(data, recipe)
    return image if upright else _orient(image, header.orientation)


def _decode_jpeg(data: bytes, header: Header, recipe: PixelRecipe) -> Pixels:
    """Decode strictly, at the smallest DCT scale that the recipe allows. Returns (H, W, channels)."""
    cmyk = header.jpeg_colorspace in ("CMYK", "YCCK")
    colorspace = "CMYK" if cmyk else "GRAY" if recipe.color == "gray" else "RGB"
    scale = _dct_scale(header, recipe)
    try:
        image = simplejpeg.decode_jpeg(
            data,
            colorspace,
            min_height=ceil(header.height * scale / 8) if scale < 8 else 0,
            min_width=ceil(header.width * scale / 8) if scale < 8 else 0,
        )
    except ValueError as error:
        raise truncated(str(error)) from error
    return _to_channels(_from_cmyk(image), recipe) if cmyk else image


def _dct_scale(header: Header, recipe: PixelRecipe) -> int:
    """The smallest of 1, 2, 4, 8 (eighths) that leaves `scaled_decoding` pixels for each of the model's."""
    if not recipe.scaled_decoding:
        return 8
    sides = (header.height, header.width)
    if recipe.orientation == "exif" and header.orientation >= 5:
        sides = sides[::-1]
    height, width = inner_size(sides, recipe)
    for scale in _DCT_SCALES:
        enough = (
            side * scale >= 8 * recipe.scaled_decoding * wanted
            for side, wanted in zip(sides, (height, width), strict=True)
        )
        if all(enough):
            return scale
    return 8


def _from_cmyk(image: Pixels) -> Pixels:
    """(H, W, 4) as libjpeg gives it, Adobe's way round (255 is no ink), to RGB by multiplication."""
    color, key = image[..., :3].astype(np.uint16), image[..., 3:].astype(np.uint16)
    return ((color * key + 127) // 255).astype(np.uint8)


def _decode_other(data: bytes, recipe: PixelRecipe) -> Pixels:
    """Decode a file that is not a JPEG, as stored, and bring it to 8 bits and the recipe's channels."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise truncated(str(error.err or error)) from error
    if image is None:
        raise truncated("its decoder gave up")
    image = _to_eight_bits(image.reshape(*image.shape[:2], -1))
    if image.shape[2] in (3, 4):
        image[..., :3] = image[..., 2::-1].copy()  # OpenCV's BGR to RGB
    if image.shape[2] in (2, 4):
        color, alpha = image[..., :-1].astype(np.uint16), image[..., -1:].astype(np.uint16)
        image = ((color * alpha + 127) // 255).astype(np.uint8)
    return _to_channels(image, recipe)


def _to_eight_bits(image: NDArray[np.generic]) -> Pixels:
    """Scale 16-bit samples by their significant bits: 10, 12, 14 or 16, the fewest that hold the largest.

    A 12-bit X-ray in a 16-bit file would come out nearly black by its high byte.
    """
    if image.dtype == np.uint8:
        return image  # type: ignore[return-value]
    if image.dtype != np.uint16:
        raise ImageError("unsupported", f"Expected 1 to 16 bits a sample. Received {image.dtype}.")
    largest = int(image.max())
    top = next((1 << bits) - 1 for bits in (8, 10, 12, 14, 16) if largest < 1 << bits)
    return ((image.astype(np.uint32) * 255 + top // 2) // top).astype(np.uint8)


def _to_channels(image: Pixels, recipe: PixelRecipe) -> Pixels:
    """(H, W, 1 or 3) RGB to the recipe's channels; gray by Rec. 601 in OpenCV's fixed point."""
    if image.shape[2] == recipe.channels:
        return image
    if recipe.channels == 1:
        return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]  # type: ignore[return-value]
    return np.repeat(image, 3, axis=2)


def _orient(image: Pixels, orientation: int) -> Pixels:
    """Turn an image upright by its EXIF orientation (2 to 8)."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image


def inner_size(sides: tuple[int, int], recipe: PixelRecipe) -> tuple[int, int]:
    """The (height, width) to which an image of `sides` is scaled before it is padded or cropped."""
    if recipe.resize == "stretch":
        return recipe.height, recipe.width
    height, width = sides
    by_height = recipe.height * width, recipe.width * height  # compare recipe.height / height, as integers
    tall = (by_height[0] <= by_height[1]) == (recipe.resize == "fit")
    if tall:
        return recipe.height, max(1, (2 * recipe.height * width + height) // (2 * height))
    return max(1, (2 * recipe.width * height + width) // (2 * width)), recipe.width


def resize(image: Pixels, recipe: PixelRecipe) -> Pixels:
    """Bring an image to the model's size: stretched, fitted on black, or cropped at the centre.

    `image`: uint8 (H, W, C). Returns uint8 (height, width, C): each pixel is the exact area average of
    what it covers (bilinear along a side that grows), rounded half up.
    """
    height, width = inner_size((image.shape[0], image.shape[1]), recipe)
    image = _scale(image, height, width)
    if (height, width) == (recipe.height, recipe.width):
        return image
    if recipe.resize == "crop":
        top, left = (height - recipe.height) // 2, (width - recipe.width) // 2
        return image[top : top + recipe.height, left : left + recipe.width]
    canvas = np.zeros((recipe.height, recipe.width, image.shape[2]), np.uint8)
    top, left = (recipe.height - height) // 2, (recipe.width - width) // 2
    canvas[top : top + height, left : left + width] = image
    return canvas


def _scale(image: Pixels, height: int, width: int) -> Pixels:
    """Scale both sides by exact weighted sums of whole numbers."""
    if image.shape[:2] == (height, width):
        return image
    rows, row_parts = _weights(image.shape[0], height)
    columns, column_parts = _weights(image.shape[1], width)
    parts = row_parts * column_parts
    shrinks = image.shape[0] >= height and image.shape[1] >= width
    if shrinks and parts % 2 and parts <= _FLOAT_SAFE_PARTS:
        # An odd number of parts has no ties and float32 cannot cross the nearest: OpenCV's is exact here.
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        return small.reshape(height, width, -1)  # type: ignore[return-value]
    sums = _weigh(_weigh(image, columns, axis=1), rows, axis=0)
    return ((2 * sums + parts) // (2 * parts)).astype(np.uint8)


def _weigh(image: NDArray[np.integer], weights: NDArray[np.float64], *, axis: int) -> NDArray[np.int64]:
    """Sum along one axis of (H, W, C) with whole-number weights (new, old), exactly, a strip at a time.

    A float holds every partial sum, whatever the order, as long as the largest sum is below its 2**24
    (float32) or 2**53: so the matrix product's library and instructions do not matter.
    """
    height, width, channels = image.shape
    new = len(weights)
    if axis == 0:
        flat = image.reshape(height, width * channels)
        return _product(weights, flat).reshape(new, width, channels)
    sums = np.empty((height, new, channels), np.int64)
    for top in range(0, height, _STRIP_ROWS):
        strip = image[top : top + _STRIP_ROWS].transpose(0, 2, 1).reshape(-1, width)
        product = _product(strip, weights.T).reshape(-1, channels, new)
        sums[top : top + _STRIP_ROWS] = product.transpose(0, 2, 1)
    return sums


def _product(left: NDArray[np.number], right: NDArray[np.number]) -> NDArray[np.int64]:
    """Matrix product of non-negative whole numbers, exact: float32 where it holds the largest sum."""
    bound = (
        left.sum(axis=1).max() * right.max() if left.dtype == np.float64 else right.sum(axis=0).max() * 255
    )
    exact = np.float32 if bound < 1 << 24 else np.float64
    product: NDArray[np.floating] = left.astype(exact) @ right.astype(exact)
    return product.astype(np.int64)


@lru_cache(maxsize=16)
def _weights(old: int, new: int) -> tuple[NDArray[np.float64], int]:
    """Whole-number weights (new, old), and their sum along each row.

    Shrinking, an old pixel counts by the length of it that the new one covers; growing, the two nearest
    centres count by their distance.
    """
    step, unit = old // gcd(old, new), new // gcd(old, new)
    i, j = np.arange(new, dtype=np.int64)[:, None], np.arange(old, dtype=np.int64)[None, :]
    if new <= old:
        covered = np.minimum((i + 1) * step, (j + 1) * unit) - np.maximum(i * step, j * unit)
        return np.maximum(covered, 0).astype(np.float64), step
    # Centres in units of 1 / (2 unit) of an old pixel, held to the first and last centre.
    centre = np.clip((2 * i + 1) * step - unit, 0, 2 * unit * (old - 1))
    return np.maximum(2 * unit - np.abs(centre - 2 * unit * j), 0).astype(np.float64), 2 * unit


def equalize(image: Pixels) -> Pixels:
    """Spread each channel's histogram evenly over 0 to 255, in whole numbers. uint8 (H, W, C) to the same."""
    planes = []
    for channel in range(image.shape[2]):
        plane = image[..., channel]
        counts = np.bincount(plane.ravel(), minlength=256)
        below = np.cumsum(counts) - counts[np.flatnonzero(counts)[0]]
        span = max(int(below[-1]), 1)
        planes.append(((below * 510 + span) // (2 * span)).astype(np.uint8)[plane])
    return np.stack(planes, axis=2)
