"""Draw chest phantoms: images that look like chest X-rays, of no real person.

An image is drawn as a map of absorption (body, air in the lungs, bone), then exposed like a film. Pneumonia
is drawn as a part of the lung without air. Size, pose, exposure and encoding vary independently of the label,
so that mean brightness does not give it away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from wetread.demo import anatomy
from wetread.demo.canvas import Field, Frame
from wetread.demo.slides import STAINS, draw_slide
from wetread.demo.xray_absorption import draw_beam
from wetread.errors import ConfigError

CHEST: Mapping[str, float] = {"NORMAL": 1, "PNEUMONIA": 3}
"""The default labels and their shares: one to three, as in the data set that the demo imitates."""
FINDINGS: Mapping[str, float] = {"DIFFUSE": 1, "LOBAR": 1, "NORMAL": 1, "PATCHY": 1}
"""Four labels: the kinds of opacity."""

# The opacities of each label: keys of wetread.demo.xray_absorption.OPACITIES, or none.
_KINDS = {
    "NORMAL": ("none",),
    "PNEUMONIA": ("patchy", "lobar", "diffuse"),
    "PATCHY": ("patchy",),
    "LOBAR": ("lobar",),
    "DIFFUSE": ("diffuse",),
}
# Images are drawn with at most this many rows and then enlarged: X-rays are too soft to show it.
_DRAWING_ROWS = 256
_SUBPIXEL = 4
# The letter R in one line, one unit high: OpenCV's fonts differ between its versions.
_LETTER = np.array(
    [(0, 1), (0, 0), (0.45, 0), (0.6, 0.12), (0.6, 0.38), (0.45, 0.5), (0, 0.5), (0.25, 0.5), (0.65, 1)]
)


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One file that was drawn: its path, its label, and its patient (a number)."""

    path: Path
    label: str
    patient: int


