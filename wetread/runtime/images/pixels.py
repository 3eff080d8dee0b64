"""Turn the bytes of a file into the uint8 array that the network sees: the only pixel code in wetread.

After the decoder every step is integer arithmetic, so the same samples give the same array on every machine;
`docs/reference/pixels.md` states the rules and the argument. Training, calibration, parity and scoring all
use `read_input`, which is `read_pixels` with a check for blank images.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from wetread.errors import ImageError, Status, WetreadError, make_fault
from wetread.runtime.images.blank import check_content
from wetread.runtime.images.formats import Header, JpegHeader, Samples, Stored, read_header
from wetread.runtime.images.limits import MAX_MEMORY, check_memory
from wetread.runtime.images.recipe import PixelRecipe
from wetread.runtime.images.resampling import PARTS, Span, count_memory, scale

if TYPE_CHECKING:
    from wetread.runtime.images.dicom.values import DicomObject

Pixels = NDArray[np.uint8]
_Reader = Callable[[bytes, Header, PixelRecipe], Pixels]

# libjpeg's scaled inverse DCT: an 8 x 8 block becomes n x n.
_DCT_SCALES = (1, 2, 4)
_DEPTHS = (8, 10, 12, 14, 16)
# Rec. 601 in 65,536ths.
_RED, _GREEN, _BLUE, _HALF = np.uint32(19595), np.uint32(38470), np.uint32(7471), np.uint32(32768)
# Arithmetic wider than a byte is done for this many pixels at a time.
_STRIP_PIXELS, _STRIP_BYTES = 1 << 16, 32
# An overlay for people needs a canvas of three channels, a copy of it, and both as a PNG.
_DRAWN_BYTES = 13

# Each worker has its own core, and a broken file is a row: OpenCV must start no threads and print nothing.
cv2.setNumThreads(0)
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def read_pixels(data: bytes | DicomObject, recipe: PixelRecipe, *, max_memory: int = MAX_MEMORY) -> Pixels:
    """Decode an image file and bring it to the model's size.

    `data`: the bytes of a JPEG, PNG, TIFF, WebP, BMP, PNM or DICOM file, or a parsed DICOM object.
    `max_memory`: bytes that reading it may need in addition; a file that needs more is refused before it is
    decoded. Returns uint8 (height, width, channels), 0 to 255. Raises ImageError with the status of a file
    that cannot be read.
    """
    return _guard(data, recipe, max_memory, _read)


def read_input(data: bytes | DicomObject, recipe: PixelRecipe, *, max_memory: int = MAX_MEMORY) -> Pixels:
    """Read the pixels of a file to score or to train on.

    Arguments, result and errors as in `read_pixels`, and ImageError('blank') for a blank image.
    """
    return _guard(data, recipe, max_memory, _read_filled)


def read_picture(data: bytes, recipe: PixelRecipe, *, max_memory: int = MAX_MEMORY) -> Pixels:
    """Decode an image file at its own size, upright if the recipe says so, to draw an overlay on it.

    Returns uint8 (H, W, channels), 0 to 255, without the recipe's size and equalization. Raises as
    `read_pixels` does.
    """
    return _guard(data, recipe, max_memory, _read_whole)


def _guard(data: bytes | DicomObject, recipe: PixelRecipe, max_memory: int, read: _Reader) -> Pixels:
    """Read a file; refuse one that is too large, and turn an unforeseen exception into the file's error."""
    try:
        header = read_header(data, max_memory=max_memory)
        data = data if isinstance(data, bytes) else data.stream.body
        needed = _count_memory(len(data), header, recipe, whole=read is _read_whole)
        check_memory(needed, max_memory, about=f"{header.width:,} x {header.height:,} pixels")
        try:
            return read(data, header, recipe)
        except (MemoryError, cv2.error) as error:
            # Errors of the data are caught in the formats' modules: memory and OpenCV's limits remain.
            raise ImageError(
                Status.TOO_LARGE,
                f"An image of {header.width:,} x {header.height:,} pixels does not fit in memory, or exceeds "
                "OpenCV's limits.",
            ) from error
    except (WetreadError, MemoryError):
        raise
    except Exception as error:
        raise make_fault(error) from error


