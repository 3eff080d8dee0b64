"""Turn the bytes of a file into the uint8 array that the network sees: the only pixel code in wetread.

After the decoder every step is integer arithmetic, so the same samples give the same array on every machine;
`docs/reference/pixels.md` states the rules and the argument. Training, calibration, parity and scoring all
use `read_input`, which is `read_pixels` with a check for blank images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from wetread.errors import ImageError, Status, WetreadError, make_fault
from wetread.runtime.images.blank import check_content
from wetread.runtime.images.conversion import STRIP_BYTES, STRIP_PIXELS, convert_samples
from wetread.runtime.images.formats import Header, JpegHeader, PngHeader, Samples, Stored, read_header
from wetread.runtime.images.formats.header import is_short_of_memory
from wetread.runtime.images.framing import frame_picture
from wetread.runtime.images.kernel_sums import count_kernel_memory, scale_by_kernel
from wetread.runtime.images.limits import MAX_MEMORY, check_memory, lack_memory
from wetread.runtime.images.recipe import PixelRecipe, find_family
from wetread.runtime.images.resampling import PARTS, Span, count_memory, scale

if TYPE_CHECKING:
    from wetread.runtime.images.dicom.values import DicomObject

Pixels = NDArray[np.uint8]
_Reader = Callable[[bytes, Header, PixelRecipe], Pixels]


class _Scaled(NamedTuple):
    """A scaled image, and where it stands on black of the model's size."""

    image: Pixels
    top: int
    left: int


_SIZE_STEP = 1 << 16  # bytes of a file
# libjpeg's scaled inverse DCT: an 8 x 8 block becomes n x n.
_DCT_SCALES = (1, 2, 4)

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
        _check_memory(len(data), header, recipe, max_memory, whole=read is _read_whole)
        try:
            return read(data, header, recipe)
        except cv2.error as error:
            # Errors of the data are caught in the formats' modules: memory and OpenCV's limits remain.
            if is_short_of_memory(error):
                raise MemoryError from error
            raise ImageError(
                Status.TOO_LARGE,
                f"An image of {header.width:,} x {header.height:,} pixels exceeds OpenCV's limits.",
            ) from error
    except WetreadError:
        raise
    except MemoryError as error:
        raise lack_memory() from error
    except Exception as error:
        raise make_fault(error) from error


