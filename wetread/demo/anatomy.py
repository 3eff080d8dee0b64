"""The anatomy of a drawn patient: outlines of a chest in a plane, as points.

Lengths are in units of the chest's height: x runs from about -0.5 (the patient's right, the picture's left)
to 0.5, y from 0 (chin) to 1 (belly). Outlines are rough control points, rounded by `smooth`. Nothing here
comes from a real person: the numbers were chosen by eye until the pictures looked like chest X-rays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """One drawn patient. `half_width` of the chest, `apex` and `floor` (y) of the lungs, `heart`'s reach."""

    half_width: float
    apex: float
    floor: float
    heart: float
    wall: float
    spine: float
    ribs: int
    rib_slope: float
    vessels: float
    bubble: float
    arms_up: bool


def draw_anatomy(random: np.random.Generator) -> Anatomy:
    """Choose a patient's proportions, independently of the label, so that they do not give it away."""
    return Anatomy(
        half_width=random.uniform(0.30, 0.38),
        apex=random.uniform(0.15, 0.21),
        floor=random.uniform(0.64, 0.74),
        heart=random.uniform(0.16, 0.25),
        wall=random.uniform(0.025, 0.07),
        spine=random.uniform(0.035, 0.048),
        ribs=int(random.integers(8, 11)),
        rib_slope=random.uniform(0.015, 0.055),
        vessels=random.uniform(0.15, 0.35),
        bubble=random.uniform(-0.05, 0.06),
        arms_up=bool(random.random() < 0.4),
    )


def smooth(points: list[tuple[float, float]], *, closed: bool = True, rounds: int = 3) -> Points:
    """Round the corners of an outline by cutting them (Chaikin, 1974). Returns float64 (M, 2)."""
    return _rounding(len(points), closed, rounds) @ np.asarray(points, np.float64)


@lru_cache(maxsize=64)
def _rounding(count: int, closed: bool, rounds: int) -> Points:
    """Return the corner cutting of `count` points as one matrix."""
    curve = np.eye(count)
    for _ in range(rounds):
        after = np.roll(curve, -1, axis=0) if closed else curve[1:]
        before = curve if closed else curve[:-1]
        cut = np.stack([0.75 * before + 0.25 * after, 0.25 * before + 0.75 * after], axis=1)
        cut = cut.reshape(-1, count)
        curve = cut if closed else np.vstack([curve[:1], cut, curve[-1:]])
    return curve


def mirror(points: Points, side: int) -> Points:
    """Move an outline that was drawn for x > 0 to a side: -1 the picture's left, +1 its right."""
    return points * (side, 1)


def torso(body: Anatomy) -> Points:
    """Neck, shoulders and trunk, down to below the picture."""
    w, a = body.half_width + body.wall, body.apex
    half = [
        (0.10, -0.3), (0.10, a - 0.13), (0.14, a - 0.07), (w, a - 0.035), (w + 0.05, a + 0.03),
        (w + 0.02, a + 0.14), (w - 0.01, a + 0.22), (w, body.floor), (w + 0.01, 1.0), (w, 1.4),
    ]  # fmt: skip
    return smooth(half + [(-x, y) for x, y in reversed(half)])


def arm(body: Anatomy) -> Points:
    """One arm (x > 0), hanging or raised."""
    w, a = body.half_width + body.wall, body.apex
    if body.arms_up:
        ends = [(w + 0.42, a - 0.28), (w + 0.45, a - 0.12), (w + 0.06, a + 0.14)]
        return smooth([(w - 0.05, a - 0.03), *ends, (w - 0.04, a + 0.12)])
    return smooth(
        [
            (w - 0.06, a - 0.02),
            (w + 0.07, a),
            (w + 0.16, a + 0.2),
            (w + 0.2, 1.2),
            (w + 0.09, 1.2),
            (w, a + 0.25),
        ]
    )


def arm_bone(body: Anatomy) -> Points:
    """The bone of that arm, as a line."""
    w, a = body.half_width + body.wall, body.apex
    if body.arms_up:
        return smooth([(w, a + 0.05), (w + 0.1, a), (w + 0.42, a - 0.19)], closed=False)
    return smooth([(w + 0.01, a + 0.04), (w + 0.06, a + 0.1), (w + 0.14, 1.2)], closed=False)


