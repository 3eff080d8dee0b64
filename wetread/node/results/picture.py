"""The picture of a result: the image, beside it what the model looked at, and below what that says.

image | image with the map        at most 1,024 pixels high, at least 512
PNEUMONIA 0.93, threshold 0.46
...
Not a medical device; not for diagnosis.
"""

from __future__ import annotations

import textwrap
from dataclasses import replace

import cv2
import numpy as np

from wetread.node.results.source_image import NOTICE
from wetread.runtime.explain import Box, Explanation
from wetread.runtime.images.pixels import Pixels
from wetread.runtime.images.text_drawing import draw_text
from wetread.runtime.overlay import tint

# Log-odds at which a color is at its strongest, the same in all pictures: so that two can be compared.
SCALE = 2.0
# What moves the log-odds less than this stays as it is.
FAINTEST = 0.2
_LEAST, _MOST = 512, 1024
_LINE, _MARGIN, _GAP = 30, 16, 8
_LETTER = 11  # pixels that a letter takes on average


def draw_result(found: Explanation, lines: list[str]) -> Pixels:
    """Draw an explanation beside its image, with lines of text below. Returns uint8 (H, W, 3) RGB.

    Red stands where hiding a place made the label less likely, blue where it made it more likely. The notice
    that this is no medical device is always the last line.
    """
    shown = _bring_to_size(found)
    height, width = shown.picture.shape[:2]
    plain = np.broadcast_to(shown.picture, (height, width, 3))
    tinted = np.array(plain)
    tint(tinted, shown, limit=SCALE, faintest=FAINTEST)
    wide = max(2 * width + _GAP, 2 * _LEAST + _GAP)
    texts = [*_wrap([*lines, *explain_colors(found)], wide // _LETTER), NOTICE]
    canvas = np.zeros((height + _LINE * len(texts) + 2 * _MARGIN, wide, 3), np.uint8)
    canvas[:height, :width] = plain
    canvas[:height, width + _GAP : 2 * width + _GAP] = tinted
    for index, text in enumerate(texts):
        below = height + _MARGIN + _LINE * index + 20
        draw_text(canvas, text, (_MARGIN, below), scale=0.65, ink=(235, 235, 235), thick=1)
    return canvas


def explain_colors(found: Explanation) -> list[str]:
    """Say in words what the colors mean, or that there are none."""
    if float(np.abs(found.map).max()) < FAINTEST:
        return [f"No single place made {found.label} much more or less likely."]
    if found.method == "occlusion":
        return [
            f"Red: hiding this place made {found.label} less likely. Blue: hiding it made it more likely.",
            f"Strongest color: a change of {SCALE:g} or more in log-odds.",
        ]
    return [
        f"Red: this place speaks for {found.label}. Blue: it speaks against it.",
        f"Strongest color: {SCALE:g} or more in log-odds.",
    ]


def _bring_to_size(found: Explanation) -> Explanation:
    """Enlarge a small picture, so that it can be seen, and reduce a large one, with the map's place."""
    height, width = found.picture.shape[:2]
    longest = max(height, width)
    factor = min(max(longest, _LEAST), _MOST) / longest
    sides = max(1, round(width * factor)), max(1, round(height * factor))
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(found.picture, sides, interpolation=way)
    picture = resized.reshape(sides[1], sides[0], found.picture.shape[2]).astype(np.uint8)
    down, across = sides[1] / height, sides[0] / width
    box = Box(
        top=found.box.top * down,
        left=found.box.left * across,
        height=found.box.height * down,
        width=found.box.width * across,
    )
    return replace(found, picture=picture, box=box)


def _wrap(lines: list[str], letters: int) -> list[str]:
    return [part for line in lines for part in textwrap.wrap(line, letters) or [""]]