def _check_memory(size: int, header: Header, recipe: PixelRecipe, max_memory: int, *, whole: bool) -> None:
    """Check the memory that a file of `size` bytes needs. Raises ImageError 'too_large'."""
    # Of a folder's JPEGs many have the same sides and about one size: they are counted once.
    steps = -(-size // _SIZE_STEP)
    if isinstance(header, JpegHeader) and _count_rounded(steps, header, recipe, whole) <= max_memory:
        return
    needed = _count_memory(size, header, recipe, whole=whole)
    check_memory(needed, max_memory, about=f"{header.width:,} x {header.height:,} pixels")


@lru_cache(maxsize=256)
def _count_rounded(steps: int, header: JpegHeader, recipe: PixelRecipe, whole: bool) -> int:
    return _count_memory(steps * _SIZE_STEP, header, recipe, whole=whole)


def _count_memory(size: int, header: Header, recipe: PixelRecipe, *, whole: bool) -> int:
    """Count the bytes that reading a file of `size` bytes needs: in the decoder or in the steps after it."""
    eighths = PARTS if whole else _choose_eighths(header, recipe)
    if isinstance(header, JpegHeader):
        gray = _is_read_gray(header, recipe)
        decoding, samples = header.count_scaled_memory(size, eighths=eighths, gray=gray)
    else:
        decoding, samples = header.count_memory(size)
    height, width = (-(-side * eighths // PARTS) for side in (header.height, header.width))
    image = height * width * recipe.channels
    converting = samples + image + STRIP_BYTES * max(STRIP_PIXELS, width)
    if whole:
        return max(decoding, converting, samples + 2 * image)
    return max(decoding, converting, max(samples, image) + _count_scaling(header, recipe, eighths))


def _count_scaling(header: Header, recipe: PixelRecipe, eighths: int) -> int:
    """Count the bytes that bringing a decoded image to the model's size needs beside it."""
    if not find_family(recipe.kernel):
        height, width = (-(-side * eighths // PARTS) for side in (header.height, header.width))
        return count_memory((height, width, recipe.channels), *_plan_image(header, recipe, eighths))
    sides = (header.height, header.width)
    upright = sides if _choose_orientation(header, recipe) < 5 else sides[::-1]
    frame = frame_picture(*upright, recipe)
    turned = header.pixels * recipe.channels
    return turned + count_kernel_memory((*upright, recipe.channels), frame.rows, frame.columns)


def _choose_eighths(header: Header, recipe: PixelRecipe) -> int:
    return choose_dct_scale(header, recipe) if isinstance(header, JpegHeader) else PARTS


def _choose_orientation(header: Header, recipe: PixelRecipe) -> int:
    turns = recipe.orientation == "exif" or (recipe.orientation == "exif-of-tiff" and header.kind == "tiff")
    return header.orientation if turns else 1


def _is_read_gray(header: JpegHeader, recipe: PixelRecipe) -> bool:
    """Whether a JPEG's own luma is all that is decoded."""
    return recipe.color == "gray" and (recipe.gray != "rec601-of-rgb" or header.components == 1)


def _plan_image(header: Header, recipe: PixelRecipe, eighths: int) -> tuple[Span, Span]:
    lengths = (eighths * header.height, eighths * header.width)
    orientation = _choose_orientation(header, recipe)
    return _plan(lengths, orientation, recipe.height, recipe.width, recipe.resize)


def _read(data: bytes, header: Header, recipe: PixelRecipe) -> Pixels:
    return _to_channels(_fill(_read_scaled(data, header, recipe), recipe), recipe)


def _read_filled(data: bytes, header: Header, recipe: PixelRecipe) -> Pixels:
    """Read as `_read` does, and refuse a blank image."""
    scaled = _read_scaled(data, header, recipe)
    check_content(scaled.image)
    return _to_channels(_fill(scaled, recipe), recipe)


def _read_scaled(data: bytes, header: Header, recipe: PixelRecipe) -> _Scaled:
    eighths = _choose_eighths(header, recipe)
    # No name keeps the samples once the image is made of them.
    image = _convert(_decode(data, header, recipe, eighths), header, recipe)
    orientation = _choose_orientation(header, recipe)
    if find_family(recipe.kernel):
        return _frame(orient(image, orientation) if orientation > 1 else image, recipe)
    return _place(_scale(image, _plan_image(header, recipe, eighths), orientation), recipe)


def _read_whole(data: bytes, header: Header, recipe: PixelRecipe) -> Pixels:
    shown = replace(recipe, color="rgb") if recipe.color == "bgr" else recipe
    image = _convert(_decode(data, header, shown, PARTS), header, shown)
    return _to_channels(orient(image, _choose_orientation(header, shown)), shown)


def _decode(data: bytes, header: Header, recipe: PixelRecipe, eighths: int) -> Samples:
    if isinstance(header, JpegHeader):
        gray = _is_read_gray(header, recipe)
        return header.decode_scaled(data, eighths=eighths, gray=gray, fast=recipe.dct == "fast")
    if recipe.alpha == "drop" and isinstance(header, PngHeader):
        header = replace(header, transparency=None)  # of a palette, or one color
    return header.decode(data)


def _convert(samples: Samples, header: Header, recipe: PixelRecipe) -> Pixels:
    return convert_samples(samples, recipe, inks=isinstance(header, JpegHeader))


def _to_channels(image: Pixels, recipe: PixelRecipe) -> Pixels:
    image = image if image.shape[2] == recipe.channels else np.repeat(image, recipe.channels, axis=2)
    return np.ascontiguousarray(image[..., ::-1]) if recipe.color == "bgr" else image


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

    `image`: uint8 (H, W, C). Returns uint8 (height, width, C): each pixel is the exact area average of
    what it covers (bilinear along a side that grows), rounded half up, or what another kernel of the recipe
    makes; equalized if the recipe says so.
    """
    if find_family(recipe.kernel):
        return _fill(_frame(image, recipe), recipe)
    lengths = (PARTS * image.shape[0], PARTS * image.shape[1])
    spans = _plan(lengths, 1, recipe.height, recipe.width, recipe.resize)
    return _fill(_place(_scale(image, spans, 1), recipe), recipe)


def _scale(image: Pixels, spans: tuple[Span, Span], orientation: int) -> Pixels:
    """Scale the rows and columns of an image as stored, by `spans`, and then rotate it upright.

    It is rotated after scaling, when it is small: averages are the same from either end.
    """
    image = scale(image, *spans)
    return orient(image, orientation) if orientation > 1 else image


def _frame(image: Pixels, recipe: PixelRecipe) -> _Scaled:
    """Scale an upright image by a kernel of another library, and by its way of cropping and padding."""
    frame = frame_picture(image.shape[0], image.shape[1], recipe)
    image = scale_by_kernel(image, frame.rows, frame.columns, kernel=recipe.kernel)
    return _Scaled(image, frame.top, frame.left)


def _place(image: Pixels, recipe: PixelRecipe) -> _Scaled:
    return _Scaled(image, (recipe.height - image.shape[0]) // 2, (recipe.width - image.shape[1]) // 2)


def _fill(scaled: _Scaled, recipe: PixelRecipe) -> Pixels:
    """Equalize a scaled image if the recipe says so, and put it on black of the model's size."""
    image = equalize(scaled.image) if recipe.equalize == "histogram" else scaled.image
    height, width, channels = image.shape
    if (height, width) == (recipe.height, recipe.width):
        return image
    canvas = np.zeros((recipe.height, recipe.width, channels), np.uint8)
    canvas[scaled.top : scaled.top + height, scaled.left : scaled.left + width] = image
    return canvas


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
