"""Draw an explanation over the image at its full size: red parts speak for the label, blue parts against it,
with a colour scale below."""

from __future__ import annotations

import textwrap
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from wetread.errors import OutputError
from wetread.runtime.explain import Explanation
from wetread.runtime.images.pixels import Pixels
from wetread.runtime.images.text_drawing import draw_text

_FOR, _AGAINST = (216, 48, 39), (44, 105, 210)  # RGB
_WARNING = (160, 20, 20)
_STRONGEST = 0.62  # opacity of the strongest colour
_STRIP_PIXELS = 1 << 20
_SCALE_WIDTH = 320  # a narrower image gets a margin, so that the scale is legible
_MEANINGS = {"occlusion": "log-odds lost when hidden", "cam": "log-odds if all looked so"}
# A map that changes the log-odds nowhere by this much shows only rounding.
_FAINTEST = 0.01


def draw_explanation(found: Explanation) -> Pixels:
    """Draw the map over the original, with its scale, and a warning where the image is outside the scope.

    Returns uint8 (H + scale, W, 3) RGB.

    The original is at the top left, pixel for pixel; the strongest colour is the map's largest value.
    """
    height, width = found.picture.shape[:2]
    limit = max(float(np.abs(found.map).max()), _FAINTEST)
    wide = max(width, _SCALE_WIDTH)
    scale = _draw_scale(found, limit, wide)
    canvas = np.full((height + scale.shape[0], wide, 3), 255, np.uint8)
    canvas[:height, :width] = found.picture  # one channel spreads over three
    tint(canvas[:height, :width], found, limit=limit)
    canvas[height:] = scale
    return np.concatenate([canvas, _draw_warning(found.outside, wide)]) if found.outside else canvas


def encode_png(picture: Pixels) -> bytes:
    """Write uint8 (H, W, 3) RGB as a PNG. Raises OutputError."""
    written, data = cv2.imencode(".png", picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not written:
        raise OutputError(f"A picture of {picture.shape[:2]} pixels is too large for a PNG.")
    return data.tobytes()


def tint(picture: Pixels, found: Explanation, *, limit: float, faintest: float = 0.0) -> None:
    """Draw the map's colours over a picture, in place, a strip at a time.

    `picture`: uint8 (H, W, 3) RGB, as large as the explanation's. From `limit` on colours are at their
    strongest; values below `faintest` get none.
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
        heat[np.abs(heat) < faintest] = 0
        _blend(picture[rows[0] : rows[-1] + 1], np.clip(heat / np.float32(limit), -1, 1))


def _find_places(pixels: NDArray[np.intp], start: float, length: float, size: int) -> NDArray[np.float32]:
    """Map the centres of the original's pixels to the map; NaN for pixels that the model did not see."""
    share = (pixels + 0.5 - start) / length
    places = np.clip(share * size - 0.5, 0, size - 1)
    return np.where((share < 0) | (share > 1), np.nan, places).astype(np.float32)


def _blend(picture: Pixels, strength: NDArray[np.floating]) -> None:
    """Mix a colour into each pixel, by `strength` from -1 (against) to 1 (for), in place."""
    level = (np.rint(strength * 127) + 128).astype(np.uint16) << np.uint16(8)
    for channel, table in enumerate(_mix_colours()):
        picture[..., channel] = np.take(table, level | picture[..., channel])


@lru_cache(maxsize=1)
def _mix_colours() -> tuple[Pixels, ...]:
    """Return, for each channel, uint8 (65536,): the result for a gray (low byte) and strength (high byte)."""
    strength = (np.arange(256)[:, None] - 128) / 127
    share, levels = _STRONGEST * np.abs(strength), np.arange(256)[None]
    tables = (
        levels + (np.where(strength > 0, ink, other) - levels) * share
        for ink, other in zip(_FOR, _AGAINST, strict=True)
    )
    return tuple(np.clip(np.rint(table), 0, 255).astype(np.uint8).ravel() for table in tables)


def _draw_scale(found: Explanation, limit: float, width: int) -> Pixels:
    """Draw a white strip with the label, its probability, and the meaning of the colours."""
    size = max(1.0, width / 900)
    line, margin = round(20 * size), round(12 * size)
    strip = np.full((3 * line + 3 * margin, width, 3), 255, np.uint8)
    bar = strip[margin + line + margin // 2 :][: line // 2 + 2, margin : width - margin]
    bar[...] = 128  # mid-gray, like that of an X-ray
    _blend(bar, np.broadcast_to(np.linspace(-1, 1, bar.shape[1]), bar.shape[:2]))
    said = f"{found.label} {found.probability:.4f}: {_MEANINGS[found.method]}"
    _write(strip, said, (margin, margin + round(13 * size)), size)
    below = 2 * margin + 2 * line + round(8 * size)
    for share, text in ((0.0, f"-{limit:.2g} against"), (0.5, "0"), (1.0, f"for +{limit:.2g}")):
        wide = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.42 * size, 1)[0][0]
        _write(strip, text, (round(margin + share * (width - 2 * margin - wide)), below), size)
    return strip


def _draw_warning(reason: str, width: int) -> Pixels:
    """Strips that say that the image is none of the model's business: its answer means little."""
    size = max(1.0, width / 900)
    line, margin = round(20 * size), round(12 * size)
    room = max(int((width - 2 * margin) / (8 * size)), 20)
    words = textwrap.wrap(f"Outside the model's scope: {reason}", room)
    strip = np.full((len(words) * line + margin, width, 3), 255, np.uint8)
    for row, text in enumerate(words):
        place = (margin, round(row * line + 13 * size))
        draw_text(strip, text, place, scale=0.42 * size, ink=_WARNING, thick=max(1, round(size)))
    return strip


def _write(picture: Pixels, text: str, place: tuple[int, int], size: float) -> None:
    """Write dark text on white."""
    draw_text(picture, text, place, scale=0.42 * size, ink=(30, 30, 34), thick=max(1, round(size)))
