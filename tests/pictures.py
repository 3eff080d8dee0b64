"""Drawn color pictures as photographs come: JPEG and PNG of all sizes, turned, with alpha, of 16 bits."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from tests.runtime.corpus import insert_segment, make_exif, make_png

LABELS = ("left", "right")
# Pillow's buffer for a noisy JPEG of best quality is too small otherwise.
ImageFile.MAXBLOCK = max(ImageFile.MAXBLOCK, 1 << 23)


def draw_scene(seed: int, *, sides: tuple[int, int] | None = None) -> tuple[np.ndarray, int]:
    """A picture of waves and checks that is brighter on one side: uint8 (H, W, 3), and which side, 0 or 1."""
    choose, noise = random.Random(seed), np.random.default_rng(seed)
    limit = choose.choice((60, 250, 700))
    height, width = sides or (choose.randint(8, limit), choose.randint(8, limit))
    down, across = np.mgrid[0:height, 0:width]
    target = choose.randint(0, 1)
    ramp = (across / max(width - 1, 1) - 0.5) * (1 if target else -1) * choose.uniform(60, 160)
    waves = noise.uniform(0.02, 0.5, (3, 2))
    planes = [
        choose.uniform(70, 180) + ramp + choose.uniform(5, 40) * np.sin(a * across + b * down)
        for a, b in waves
    ]
    picture = np.stack(planes, axis=2) + noise.normal(0, choose.choice((0, 6, 25)), (height, width, 3))
    if choose.random() < 0.3:
        checks = (across // choose.randint(2, 30) + down // choose.randint(2, 30)) % 2
        picture = picture + 30 * checks[..., None]
    return np.clip(picture, 0, 255).astype(np.uint8), target


def _save_jpeg(picture: np.ndarray, seed: int) -> bytes:
    choose, file = random.Random(seed), io.BytesIO()
    gray = choose.random() < 0.2
    options = {} if gray else {"subsampling": choose.choice((0, 1, 2))}
    Image.fromarray(picture).convert("L" if gray else "RGB").save(
        file,
        "JPEG",
        quality=choose.choice((50, 75, 85, 95, 100)),
        progressive=choose.random() < 0.3,
        **options,
    )
    data = file.getvalue()
    if choose.random() < 0.2:
        return insert_segment(data, 0xE1, b"Exif\0\0" + make_exif(choose.randint(1, 8)))
    return data


def _save_palette(picture: np.ndarray, seed: int) -> bytes:
    table = np.random.default_rng(seed).integers(0, 256, (16, 3), dtype=np.uint8)
    chunks = (b"PLTE", table.tobytes()), (b"tRNS", bytes([0, 90, 255, 30]))
    return make_png(picture[..., :1] // 16, 8, 3, *chunks)


def _add_alpha(picture: np.ndarray, seed: int) -> np.ndarray:
    alpha = np.random.default_rng(seed).integers(0, 256, (*picture.shape[:2], 1), dtype=np.uint8)
    return np.concatenate([picture, alpha], axis=2)


def _deepen(picture: np.ndarray, seed: int) -> np.ndarray:
    """All of 16 bits, or the few that a scanner of 11 bits uses."""
    return picture.astype(np.uint16) * np.uint16(257 if seed % 2 else 5)


PNG_KINDS: dict[str, Callable[[np.ndarray, int], bytes]] = {
    "rgb": lambda picture, seed: make_png(picture, 8, 2),
    "gray": lambda picture, seed: make_png(picture[..., :1], 8, 0),
    "rgba": lambda picture, seed: make_png(_add_alpha(picture, seed), 8, 6),
    "gray-alpha": lambda picture, seed: make_png(_add_alpha(picture[..., :1], seed), 8, 4),
    "palette": _save_palette,
    "rgb-16": lambda picture, seed: make_png(picture.astype(np.uint16) * 257, 16, 2),
    "gray-16": lambda picture, seed: make_png(_deepen(picture[..., :1], seed), 16, 0),
    "gray-2": lambda picture, seed: make_png(picture[..., :1] // 64, 2, 0),
}


def draw_file(seed: int) -> tuple[str, bytes, int]:
    """An ending, the bytes of an image file, and its side: six of ten are JPEG, the rest PNG of any kind."""
    picture, target = draw_scene(seed)
    choose = random.Random(-seed - 1)
    if choose.random() < 0.6:
        return ".jpg", _save_jpeg(picture, seed), target
    kind = choose.choice(list(PNG_KINDS))
    return ".png", PNG_KINDS[kind](picture, seed), target


def fill_folder(folder: Path, *, count: int, first: int = 0) -> list[Path]:
    """Fill folder/<label>/ with files; returns their paths."""
    paths = []
    for seed in range(first, first + count):
        ending, data, target = draw_file(seed)
        path = folder / LABELS[target] / f"{seed:05d}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        paths.append(path)
    return paths
