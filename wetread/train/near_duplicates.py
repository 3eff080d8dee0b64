"""Find images that are one picture saved twice: at another size or quality, lightened, darkened, blurred.

Step 1: the difference hashes of all images are compared (16 x 16 bits: is a pixel brighter than its left
neighbour?). Step 2: for the few pairs that remain, the pixels are correlated after histogram equalisation,
which undoes any change of exposure. docs/results/experiments.md has the measurements on X-rays, where even
different patients look similar. Cropped or rotated copies are found only by chance.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

_SIDE = 16
_BITS_APART = 20  # of 256: measured up to 20 between copies, 13 or more between different pictures
_CORRELATION = 0.985  # measured 0.985 and more for copies, up to 0.967 for different pictures of step 1
_LARGEST_SIDE = 64
_BLOCK = 1024

Pixels = NDArray[np.uint8]


def find_alike(pixels: Pixels, rows: NDArray[np.integer]) -> list[tuple[int, int]]:
    """Find near-identical images among some rows of uint8 (M, H, W, C).

    Returns pairs of indices into `rows`, the smaller first, sorted. Needs 32 bytes an image, and time that
    grows with the square of their number: one or two seconds for 5,000.
    """
    if min(pixels.shape[1:3]) < _SIDE:  # too few pixels to tell pictures apart
        return []
    hashes = np.empty((len(rows), _SIDE * _SIDE // 8), np.uint8)
    for position, row in enumerate(rows):
        hashes[position] = hash_image(pixels[row])
    return [
        (first, second)
        for first, second in _pair_hashes(hashes)
        if correlate(pixels[rows[first]], pixels[rows[second]]) >= _CORRELATION
    ]


def hash_image(image: Pixels) -> Pixels:
    """Return the difference hash of uint8 (H, W, C), 256 bits packed in uint8 (32,)."""
    gray = image.mean(axis=2, dtype=np.float32)
    small = cv2.resize(gray, (_SIDE + 1, _SIDE), interpolation=cv2.INTER_AREA)
    return np.packbits(small[:, 1:] > small[:, :-1])


def correlate(first: Pixels, second: Pixels) -> float:
    """Correlate the equalized pixels of two images, uint8 (H, W, C); 0 where one has no contrast."""
    values = [_equalize(image) - 127.5 for image in (first, second)]
    values = [value - value.mean() for value in values]
    norm = np.sqrt((values[0] ** 2).sum() * (values[1] ** 2).sum())
    return float((values[0] * values[1]).sum() / norm) if norm else 0.0


def _equalize(image: Pixels) -> NDArray[np.float64]:
    """Equalize each channel of at most 64 x 64 pixels, float64."""
    height, width = (min(length, _LARGEST_SIDE) for length in image.shape[:2])
    channels = [
        cv2.equalizeHist(cv2.resize(channel, (width, height), interpolation=cv2.INTER_AREA))
        for channel in np.moveaxis(image, 2, 0)
    ]
    return np.stack(channels).astype(np.float64)


def _pair_hashes(hashes: Pixels) -> Iterator[tuple[int, int]]:
    """List pairs of indices whose hashes differ in few bits, sorted.

    The product of matrices of -1 and 1 is 256 minus twice the number of differing bits, exact in float32.
    """
    bits = hashes.shape[1] * 8
    for top in range(0, len(hashes), _BLOCK):
        found: list[tuple[int, int]] = []
        for left in range(top, len(hashes), _BLOCK):
            products = _read_signs(hashes[top : top + _BLOCK]) @ _read_signs(hashes[left : left + _BLOCK]).T
            firsts, seconds = np.nonzero(products >= bits - 2 * _BITS_APART)
            found += [
                (top + first, left + second)
                for first, second in zip(firsts.tolist(), seconds.tolist(), strict=True)
                if top + first < left + second
            ]
        yield from sorted(found)


def _read_signs(hashes: Pixels) -> NDArray[np.float32]:
    return np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1
