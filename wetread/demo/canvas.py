"""Draw outlines, lines, spots and smooth noise in a body's pose, as float arrays."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wetread.demo.anatomy import Points

Field = NDArray[np.float32]
"""float32 (height, width), 0 to 1 unless stated otherwise."""

_SUBPIXEL = 4


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A canvas and the body's pose: `matrix` (2, 3) maps body units to pixels, `unit` pixels for each."""

    height: int
    width: int
    matrix: NDArray[np.float64]
    unit: float

    def place(self, lines: list[Points]) -> list[NDArray[np.int32]]:
        """Convert body units to OpenCV's fixed-point pixels."""
        pixels = np.concatenate(lines) @ self.matrix[:, :2].T + self.matrix[:, 2]
        fixed = np.rint(pixels * (1 << _SUBPIXEL)).astype(np.int32)
        return np.split(fixed, np.cumsum([len(line) for line in lines[:-1]]))

    def fill(self, outlines: list[Points], *, soften: float) -> Field:
        """Fill outlines. Returns a Field."""
        canvas = np.zeros((self.height, self.width), np.uint8)
        for outline in self.place(outlines):
            cv2.fillPoly(canvas, [outline], 255, cv2.LINE_AA, _SUBPIXEL)
        return self._soften(canvas, soften)

    def stroke(self, groups: list[tuple[list[Points], float, int]], *, soften: float) -> Field:
        """Draw groups of lines, each of a thickness and a gray, in turn. Returns a Field."""
        canvas = np.zeros((self.height, self.width), np.uint8)
        for lines, thickness, gray in groups:
            pixels = max(1, round(thickness * self.unit))
            cv2.polylines(canvas, self.place(lines), False, gray, pixels, cv2.LINE_8, _SUBPIXEL)
        return self._soften(canvas, soften)

    def _soften(self, canvas: NDArray[np.uint8], soften: float) -> Field:
        sigma = soften * self.unit
        side = 2 * round(sigma * 1.22) + 1  # two box filters are close to a Gaussian, and faster
        blurred = cv2.blur(cv2.blur(canvas, (side, side)), (side, side)) if side > 1 else canvas
        return blurred.astype(np.float32) * np.float32(1 / 255)

    def clouds(self, random: np.random.Generator, cells: int) -> Field:
        """Draw smooth noise with about `cells` bumps along the height. float32 (height, width), 0 to 1."""
        coarse = random.random((cells, max(2, round(cells * self.width / self.height))), dtype=np.float32)
        return np.clip(cv2.resize(coarse, (self.width, self.height), interpolation=cv2.INTER_CUBIC), 0, 1)

    def spots(self, centres: Points, radii: list[float]) -> Field:
        """Draw round, soft spots; where they overlap, the brightest counts. 0 to 1."""
        canvas = np.zeros((self.height, self.width), np.float32)
        places = centres @ self.matrix[:, :2].T + self.matrix[:, 2]
        for (x, y), radius in zip(places, radii, strict=True):
            across = _bell(self.width, x, radius * self.unit)
            down = _bell(self.height, y, radius * self.unit)
            np.maximum(canvas, np.outer(down, across), out=canvas)
        return canvas


def _bell(length: int, centre: float, sigma: float) -> Field:
    distance = (np.arange(length, dtype=np.float32) - np.float32(centre)) / np.float32(sigma)
    bell: Field = np.exp(-0.5 * distance**2)
    return bell
