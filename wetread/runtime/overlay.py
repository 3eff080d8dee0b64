"""Tint a picture by a map: red parts speak for a label, blue parts against it, and the rest stays as it is.

The scale is one for all pictures of a method, so that two can be compared. What is tinted can still be seen:
a color covers at most half of what is below it.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from wetread.runtime.explain import Explanation
from wetread.runtime.images.pixels import Pixels

# The log-odds from which on a color is at its strongest, by method. Occlusion: a place that moves a
# probability from 0.5 to 0.88 moves the log-odds by 2. A class activation says what the whole image would
# have if it looked like one place, which is more: at 8 the probability is 0.9997.
SCALES = {"occlusion": 2.0, "cam": 8.0}
# Below this part of the scale there is no color.
FAINTEST = 0.1
_FOR, _AGAINST = (216, 48, 39), (44, 105, 210)  # RGB
# The opacity of the weakest and of the strongest color.
_WEAKEST, _STRONGEST = 0.12, 0.5
_STRIP_PIXELS = 1 << 20


def tint(picture: Pixels, found: Explanation) -> None:
    """Draw the map's colors over a picture, in place, a strip at a time.

    `picture`: uint8 (H, W, 3) RGB, as large as the explanation's.
    """
    box, (height, width) = found.box, picture.shape[:2]
    columns = _find_places(np.arange(width), box.left, box.width, found.map.shape[1])
    strip = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, strip):
        rows = np.arange(top, min(height, top + strip))
        places = _find_places(rows, box.top, box.height, found.map.shape[0])
        across, down = np.meshgrid(columns, places)
        heat = cv2.remap(found.map, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        heat[np.isnan(places)] = 0
        heat[:, np.isnan(columns)] = 0
        blend(picture[rows[0] : rows[-1] + 1], heat / np.float32(SCALES[found.method]))


def _find_places(pixels: NDArray[np.intp], start: float, length: float, size: int) -> NDArray[np.float32]:
    """Map the centers of the original's pixels to the map; NaN for pixels that the model did not see."""
    share = (pixels + 0.5 - start) / length
    places = np.clip(share * size - 0.5, 0, size - 1)
    return np.where((share < 0) | (share > 1), np.nan, places).astype(np.float32)


def blend(picture: Pixels, strength: NDArray[np.floating]) -> None:
    """Mix a color into each pixel, in place.

    `strength`: from -1 (against) to 1 (for), float (H, W); between -FAINTEST and FAINTEST a pixel stays.
    """
    shown = np.where(np.abs(strength) < FAINTEST, 0, np.clip(strength, -1, 1))
    level = (np.rint(shown * 127) + 128).astype(np.uint16) << np.uint16(8)
    for channel, table in enumerate(_mix_colors()):
        picture[..., channel] = np.take(table, level | picture[..., channel])


@lru_cache(maxsize=1)
def _mix_colors() -> tuple[Pixels, ...]:
    """Return, for each channel, uint8 (65536,): the result for a gray (low byte) and strength (high byte)."""
    strength = (np.arange(256)[:, None] - 128) / 127
    share = np.where(strength == 0, 0, _WEAKEST + (_STRONGEST - _WEAKEST) * np.abs(strength))
    levels = np.arange(256)[None]
    tables = (
        levels + (np.where(strength > 0, ink, other) - levels) * share
        for ink, other in zip(_FOR, _AGAINST, strict=True)
    )
    return tuple(np.clip(np.rint(table), 0, 255).astype(np.uint8).ravel() for table in tables)
