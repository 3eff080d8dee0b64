"""Kinds of pictures that are none of a chest X-ray model's business, near and far.

`near` are made of the held-out images themselves; `far` are drawn, or read from `--pictures FOLDER/<kind>/*`
(benchmarks/scope_pictures.py) and from pydicom's own test files.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from wetread.errors import ImageError
from wetread.runtime.images.pixels import read_picture
from wetread.runtime.images.recipe import PixelRecipe

Picture = np.ndarray  # uint8 (H, W)
# The method was chosen by looking at these, and at no other (docs/scope.md).
CHOSEN_BY = {
    "turned by 90 to the left", "turned by 90 to the right", "turned by 180", "negative",
    "white noise", "smooth noise", "drawn pages", "gradients", "shapes", "photographs",
}  # fmt: skip
NEAR: dict[str, Callable[[Picture], Picture]] = {
    "turned by 90 to the left": lambda p: np.rot90(p),
    "turned by 180": lambda p: np.rot90(p, 2),
    "turned by 90 to the right": lambda p: np.rot90(p, 3),
    "negative": lambda p: np.invert(p),
    "mirrored": lambda p: p[:, ::-1],
    "upside down": lambda p: p[::-1],
    "negative and mirrored": lambda p: np.invert(p[:, ::-1]),
    "middle two thirds": lambda p: _crop(p, 1 / 6),
    "middle half": lambda p: _crop(p, 1 / 4),
    "middle third": lambda p: _crop(p, 1 / 3),
    "one lung": lambda p: p[:, : p.shape[1] // 2],
    "upper half (neck, shoulders)": lambda p: p[: p.shape[0] // 2],
    "lower half (abdomen)": lambda p: p[p.shape[0] // 2 :],
    "dark": lambda p: (p * 0.15).astype(np.uint8),
    "over-exposed": lambda p: np.clip(p * 3.0, 0, 255).astype(np.uint8),
    "two side by side": lambda p: np.concatenate([p, p], axis=1),
    "small on a dark film": lambda p: cv2.copyMakeBorder(
        cv2.resize(p, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA),
        *(3 * p.shape[0] // 10,) * 2, *(3 * p.shape[1] // 10,) * 2, cv2.BORDER_CONSTANT),
    "in a screenshot": lambda p: _put_in_window(p),
    "under a report's text": lambda p: _write_over(p),
}  # fmt: skip
DICOM_KINDS = {
    "CT slice": ("CT_small.dcm",),
    "MR slice": ("MR_small.dcm", "examples_overlay.dcm"),
    "ultrasound": ("examples_rgb_color.dcm", "examples_palette.dcm", "examples_jpeg2k.dcm"),
}


def _crop(picture: Picture, share: float) -> Picture:
    high, wide = (int(share * side) for side in picture.shape)
    return picture[high : picture.shape[0] - high, wide : picture.shape[1] - wide]


def _put_in_window(picture: Picture) -> Picture:
    screen = np.full((600, 960), 236, np.uint8)
    screen[80:560, 40:520] = cv2.resize(picture, (480, 480))
    cv2.rectangle(screen, (40, 40), (920, 80), 90, -1)
    for row in range(12):
        cv2.putText(screen, "Name  Date  Series  Views", (550, 120 + 36 * row), 0, 0.7, 20, 1)
    return screen


def _write_over(picture: Picture) -> Picture:
    page = cv2.resize(picture, (400, 400))
    for row in range(18):
        cv2.putText(page, "no focal consolidation is seen", (8, 24 + 21 * row), 0, 0.7, 255, 2)
    return page


def draw_kinds(count: int) -> Iterator[tuple[str, list[Picture]]]:
    """Draw `count` pictures of each kind that has a pen."""
    for kind, draw in DRAWN.items():
        chance = np.random.default_rng(11)
        yield kind, [draw(chance) for _ in range(count)]


def read_kinds(folder: Path | None, recipe: PixelRecipe) -> Iterator[tuple[str, list[Picture]]]:
    """Read the pictures below a folder, by kind, and those of pydicom's test files, cut in parts."""
    for place in sorted(folder.iterdir()) if folder is not None else ():
        yield place.name, [read_picture(p.read_bytes(), recipe)[..., 0] for p in sorted(place.iterdir())]
    from pydicom.data import get_testdata_file

    chance = np.random.default_rng(3)
    for kind, names in DICOM_KINDS.items():
        whole = []
        for name in names:
            try:
                whole.append(read_picture(Path(get_testdata_file(name)).read_bytes(), recipe)[..., 0])
            except ImageError as error:
                warnings.warn(f"{name}: {error}", stacklevel=2)
        yield kind, [_cut(picture, chance) for picture in whole for _ in range(30)]


def _cut(picture: Picture, chance: np.random.Generator) -> Picture:
    height, width = (int(chance.uniform(0.6, 1) * side) for side in picture.shape)
    top, left = (
        int(chance.integers(0, a - b + 1)) for a, b in zip(picture.shape, (height, width), strict=True)
    )
    return picture[top : top + height, left : left + width]


def _white_noise(chance: np.random.Generator) -> Picture:
    side = int(chance.integers(90, 300))
    return chance.integers(0, 256, (side, side), dtype=np.uint8)


def _smooth_noise(chance: np.random.Generator) -> Picture:
    cells = int(chance.integers(3, 24))
    return cv2.resize(chance.integers(0, 256, (cells, cells), dtype=np.uint8), (224, 224), interpolation=2)


def _page(chance: np.random.Generator) -> Picture:
    dark = chance.random() < 0.3
    page = np.full((600, 460), 0 if dark else 255, np.uint8)
    for top in range(30, 590, int(chance.integers(16, 26))):
        words = " ".join("".join(map(chr, chance.integers(97, 123, chance.integers(2, 9)))) for _ in range(7))
        cv2.putText(page, words, (20, top), 0, 0.5, 255 if dark else 0, 1)
    return page


