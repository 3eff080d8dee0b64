"""Write text on a picture, in any script that this OpenCV has letters for; the rest as escapes.

OpenCV's own letters are ASCII. From version 5 on its wheels hold a font of many scripts as well, and a build
may come without it: what cannot be drawn is written as Python would escape it, so that no two labels look
alike and none looks like another.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from wetread.runtime.images.pixels import Pixels

_FONT = "uni"
_MISSING = "\uffff"  # no character: its picture is that of every letter that a font lacks
_PIXELS = 31  # the font's size at which its letters are as tall as OpenCV's own at scale 1
_RIGHT_TO_LEFT = ("R", "AL")  # OpenCV sets such letters the other way round


def draw_text(
    picture: Pixels, text: str, place: tuple[int, int], *, scale: float, ink: tuple[int, int, int], thick: int
) -> None:
    """Write a line on uint8 (H, W, 3), in place; `place`: the left end of its baseline.

    `scale`: that of OpenCV's own letters, which draw what is ASCII alone.
    """
    line = escape_text(text)
    if line.isascii():
        cv2.putText(picture, line, place, cv2.FONT_HERSHEY_SIMPLEX, scale, ink, thick, cv2.LINE_AA)
    else:
        cv2.putText(picture, line, place, ink, _find_face(), round(_PIXELS * scale))


def escape_text(text: str) -> str:
    """Return a text with what cannot be drawn here as escapes: '\\u200b', '\\x07'."""
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
    """The font of many scripts; None where this OpenCV has none."""
    kind = getattr(cv2, "FontFace", None)
    face = None if kind is None else kind(_FONT)
    return face if face is not None and face.getName() else None
