"""Draw text on an image, in any script that this OpenCV has a font for; other characters as escapes.

OpenCV's own letters are ASCII. Since version 5 its wheels also have a font of many scripts, but a build may
lack it. A character that cannot be drawn is written as Python's escape, so two labels never look the same.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from wetread.runtime.images.pixels import Pixels

_FONT = "uni"
_MISSING = "\uffff"  # not a character: it is drawn like every letter that a font lacks
_PIXELS = 31  # the size at which the font's letters are as tall as OpenCV's own at scale 1
_RIGHT_TO_LEFT = ("R", "AL")  # OpenCV draws such letters in the wrong order


def draw_text(
    picture: Pixels, text: str, place: tuple[int, int], *, scale: float, ink: tuple[int, int, int], thick: int
) -> None:
    """Draw a line of text on uint8 (H, W, 3), in place; `place`: the left end of its baseline.

    `scale`: of OpenCV's own letters, which are used if the text is ASCII.
    """
    line = escape_text(text)
    if line.isascii():
        cv2.putText(picture, line, place, cv2.FONT_HERSHEY_SIMPLEX, scale, ink, thick, cv2.LINE_AA)
    else:
        cv2.putText(picture, line, place, ink, _find_face(), round(_PIXELS * scale))


def measure_text(text: str, *, scale: float, thick: int) -> int:
    """Return how many pixels wide `draw_text` draws a line."""
    line = escape_text(text)
    if line.isascii():
        return int(cv2.getTextSize(line, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)[0][0])
    return int(cv2.getTextSize((0, 0), line, (0, 0), _find_face(), round(_PIXELS * scale))[2])


def escape_text(text: str) -> str:
    """Return a text with characters that cannot be drawn here as escapes: '\\u200b', '\\x07'."""
    return "".join(letter if _can_draw(letter) else _escape(letter) for letter in text)


def _escape(letter: str) -> str:
    return letter.encode("ascii", "backslashreplace").decode() if ord(letter) > 127 else repr(letter)[1:-1]


@lru_cache(maxsize=4096)
def _can_draw(letter: str) -> bool:
    if letter.isascii():
        return letter.isprintable()
    if unicodedata.category(letter) in ("Cs", "Cc") or unicodedata.bidirectional(letter) in _RIGHT_TO_LEFT:
        return False  # a lone surrogate would end the process
    return _find_face() is not None and _draw_letter(letter) not in (
        _draw_letter(_MISSING),
        _draw_letter(" "),
    )


def _draw_letter(letter: str) -> bytes:
    canvas = np.zeros((48, 64, 3), np.uint8)
    cv2.putText(canvas, letter, (16, 32), (255, 255, 255), _find_face(), 24)
    return canvas.tobytes()


@lru_cache(maxsize=1)
def _find_face() -> Any:
    """Return the font of many scripts; None if this OpenCV has none."""
    kind = getattr(cv2, "FontFace", None)
    face = None if kind is None else kind(_FONT)
    return face if face is not None and face.getName() else None