def draw_phantom(
    label: str, *, patient: int = 0, picture: int = 0, seed: int = 0, size: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """Draw one image of one patient.

    `label`: a key of `CHEST` or `FINDINGS`. `size`: (height, width); None: chosen at random from 180 to 900
    pixels. Returns uint8 (height, width). The same arguments give the same image. Raises ConfigError for an
    unknown label.
    """
    body = anatomy.draw_anatomy(np.random.default_rng([seed, patient]))
    random = np.random.default_rng([seed, patient, picture, 1])
    height, width = size or _choose_size(random)
    frame = _pose(random, height, width)
    kind = str(random.choice(_kinds(label)))
    beam = draw_beam(frame, body, random, kind)
    return _expose(_mark(beam, frame, random), random, (height, width))


def _kinds(label: str) -> tuple[str, ...]:
    known = _KINDS | dict.fromkeys(STAINS, ())
    if label not in known:
        raise ConfigError(f"There is no phantom for the label {label!r}. Use {', '.join(known)}.")
    return known[label]


def _choose_size(random: np.random.Generator) -> tuple[int, int]:
    height = round(180 * (760 / 180) ** random.random())
    return height, int(np.clip(height * random.uniform(0.85, 1.35), 180, 900))


def _pose(random: np.random.Generator, height: int, width: int) -> Frame:
    """Shift, rotate and scale the body; x and y alike, as a detector does."""
    shrink = min(1.0, _DRAWING_ROWS / height)
    height, width = round(height * shrink), round(width * shrink)
    scale, turn = height * random.uniform(1.0, 1.25), random.normal(0, 0.035)
    matrix = np.empty((2, 3))
    matrix[:, :2] = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    centre = np.array([width * random.uniform(0.46, 0.54), height * random.uniform(0.44, 0.52)])
    matrix[:, 2] = centre - matrix[:, :2] @ (0.0, 0.45)
    return Frame(height=height, width=width, matrix=matrix, unit=scale)


def _mark(beam: Field, frame: Frame, random: np.random.Generator) -> Field:
    """Add a lead letter beside the body and the collimator's shadow at the edges, to some images."""
    if random.random() < 0.8:
        at = frame.width * random.uniform(0.02, 0.08), frame.height * random.uniform(0.08, 0.4)
        size = frame.height * random.uniform(0.03, 0.06)
        letter = np.round((_LETTER * size + at) * (1 << _SUBPIXEL)).astype(np.int32)
        cv2.polylines(beam, [letter], False, 1.3, max(1, round(size / 6)), cv2.LINE_8, _SUBPIXEL)
    if random.random() < 0.25:
        edge = round(frame.height * random.uniform(0.01, 0.06))
        side = int(random.integers(4))
        np.rot90(beam, side)[:edge] = 0
    return beam


def _expose(beam: Field, random: np.random.Generator, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Turn absorption into grays: exposure, contrast, grain. Returns uint8 of `size`."""
    low, high, gamma = random.uniform(0.0, 0.12), random.uniform(0.85, 1.1), random.uniform(0.85, 1.25)
    curve = np.clip((np.arange(256) / 182 - low) / (high - low), 0, 1) ** gamma * 255
    film = cv2.LUT(cv2.convertScaleAbs(beam, alpha=182), np.round(curve).astype(np.uint8))
    film = cv2.resize(film, size[::-1], interpolation=cv2.INTER_LINEAR)
    # One tile of grain is repeated: random numbers for every pixel would cost more than the drawing.
    grain = random.normal(0, random.uniform(1, 5), (128, 128)).round().astype(np.int8)
    tiles = np.tile(grain, (size[0] // 128 + 1, size[1] // 128 + 1))[: size[0], : size[1]]
    return cv2.add(film, tiles, dtype=cv2.CV_8U)  # type: ignore[return-value]


def draw_dataset(
    folder: Path | str,
    *,
    count: int,
    seed: int = 0,
    shares: Mapping[str, float] = CHEST,
    labelled: bool = True,
) -> list[Drawn]:
    """Draw a data set: `folder/<label>/phantom012-2.jpeg`, several images for each patient.

    `count` images are divided among labels by `shares` (label to weight). Without `labelled` they are in
    `folder` itself, in mixed order. About half are gray JPEGs, the others three-channel JPEGs and PNGs. The
    labels of `wetread.demo.slides.STAINS` draw colour slides. Returns the files in the order of their names
    within each label. Raises ConfigError for an unknown label.
    """
    drawn = []
    for patient, label, pictures in _plan(count, seed, shares):
        home = Path(folder) / label if labelled else Path(folder)
        home.mkdir(parents=True, exist_ok=True)
        for picture in range(1, pictures + 1):
            draw = draw_slide if label in STAINS else draw_phantom
            image = draw(label, patient=patient, picture=picture, seed=seed)
            suffix, data = encode(image, np.random.default_rng([seed, patient, picture, 2]))
            path = home / f"phantom{patient:03d}-{picture}{suffix}"
            path.write_bytes(data)
            drawn.append(Drawn(path=path, label=label, patient=patient))
    return sorted(drawn, key=lambda one: (one.label if labelled else "", one.path.name))


def _plan(count: int, seed: int, shares: Mapping[str, float]) -> Iterator[tuple[int, str, int]]:
    """Choose (patient, label, number of images): one to four images each, `count` in all, mixed."""
    for label in shares:
        _kinds(label)
    random = np.random.default_rng([seed, 3])
    total, spent, patients = sum(shares.values()), 0.0, []
    for label, share in shares.items():
        left = round(count * (spent + share) / total) - round(count * spent / total)
        spent += share
        while left:
            pictures = min(left, int(random.integers(1, 5)))
            patients.append((label, pictures))
            left -= pictures
    for patient, at in enumerate(random.permutation(len(patients)), start=1):
        yield patient, *patients[at]


def encode(image: NDArray[np.uint8], random: np.random.Generator) -> tuple[str, bytes]:
    """Encode an image as one of gray JPEG (unless it has colour), three-channel JPEG and PNG.

    `image`: uint8 (H, W) or (H, W, 3) RGB. Returns (suffix, bytes).
    """
    kind = random.choice(("jpeg", "colour", "png"), p=(0.5, 0.3, 0.2))
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)  # type: ignore[assignment]
    elif kind == "colour":
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)  # type: ignore[assignment]
    if kind == "png":
        return ".png", cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(70, 96))]
    return ".jpeg", cv2.imencode(".jpeg", image, quality)[1].tobytes()