def _count_memory(size: int, header: Header, recipe: PixelRecipe, *, whole: bool) -> int:
    """Count the bytes that reading a file of `size` bytes needs: in the decoder or in the steps after it."""
    eighths = PARTS if whole else _choose_eighths(header, recipe)
    if isinstance(header, JpegHeader):
        decoding, samples = header.count_scaled_memory(size, eighths=eighths, gray=recipe.color == "gray")
    else:
        decoding, samples = header.count_memory(size)
    height, width = (-(-side * eighths // PARTS) for side in (header.height, header.width))
    image = height * width * recipe.channels
    converting = samples + image + _STRIP_BYTES * max(_STRIP_PIXELS, width)
    if whole:
        return max(decoding, converting, samples + 2 * image, _DRAWN_BYTES * header.pixels)
    spans = _plan_image(header, recipe, eighths)
    return max(
        decoding, converting, max(samples, image) + count_memory((height, width, recipe.channels), *spans)
    )


def _choose_eighths(header: Header, recipe: PixelRecipe) -> int:
    return choose_dct_scale(header, recipe) if isinstance(header, JpegHeader) else PARTS


def _choose_orientation(header: Header, recipe: PixelRecipe) -> int:
    return header.orientation if recipe.orientation == "exif" else 1


def _plan_image(header: Header, recipe: PixelRecipe, eighths: int) -> tuple[Span, Span]:
    lengths = (eighths * header.height, eighths * header.width)
    orientation = _choose_orientation(header, recipe)
    return _plan(lengths, orientation, recipe.height, recipe.width, recipe.resize)


def _read(data: bytes, header: Header, recipe: PixelRecipe) -> Pixels:
    return _to_channels(_fill(_read_scaled(data, header, recipe), recipe), recipe)


def _read_filled(data: bytes, header: Header, recipe: PixelRecipe) -> Pixels:
    """Read as `_read` does, and refuse a blank image."""
    image = _read_scaled(data, header, recipe)
    check_content(image)
    return _to_channels(_fill(image, recipe), recipe)


def _read_scaled(data: bytes, header: Header, recipe: PixelRecipe) -> Pixels:
    eighths = _choose_eighths(header, recipe)
    # No variable refers to the samples any more once the image is computed.
    image = _convert(_decode(data, header, recipe, eighths), recipe)
    return _scale(image, _plan_image(header, recipe, eighths), _choose_orientation(header, recipe))


def _read_whole(data: bytes, header: Header, recipe: PixelRecipe) -> Pixels:
    image = _convert(_decode(data, header, recipe, PARTS), recipe)
    return _to_channels(orient(image, _choose_orientation(header, recipe)), recipe)


def _decode(data: bytes, header: Header, recipe: PixelRecipe, eighths: int) -> Samples:
    if isinstance(header, JpegHeader):
        return header.decode_scaled(data, eighths=eighths, gray=recipe.color == "gray")
    return header.decode(data)


def _to_channels(image: Pixels, recipe: PixelRecipe) -> Pixels:
    return image if image.shape[2] == recipe.channels else np.repeat(image, recipe.channels, axis=2)


def choose_dct_scale(header: Header, recipe: PixelRecipe) -> int:
    """Choose how many eighths of its size a JPEG is decoded at: 1, 2, 4 or 8.

    It is the smallest scale that leaves `recipe.scaled_decoding` decoded pixels for each pixel of the model,
    along each side.
    """
    # Under 8 pixels different scales give the same size, and simplejpeg takes a size.
    if not recipe.scaled_decoding or max(header.height, header.width) < PARTS:
        return PARTS
    if recipe.orientation == "exif" and header.orientation >= 5:
        width, height = inner_size((header.width, header.height), recipe)
    else:
        height, width = inner_size((header.height, header.width), recipe)
    needed = PARTS * recipe.scaled_decoding
    for scale_ in _DCT_SCALES:
        if header.height * scale_ >= needed * height and header.width * scale_ >= needed * width:
            return scale_
    return PARTS


def _convert(samples: Samples, recipe: PixelRecipe) -> Pixels:
    """Convert samples to 8 bits, composite over black, and convert to gray if the recipe says so.

    Returns (H, W, 1 or 3).
    """
    color, alpha, white_is_zero = samples
    to_gray = recipe.color == "gray" and color.shape[2] == 3
    if color.itemsize == 1 and alpha is None and not white_is_zero and not to_gray:
        return color
    tops = find_top(color), find_top(alpha)
    height, width, channels = color.shape
    image = np.empty((height, width, 1 if to_gray else channels), np.uint8)
    strip = max(_STRIP_PIXELS // width, 1)
    for top in range(0, height, strip):
        rows = slice(top, top + strip)
        share = None if alpha is None else to_eight_bits(alpha[rows, :, 0], tops[1])
        planes = (
            _composite(to_eight_bits(color[rows, :, channel], tops[0]), share, white_is_zero)
            for channel in range(channels)
        )
        if to_gray:
            image[rows, :, 0] = _to_gray(*planes)
        else:
            for channel, plane in enumerate(planes):
                image[rows, :, channel] = plane
    return image


def find_top(samples: Stored | None) -> int:
    """Return the largest value of the smallest depth (8, 10, 12, 14 or 16 bits) that holds every sample.

    The high byte of a 12-bit X-ray in a 16-bit file would be nearly black.
    """
    if samples is None or samples.itemsize == 1:
        return 255
    largest = int(samples.max())
    return next((1 << bits) - 1 for bits in _DEPTHS if largest < 1 << bits)


def to_eight_bits(plane: Stored, top: int) -> Pixels:
    """Scale samples of more than 8 bits, `top` the largest of their depth, to 0..255, rounded half up."""
    if plane.itemsize == 1:
        return plane
    return ((plane * np.uint32(255) + np.uint32(top // 2)) // np.uint32(top)).astype(np.uint8)


def _composite(plane: Pixels, share: Pixels | None, white_is_zero: bool) -> Pixels:
    """Invert a plane whose white is 0, and multiply it by its alpha or its black ink."""
    if white_is_zero:
        plane = np.invert(plane)
    if share is None:
        return plane
    return ((plane * share.astype(np.uint16) + np.uint16(127)) // np.uint16(255)).astype(np.uint8)


def _to_gray(red: Pixels, green: Pixels, blue: Pixels) -> Pixels:
    """Convert to gray by Rec. 601, rounded half up."""
    gray = red * _RED
    gray += green * _GREEN
    gray += blue * _BLUE
    gray += _HALF
    gray >>= np.uint32(16)
    return gray.astype(np.uint8)


def inner_size(sides: tuple[int, int], recipe: PixelRecipe) -> tuple[int, int]:
    """Return the (height, width) to which an image of `sides` is scaled before padding or cropping."""
    return _inner_size(sides, recipe.height, recipe.width, recipe.resize)


def _inner_size(sides: tuple[int, int], height: int, width: int, mode: str) -> tuple[int, int]:
    if mode == "stretch":
        return height, width
    # The smaller of height / sides[0] and width / sides[1] fits, the larger crops.
    if (height * sides[1] <= width * sides[0]) == (mode == "fit"):
        return height, max(1, (2 * height * sides[1] + sides[0]) // (2 * sides[0]))
    return max(1, (2 * width * sides[0] + sides[1]) // (2 * sides[1])), width


def resize(image: Pixels, recipe: PixelRecipe) -> Pixels:
    """Scale an image to the model's size: stretched, padded with black, or cropped at the centre.

    `image`: uint8 (H, W, C). Returns uint8 (height, width, C): each pixel is the exact average of the area
    that it covers (bilinear along a side that grows), rounded half up; equalized if the recipe says so.
    """
    lengths = (PARTS * image.shape[0], PARTS * image.shape[1])
    return _fill(_scale(image, _plan(lengths, 1, recipe.height, recipe.width, recipe.resize), 1), recipe)


def _scale(image: Pixels, spans: tuple[Span, Span], orientation: int) -> Pixels:
    """Scale the rows and columns of an image as stored, by `spans`, and then rotate it upright.

    It is rotated after scaling, when it is small: averages are the same from either end.
    """
    image = scale(image, *spans)
    return orient(image, orientation) if orientation > 1 else image


def _fill(image: Pixels, recipe: PixelRecipe) -> Pixels:
    """Equalize a scaled image if the recipe says so, and pad it to the model's size."""
    if recipe.equalize == "histogram":
        image = equalize(image)
    return image if image.shape[:2] == (recipe.height, recipe.width) else _pad(image, recipe)


@lru_cache(maxsize=1024)
def _plan(
    lengths: tuple[int, int], orientation: int, height: int, width: int, mode: str
) -> tuple[Span, Span]:
    """Return how the rows and columns of an image as stored are scaled to `height` and `width`."""
    upright = lengths if orientation < 5 else lengths[::-1]
    sizes = _inner_size(upright, height, width, mode)
    rows, columns = (
        Span(length, size, (size - min(size, wanted)) // 2, min(size, wanted))
        for length, size, wanted in zip(upright, sizes, (height, width), strict=True)
    )
    rows = rows.flip() if orientation in (3, 4, 7, 8) else rows
    columns = columns.flip() if orientation in (2, 3, 6, 7) else columns
    return (rows, columns) if orientation < 5 else (columns, rows)


def orient(image: Stored, orientation: int) -> Stored:
    """Rotate an image (H, W, ...) of any type upright by its EXIF orientation."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def _pad(image: Pixels, recipe: PixelRecipe) -> Pixels:
    """Put an image in the middle of a black one of the model's size."""
    height, width, channels = image.shape
    canvas = np.zeros((recipe.height, recipe.width, channels), np.uint8)
    top, left = (recipe.height - height) // 2, (recipe.width - width) // 2
    canvas[top : top + height, left : left + width] = image
    return canvas


def equalize(image: Pixels) -> Pixels:
    """Equalize each channel's histogram over 0 to 255, in integers. uint8 (H, W, C) to the same."""
    planes = []
    for channel in range(image.shape[2]):
        plane = image[..., channel]
        counts = np.bincount(plane.ravel(), minlength=256)
        below = np.cumsum(counts) - counts[np.flatnonzero(counts)[0]]
        span = max(int(below[-1]), 1)
        table = (np.maximum(below, 0) * 510 + span) // (2 * span)
        planes.append(table.astype(np.uint8)[plane])
    return np.stack(planes, axis=2)
