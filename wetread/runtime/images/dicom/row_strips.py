"""Arithmetic on a picture, a strip of rows at a time: wide temporaries are never held for all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

_STRIP_SAMPLES = 1 << 18


def map_strips(
    function: Callable[[NDArray[Any]], NDArray[Any]], image: NDArray[Any], kind: type[np.integer[Any]]
) -> NDArray[Any]:
    """Apply a function that works on each sample, or each pixel, by itself. `image`: (H, W) or (H, W, C).

    Returns `kind` of the same shape.
    """
    found = np.empty(image.shape, kind)
    top = 0
    for strip in cut_strips(image):
        found[top : top + len(strip)] = function(strip)
        top += len(strip)
    return found


def cut_strips(image: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Cut an image, (H, W) or (H, W, C), into strips of rows, from the top."""
    rows = max(_STRIP_SAMPLES // max(image[:1].size, 1), 1)
    for top in range(0, len(image), rows):
        yield image[top : top + rows]