def lung(body: Anatomy, side: int) -> Points:
    """One lung; the one above the stomach reaches a little lower, the one above the liver less."""
    w, a = body.half_width, body.apex
    f = body.floor + 0.012 * side
    outline = [
        (0.36 * w, a - 0.01), (0.62 * w, a + 0.02), (0.84 * w, a + 0.15), (0.96 * w, a + 0.3),
        (1.0 * w, f - 0.03), (1.0 * w, f + 0.1), (0.98 * w, f + 0.11), (0.86 * w, f + 0.025),
        (0.58 * w, f - 0.02), (0.32 * w, f), (0.05, f + 0.03), (0.05, f - 0.2), (0.05, a + 0.18),
        (0.17 * w, a + 0.04),
    ]  # fmt: skip
    return mirror(smooth(outline), side)


def heart(body: Anatomy) -> Points:
    """Heart and great vessels: most of it on the picture's right."""
    a, f, h = body.apex, body.floor, body.heart
    return smooth(
        [
            (-0.05, a - 0.02), (0.05, a - 0.02), (0.055, a + 0.1), (0.085, a + 0.15), (0.07, a + 0.22),
            (0.085, a + 0.26), (0.62 * h, f - 0.18), (h, f - 0.05), (h, f + 0.03), (0.7 * h, f + 0.07),
            (-0.35 * h, f + 0.06), (-0.09, f - 0.02), (-0.1, f - 0.1), (-0.07, f - 0.2), (-0.055, a + 0.15),
        ]
    )  # fmt: skip


def wall_at(body: Anatomy, y: float) -> float:
    """Half the chest's width at a height, at the lung's outer edge: half an ellipse."""
    top, widest = body.apex - 0.03, body.floor + 0.02
    up = min(max((widest - y) / (widest - top), 0.0), 1.0)
    return body.half_width * max(0.3, math.sqrt(1 - up**2.4))


def rib_heights(body: Anatomy) -> list[float]:
    """The y at which each rib leaves the spine."""
    first, last = body.apex, body.floor + 0.02
    return [first + (last - first) * i / (body.ribs - 1) for i in range(body.ribs)]


def back_rib(body: Anatomy, y: float) -> Points:
    """The rib (x > 0) from the spine to the wall, which is what an X-ray shows best."""
    lift = body.rib_slope
    x1, x2, x3 = 0.45 * wall_at(body, y), 0.85 * wall_at(body, y), 1.01 * wall_at(body, y + 0.08)
    line = [(0.03, y), (x1, y - lift), (x2, y + 0.01), (x3, y + 0.055), (x3, y + 0.1)]
    return smooth(line, closed=False, rounds=2)


def front_rib(body: Anatomy, y: float) -> Points:
    """The same rib (x > 0) coming round to the front, fainter and steeper."""
    x1, x2 = 1.0 * wall_at(body, y + 0.09), 0.72 * wall_at(body, y + 0.12)
    line = [(x1, y + 0.09), (x2, y + 0.17), (0.4 * body.half_width, y + 0.2)]
    return smooth(line, closed=False, rounds=2)


def clavicle(body: Anatomy) -> Points:
    """One collar bone (x > 0), as a line."""
    a, w = body.apex, body.half_width
    bend = [(0.035, a + 0.07), (0.22 * w, a + 0.06), (0.5 * w, a + 0.01), (0.75 * w, a - 0.035)]
    return smooth([*bend, (w, a - 0.02)], closed=False)


def vertebrae(body: Anatomy) -> list[Points]:
    """The bodies of the spine, from neck to belly, each a rounded box."""
    boxes = []
    for i in range(16):
        y, half = -0.06 + 0.07 * i, body.spine * (0.8 + 0.02 * i)
        boxes.append(smooth([(-half, y), (half, y), (half, y + 0.058), (-half, y + 0.058)], rounds=1))
    return boxes


def vessel(body: Anatomy, random: np.random.Generator) -> Points:
    """One branch (x > 0) from the root of the lung outwards, as a line."""
    root = np.array([0.075, body.apex + 0.45 * (body.floor - body.apex) + random.uniform(-0.03, 0.05)])
    angle, length = random.uniform(-1.1, 1.2), random.uniform(0.1, 0.25)
    bend = angle + random.uniform(-0.4, 0.4)
    middle = root + 0.5 * length * np.array([np.cos(angle), np.sin(angle)])
    end = middle + 0.5 * length * np.array([np.cos(bend), np.sin(bend)])
    return smooth([tuple(root), tuple(middle), tuple(end)], closed=False, rounds=2)


def windpipe(body: Anatomy) -> Points:
    """The windpipe, as a line down the middle."""
    return np.array([(0.0, -0.1), (0.004, body.apex + 0.2)])


def above_diaphragm(body: Anatomy) -> Points:
    """The region above the diaphragm, where ribs are visible."""
    low = body.floor + 0.05
    return np.array([(-0.8, -0.3), (0.8, -0.3), (0.8, low), (-0.8, low)])
