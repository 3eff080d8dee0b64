"""Draw the JPEG of the golden self-test: `python benchmarks/draw_golden_jpeg.py`. It ships as bytes.

Its digest is part of every exported model, so a new drawing gets a new name and the old one stays.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import simplejpeg

from wetread.runtime.model.golden_inputs import JPEG, draw_image

HEIGHT, WIDTH = 719, 683  # not multiples of 8, and large enough that 224 x 224 decodes at half size


def draw_chest() -> np.ndarray:
    """Two dark lungs, a bright middle, ribs, and smooth noise, in colour so that its conversion counts."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.int64)
    smooth = draw_image(11, shape=(HEIGHT, WIDTH, 3)).astype(np.int64)
    fine = draw_image(12, shape=(96, 96, 1))[(y % 96), (x % 96)].astype(np.int64)
    lungs = np.zeros((HEIGHT, WIDTH), np.int64)
    for centre in (WIDTH * 3 // 10, WIDTH * 7 // 10):
        inside = 900 - (y - 340) ** 2 * 900 // 270**2 - (x - centre) ** 2 * 900 // 130**2
        lungs = np.maximum(lungs, np.clip(inside, 0, 400))
    ribs = np.where((y + abs(x - WIDTH // 2) // 3) % 76 < 26, 28, 0) * (lungs > 0)
    gray = 190 - lungs * 150 // 400 + ribs
    picture = gray[..., None] * 3 // 4 + smooth // 4 + fine // 16 - 16
    return np.clip(picture, 0, 255).astype(np.uint8)


if __name__ == "__main__":
    data = simplejpeg.encode_jpeg(draw_chest(), quality=80, colorspace="RGB", colorsubsampling="420")
    target = Path(__file__).parents[1] / "wetread" / "runtime" / JPEG
    target.write_bytes(data)
    print(f"{target.name}: {len(data):,} bytes, {WIDTH} x {HEIGHT}")
