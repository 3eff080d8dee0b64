"""An explanation as a picture for people: the image, beside it what the model looked at, and below it words.

    image              | image, tinted           512 to 1,024 pixels along its longer side
    ---- the scale, from blue to red ----
    PNEUMONIA: probability 0.9312, threshold 0.46
    ...
    Not a medical device; not for diagnosis.

`wetread explain` writes it as a PNG, a DICOM node sends it as a Secondary Capture.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date

import cv2
import numpy as np

from wetread.packages import find_own_version
from wetread.runtime.explain import Box, Explanation
from wetread.runtime.images.pixels import Pixels
from wetread.runtime.images.text_drawing import draw_text, measure_text
from wetread.runtime.model.scope import INSIDE, OUTSIDE
from wetread.runtime.model.spec import ModelSpec
from wetread.runtime.overlay import FAINTEST, SCALES, blend, tint

NOTICE = "Not a medical device; not for diagnosis."
_LEAST, _MOST = 512, 1024  # pixels along the longer side of the image as shown
_LINE, _MARGIN, _GAP = 30, 16, 8
_EDGE = 34  # around an image whose directions in the patient are known
_SCALE = 0.65  # of letters
_BAR = 18
_PLAIN, _WARNING = (235, 235, 235), (255, 150, 110)
_DIGEST = 16


@dataclass(frozen=True, kw_only=True)
class Caption:
    """What a picture says beside its explanation.

    `model`, `digest`: the model's name and SHA-256. `positive`, `threshold`: the label that is the answer
    from this probability on; None where the largest probability is the answer. `identity`: which image it is,
    without a patient's name unless that was asked for. `day`: when the picture was made.
    """

    model: str
    digest: str
    positive: str | None
    threshold: float | None
    identity: str
    day: date


def make_caption(spec: ModelSpec, *, model: str, digest: str, identity: str) -> Caption:
    """Make the caption of a picture that is made today."""
    return Caption(
        model=model,
        digest=digest,
        positive=spec.positive,
        threshold=None if spec.positive is None else spec.threshold,
        identity=identity,
        day=date.today(),
    )


def draw_explanation(found: Explanation, caption: Caption) -> Pixels:
    """Draw an explanation beside its image, with a scale and words below. Returns uint8 (H, W, 3) RGB.

    The image is shown with square pixels and, where an object says so, with the patient's directions at its
    edges. The map's scale is the same in all pictures.
    """
    shown = _bring_to_size(found)
    plain = np.array(np.broadcast_to(shown.picture, (*shown.picture.shape[:2], 3)))
    tinted = plain.copy()
    tint(tinted, shown)
    images = _put_together(*(_add_edges(each, found.display.edges) for each in (plain, tinted)))
    wide = max(images.shape[1], 2 * _LEAST + _GAP)
    pieces = [images, _draw_scale(found, wide), _draw_lines(found, caption, wide)]
    canvas = np.zeros((sum(len(piece) for piece in pieces), wide, 3), np.uint8)
    top = 0
    for piece in pieces:
        canvas[top : top + len(piece), : piece.shape[1]] = piece
        top += len(piece)
    return canvas


def describe(found: Explanation, caption: Caption) -> list[str]:
    """Return what the picture says, a sentence a line; the notice is the last."""
    return [text for text, _ in _say(found, caption)]


def _say(found: Explanation, caption: Caption) -> Iterator[tuple[str, tuple[int, int, int]]]:
    yield f"{found.label}: probability {found.probability:.4f}{_describe_threshold(found, caption)}", _PLAIN
    if found.answer and found.answer != found.label:
        other = found.probabilities.get(found.answer, float("nan"))
        yield f"The model's answer is another label: {found.answer}, probability {other:.4f}.", _WARNING
    if found.outside:
        yield f"Outside the model's scope: {found.outside}. Its answer means little here.", _WARNING
    elif found.outside is not None:
        yield "Inside the model's scope.", _PLAIN
    for text in explain_colors(found):
        yield text, _PLAIN
    yield (
        f"Model {caption.model}, digest {caption.digest[:_DIGEST]}, wetread {find_own_version()}; "
        f"made {caption.day.isoformat()}",
        _PLAIN,
    )
    yield f"Image {caption.identity}", _PLAIN
    yield NOTICE, _WARNING


def _describe_threshold(found: Explanation, caption: Caption) -> str:
    if caption.threshold is not None:
        return f", threshold {caption.threshold:g} (for {caption.positive})"
    return f", one of {len(found.probabilities)} labels"


def explain_colors(found: Explanation) -> list[str]:
    """Say in words what the colors mean, or that there are none."""
    strongest = SCALES[found.method]
    if float(np.abs(found.map).max()) < FAINTEST * strongest:
        return [f"No single place made {found.label} much more or less likely: nothing is tinted."]
    if found.method == "occlusion":
        return [
            f"Red: hiding this place made {found.label} less likely. Blue: hiding it made it more likely.",
            f"Strongest color: a change of {strongest:g} or more in log-odds (from 0.5 to 0.88, say). "
            f"Below {FAINTEST * strongest:g}: no color.",
        ]
    return [
        f"Red: this place speaks for {found.label}. Blue: it speaks against it.",
        f"Strongest color: log-odds of {strongest:g} or more, if all looked like this place. "
        f"Below {FAINTEST * strongest:g}: no color.",
    ]


def make_metadata(found: Explanation, caption: Caption) -> dict[str, str]:
    """Return what the PNG's metadata say: PNG's own keywords, and all of it as JSON under 'wetread'."""
    values = {
        "label": found.label,
        "answer": found.answer,
        "probability": found.probability,
        "probabilities": found.probabilities,
        "threshold": caption.threshold,
        "model": caption.model,
        "sha256": caption.digest,
        "image": caption.identity,
        "method": found.method,
        "strongest_color_log_odds": SCALES[found.method],
        "no_color_below_log_odds": FAINTEST * SCALES[found.method],
        "scope": None if found.outside is None else OUTSIDE if found.outside else INSIDE,
        "scope_reason": found.outside or None,
        "date": caption.day.isoformat(),
    }
    return {
        "Title": f"Where {caption.model} looked: {found.label}",
        "Description": "\n".join(describe(found, caption)),
        "Software": f"wetread {find_own_version()}",
        "Source": caption.identity,
        "Creation Time": caption.day.isoformat(),
        "Disclaimer": NOTICE,
        "wetread": json.dumps(values, ensure_ascii=False),
    }


def _bring_to_size(found: Explanation) -> Explanation:
    """Make pixels square, enlarge a small picture so that it can be seen, and reduce a large one."""
    height, width = found.picture.shape[:2]
    aspect = found.display.aspect
    # The side along which pixels are longer is stretched, so that no row or column is lost by it.
    tall, wide = height * max(1.0, aspect), width * max(1.0, 1 / aspect)
    factor = min(max(tall, wide, _LEAST), _MOST) / max(tall, wide)
    sides = max(1, round(wide * factor)), max(1, round(tall * factor))
    way = cv2.INTER_AREA if factor * max(aspect, 1 / aspect) < 1 else cv2.INTER_LINEAR
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


def _add_edges(image: Pixels, edges: tuple[str, str, str, str]) -> Pixels:
    """Write the patient's directions around an image, where they are known."""
    if not any(edges):
        return image
    height, width = image.shape[:2]
    framed = np.zeros((height + 2 * _EDGE, width + 2 * _EDGE, 3), np.uint8)
    framed[_EDGE:-_EDGE, _EDGE:-_EDGE] = image
    middle = framed.shape[0] // 2, framed.shape[1] // 2
    half = _EDGE // 2
    centers = (half, middle[0]), (framed.shape[1] - half, middle[0]), (middle[1], half)
    for letters, (across, down) in zip(edges, (*centers, (middle[1], framed.shape[0] - half)), strict=True):
        _write(framed, letters, (across - _measure(letters) // 2, down + 8), _PLAIN)
    return framed


def _put_together(plain: Pixels, tinted: Pixels) -> Pixels:
    """Put two images side by side; one below the other where they are much wider than high."""
    height, width = plain.shape[:2]
    axis = 0 if width > 2 * height else 1
    gap = np.zeros((_GAP, width, 3) if axis == 0 else (height, _GAP, 3), np.uint8)
    return np.concatenate([plain, gap, tinted], axis=axis)


def _draw_scale(found: Explanation, wide: int) -> Pixels:
    """A bar of all colors over the middle gray of an X-ray, and what its ends mean."""
    strip = np.zeros((_MARGIN + _BAR + _LINE + _GAP, wide, 3), np.uint8)
    bar = strip[_MARGIN : _MARGIN + _BAR, _MARGIN : wide - _MARGIN]
    bar[...] = 128
    blend(bar, np.broadcast_to(np.linspace(-1, 1, bar.shape[1]), bar.shape[:2]))
    strongest = SCALES[found.method]
    for share, text in ((0.0, f"-{strongest:g} against"), (0.5, "0"), (1.0, f"for +{strongest:g}")):
        left = _MARGIN + round(share * (wide - 2 * _MARGIN - _measure(text)))
        _write(strip, text, (left, _MARGIN + _BAR + 24), _PLAIN)
    return strip


def _draw_lines(found: Explanation, caption: Caption, wide: int) -> Pixels:
    lines = [(part, ink) for text, ink in _say(found, caption) for part in _wrap(text, wide - 2 * _MARGIN)]
    strip = np.zeros((_LINE * len(lines) + 2 * _MARGIN, wide, 3), np.uint8)
    for index, (text, ink) in enumerate(lines):
        _write(strip, text, (_MARGIN, _MARGIN + _LINE * index + 20), ink)
    return strip


def _wrap(text: str, most: int) -> list[str]:
    """Break a text into lines of at most so many pixels, at blanks where there are some."""
    lines: list[str] = []
    while text:
        ends = range(1, min(len(text), most) + 1)  # hardly a letter is narrower than a pixel
        end = max(1, bisect_right(ends, most, key=lambda end: _measure(text[:end])))
        if end < len(text):
            blank = text.rfind(" ", 0, end + 1)
            end = blank if blank > 0 else end
        lines.append(text[:end].rstrip())
        text = text[end:].lstrip()
    return lines


def _measure(text: str) -> int:
    return measure_text(text, scale=_SCALE, thick=1) if text else 0


def _write(picture: Pixels, text: str, place: tuple[int, int], ink: tuple[int, int, int]) -> None:
    if text:
        draw_text(picture, text, place, scale=_SCALE, ink=ink, thick=1)