def _gradient(chance: np.random.Generator) -> Picture:
    y, x = np.mgrid[:224, :224] / 223
    a = chance.normal(size=4)
    value = a[0] * x + a[1] * y + a[2] * x * y + a[3] * x * x
    return np.uint8((value - value.min()) / np.ptp(value) * 255)


def _shapes(chance: np.random.Generator) -> Picture:
    picture = np.full((224, 224), chance.integers(0, 256), np.uint8)
    for _ in range(int(chance.integers(3, 12))):
        (left, top, right, low), level = map(int, chance.integers(0, 224, 4)), int(chance.integers(0, 256))
        if chance.random() < 0.5:
            cv2.rectangle(picture, (left, top), (right, low), level, -1)
        else:
            cv2.circle(picture, (left, top), 5 + right // 3, level, -1)
    return picture


def _chart(chance: np.random.Generator) -> Picture:
    picture = np.full((300, 400), 255, np.uint8)
    cv2.rectangle(picture, (50, 20), (380, 260), 0, 1)
    for tick in range(6):
        cv2.putText(picture, f"{tick * 20}", (10, 262 - 46 * tick), 0, 0.4, 0, 1)
    if chance.random() < 0.5:
        for bar in range(8):
            cv2.rectangle(
                picture, (60 + 40 * bar, int(chance.integers(30, 250))), (85 + 40 * bar, 260), 110, -1
            )
    else:
        points = np.stack([np.linspace(50, 380, 40), 140 + np.cumsum(chance.normal(0, 9, 40))], axis=1)
        cv2.polylines(picture, [points.astype(np.int32)], False, 60, 2)
    return picture


def _screenshot(chance: np.random.Generator) -> Picture:
    dark = chance.random() < 0.5
    screen = np.full((720, 1280), 30 if dark else 240, np.uint8)
    for _ in range(int(chance.integers(2, 5))):
        left, top, wide, high = (
            int(chance.integers(*span)) for span in ((0, 800), (0, 450), (250, 700), (150, 400))
        )
        cv2.rectangle(screen, (left, top), (left + wide, top + high), 55 if dark else 255, -1)
        cv2.rectangle(screen, (left, top), (left + wide, top + 24), 95 if dark else 200, -1)
        for row in range(high // 22 - 2):
            text = "".join(map(chr, chance.integers(97, 123, wide // 14)))
            cv2.putText(screen, text, (left + 8, top + 50 + 20 * row), 0, 0.45, 205 if dark else 20, 1)
    return screen


def _hand(chance: np.random.Generator) -> Picture:
    """Bones and soft tissue of a hand, bright on dark, as an X-ray of it looks."""
    soft, bone = np.zeros((400, 400), np.float32), np.zeros((400, 400), np.float32)
    palm = np.array([200, 260]) + chance.normal(0, 15, 2)
    cv2.ellipse(soft, (int(palm[0]), int(palm[1])), (75, 80), 0, 0, 360, 1, -1)
    angles = np.deg2rad([-150, -112, -92, -74, -50]) + chance.normal(0, 0.05, 5)
    for angle, length in zip(angles, (90, 140, 155, 145, 115), strict=True):
        way = np.array([np.cos(angle), np.sin(angle)])
        joints = [palm + way * (20 + (35 + length) * share) for share in (0, 0.38, 0.66, 0.85, 1)]
        cv2.line(soft, _point(palm + way * 55), _point(joints[-1]), 1, 34)
        for one, other in itertools.pairwise(joints):
            cv2.line(bone, _point(one + 0.08 * (other - one)), _point(other - 0.08 * (other - one)), 1, 13)
    cv2.rectangle(soft, _point(palm + np.array([-40, 60])), (int(palm[0]) + 40, 400), 1, -1)
    for side, width in ((-18, 22), (20, 18)):
        cv2.line(bone, _point(palm + np.array([side, 70])), (int(palm[0]) + side, 400), 1, width)
    levels = chance.normal(12, 4, (400, 400)) + 90 * cv2.GaussianBlur(soft, (0, 0), 5)
    return np.uint8(np.clip(levels + 110 * cv2.GaussianBlur(bone, (0, 0), 2.5), 0, 255))


def _point(place: np.ndarray) -> tuple[int, int]:
    return int(place[0]), int(place[1])


def _bar_code(chance: np.random.Generator) -> Picture:
    widths = chance.integers(2, 9, 64)
    row = np.repeat(chance.integers(0, 2, 64), widths).astype(np.uint8) * 255
    return np.repeat(row[None], 224, axis=0)


def _matrix_code(chance: np.random.Generator) -> Picture:
    side = int(chance.integers(21, 45))
    return np.kron(chance.integers(0, 2, (side, side)), np.full((8, 8), 255)).astype(np.uint8)


DRAWN: dict[str, Callable[[np.random.Generator], Picture]] = {
    "white noise": _white_noise,
    "smooth noise": _smooth_noise,
    "drawn pages": _page,
    "gradients": _gradient,
    "shapes": _shapes,
    "charts": _chart,
    "screenshots": _screenshot,
    "a drawn hand": _hand,
    "bar codes": _bar_code,
    "matrix codes": _matrix_code,
}
BLANKS: dict[str, Picture] = {
    "black": np.zeros((224, 224), np.uint8),
    "white": np.full((224, 224), 255, np.uint8),
    "gray": np.full((224, 224), 128, np.uint8),
    "gray, with noise of 2 levels": np.uint8(np.random.default_rng(0).normal(128, 2, (1000, 1000))),
}
