"""Augment training images: pose, exposure, noise, blur, occlusion.

An image costs one affine warp and one lookup table, whatever the policy; the rest costs only when drawn.
Every random number is a function of (seed, epoch, the image's index): not of threads, batches or the
version of a random generator.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wetread.errors import ConfigError
from wetread.runtime.model.spec import build_dataclass

Images = NDArray[np.uint8]
_DRAWS = 40  # random numbers for each image; the first orders the epoch (batches.py)
_NOISE_PIXELS = 1 << 18
# The largest value of a policy's field; 1 for fields that are not listed.
_LIMITS = {"rotate": 180.0, "gamma": 4.0, "noise": 1.0, "blur": 0.2, "zoom": 0.9, "stretch": 0.9}
_OF_COLOR = ("saturation", "tint")
# `local`: the blur that makes the neighbourhood, as a fraction of the width, and the weight of a pixel's
# difference from it; of each the smallest value and the range above it.
_NEAR, _LOCAL = (0.03, 0.12), (-0.5, 2.0)
_BAR = 0.16
_RGB = 3


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How far an image may be changed; 0 leaves it as it is. Lengths are fractions of the image's side.

    Geometry, uniform between minus and plus: `rotate` in degrees, `shift`, `zoom` (0.1: 0.9 to 1.1 times),
    `stretch` of the aspect ratio, `shear`. `flip`: the chance of a mirror image (a chest has its heart on
    one side: no flip for X-rays). `border`: the chance that what the warp lays bare is black, not the
    nearest pixel. Exposure, by one lookup table: `contrast`, `brightness` (of 255) and `gamma` (0.3: the
    power 1/1.3 to 1.3), `invert`: the chance of a negative. `noise`: up to this standard deviation, of 255.
    `blur`: up to this standard deviation, of the side. `cutout`: the chance of a gray rectangle, each side
    up to `cutout_side`. `local`: the chance that contrast within a neighbourhood changes, to 0.5 to 2.5 of
    what it was, as by a clinic's own processing. `shade`: the chance that light falls off to a side and to
    the corners. `bars`: the chance of black bars on two opposite sides, as of a film in a larger frame.
    Colour: `saturation` (0.3: 0.7 to 1.3 times) and `tint` (0.1: each channel 0.9 to 1.1 times, as by another
    light). `clean`: the chance that nothing is changed.
    """

    rotate: float = 0.0
    shift: float = 0.0
    zoom: float = 0.0
    stretch: float = 0.0
    shear: float = 0.0
    flip: float = 0.0
    border: float = 0.5
    contrast: float = 0.0
    brightness: float = 0.0
    gamma: float = 0.0
    invert: float = 0.0
    noise: float = 0.0
    blur: float = 0.0
    cutout: float = 0.0
    cutout_side: float = 0.3
    local: float = 0.0
    shade: float = 0.0
    bars: float = 0.0
    saturation: float = 0.0
    tint: float = 0.0
    clean: float = 0.0

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            value, top = getattr(self, f.name), _LIMITS.get(f.name, 1.0)
            if not 0 <= value <= top:
                raise ConfigError(f"{f.name} in an augmentation policy must be 0 to {top:g}, not {value}.")

    def to_dict(self) -> dict[str, float]:
        """Return the fields by name. Those of colour only where set: runs of earlier versions have none."""
        values = dataclasses.asdict(self)
        return {name: value for name, value in values.items() if value or name not in _OF_COLOR}

    @property
    def changes(self) -> bool:
        """Whether any image can change."""
        idle = ("border", "cutout_side", "clean")
        return any(getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in idle)


POLICIES = {
    "none": Policy(),
    "light": Policy(rotate=5, shift=0.04, zoom=0.05, contrast=0.1, brightness=0.05),
    "xray": Policy(
        rotate=10,
        shift=0.07,
        zoom=0.12,
        stretch=0.1,
        shear=0.04,
        contrast=0.3,
        brightness=0.12,
        gamma=0.4,
        noise=0.02,
        blur=0.012,
        cutout=0.25,
        clean=0.1,
    ),
    "photo": Policy(
        rotate=8,
        shift=0.1,
        zoom=0.15,
        stretch=0.1,
        flip=0.5,
        border=0.0,
        contrast=0.2,
        brightness=0.1,
        saturation=0.3,
        tint=0.05,
        cutout=0.3,
        clean=0.1,
    ),
    "document": Policy(
        rotate=10, shift=0.08, zoom=0.1, stretch=0.1, shear=0.1, border=0.0, contrast=0.2, brightness=0.05
    ),
    "texture": Policy(rotate=180, shift=0.1, zoom=0.3, flip=0.5, border=0.0, contrast=0.4, brightness=0.12),
}


def read_policy(name: str) -> Policy:
    """Return a named policy, or read one from a TOML file of Policy's fields. Raises ConfigError.

    'xray:0.5' is half as strong as 'xray'.
    """
    known, colon, strength = name.partition(":")
    if known in POLICIES:
        return scale_policy(POLICIES[known], _read_strength(strength)) if colon else POLICIES[known]
    path = Path(name)
    if path.suffix != ".toml":
        raise ConfigError(f"augment must be {', '.join(POLICIES)} or FILE.toml, not {name!r}.")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"The augmentation policy {name!r} cannot be read: {error.strerror}. Check the name."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"The augmentation policy {name!r} is not valid TOML: {error}.") from error
    return build_dataclass(Policy, values)


def scale_policy(policy: Policy, strength: float) -> Policy:
    """Make a policy weaker or stronger: every field times `strength`, up to the field's limit.

    'border' and 'cutout_side' stay, and so does the chance of a clean image.
    """
    values = {
        f.name: min(_LIMITS.get(f.name, 1.0), getattr(policy, f.name) * strength)
        for f in dataclasses.fields(policy)
        if f.name not in ("border", "cutout_side", "clean")
    }
    return dataclasses.replace(policy, **values)


def _read_strength(text: str) -> float:
    try:
        strength = float(text)
    except ValueError:
        strength = -1.0
    if not 0 <= strength <= 10:
        raise ConfigError(f"The strength after a policy's name must be 0 to 10, not {text!r}.")
    return strength


def augment_images(
    images: Images, policy: Policy, *, indices: NDArray[np.integer], seed: int, epoch: int
) -> Images:
    """Change each image at random.

    `images`: uint8 (N, H, W, C); `indices`: (N,), each image's index in the data set. With `seed` and
    `epoch` it decides every random number. Returns new uint8 (N, H, W, C).
    """
    if not policy.changes:
        return images.copy()
    draws = draw_uniforms(indices, seed=seed, epoch=epoch, count=_DRAWS)
    tables = _lookup_tables(policy, draws)
    warps = _warps(policy, draws, images.shape[1], images.shape[2])
    out = np.empty(images.shape, np.uint8)
    for index, row in enumerate(draws):
        if row[22] < policy.clean:
            out[index] = images[index]
        else:
            changed = _change(images[index], policy, row, warp=warps[index], table=tables[index])
            out[index] = changed.reshape(images.shape[1:])
    return out


def draw_uniforms(indices: NDArray[np.integer], *, seed: int, epoch: int, count: int) -> NDArray[np.float64]:
    """Draw `count` numbers in [0, 1) for each index: SplitMix64 of (seed, epoch, index, position).

    Returns float64 (N, count), the same on every machine and for every grouping of the indices.
    """
    with np.errstate(over="ignore"):
        key = _mix(np.uint64(seed) * np.uint64(0x1_0000_0001) + np.uint64(epoch))
        rows = _mix(np.asarray(indices).astype(np.uint64) + key)
        cells = _mix(rows[:, None] + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN))
    return (cells >> np.uint64(11)).astype(np.float64) * 2.0**-53


_GOLDEN = 0x9E3779B97F4A7C15


def _mix(values: NDArray[np.uint64] | np.uint64) -> NDArray[np.uint64]:
    """The finalizer of SplitMix64 (Steele, Lea and Flood, 2014)."""
    with np.errstate(over="ignore"):
        z = np.asarray(values, np.uint64) + np.uint64(_GOLDEN)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _warps(policy: Policy, draws: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """One composed affine map for each image, (N, 2, 3), about the centre: from new pixels to old."""
    spread = 2 * draws - 1
    angle = np.deg2rad(policy.rotate * spread[:, 1])
    zoom, stretch = (1 + policy.zoom) ** spread[:, 2], (1 + policy.stretch) ** (spread[:, 3] / 2)
    mirror = np.where(draws[:, 4] < policy.flip, -1.0, 1.0)
    shear = policy.shear * spread[:, 5]
    across, down = mirror / (zoom * stretch), stretch / zoom
    cos, sin = np.cos(angle), np.sin(angle)
    maps = np.empty((len(draws), 2, 3))
    maps[:, 0, 0], maps[:, 0, 1] = across * cos, across * (shear * cos - sin)
    maps[:, 1, 0], maps[:, 1, 1] = down * sin, down * (shear * sin + cos)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    moved = centre + policy.shift * spread[:, 6:8] * np.array([width, height])
    maps[:, :, 2] = moved - maps[:, :, :2] @ centre
    return maps


def _lookup_tables(policy: Policy, draws: NDArray[np.float64]) -> Images:
    """One table of 256 new levels for each image, (N, 256): gamma, then contrast and brightness."""
    spread = 2 * draws - 1
    levels = np.arange(256) / 255
    gamma = (1 + policy.gamma) ** spread[:, 8:9]
    contrast = 1 + policy.contrast * spread[:, 9:10]
    curve = (levels**gamma - 0.5) * contrast + 0.5 + policy.brightness * spread[:, 10:11]
    curve = np.where(draws[:, 11:12] < policy.invert, 1 - curve, curve)
    return np.clip(np.rint(curve * 255), 0, 255).astype(np.uint8)


def _change(
    image: Images, policy: Policy, row: NDArray[np.float64], *, warp: NDArray[np.float64], table: Images
) -> Images:
    """One image by one row of draws. Columns from 12 on: border, noise, blur, cutout."""
    height, width = image.shape[:2]
    border = cv2.BORDER_CONSTANT if row[12] < policy.border else cv2.BORDER_REPLICATE
    changed: Any = cv2.warpAffine(
        image, warp, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=border
    )
    changed = cv2.LUT(changed, table)
    deviation = policy.blur * row[13] * width
    if deviation > 0.25:  # less does not reach the next pixel
        changed = cv2.GaussianBlur(changed, (0, 0), deviation)
    if policy.noise:
        changed = _add_noise(changed, deviation=policy.noise * 255 * row[14], start=row[15])
    if row[16] < policy.cutout:
        _cut_out(changed, row, side=policy.cutout_side)
    return _change_acquisition(changed, policy, row)


def _change_acquisition(image: Any, policy: Policy, row: NDArray[np.float64]) -> Images:
    """Simulate differences between X-ray machines. Columns from 24 on: local, shade, bars."""
    if row[24] < policy.local:
        near, more = _NEAR[0] + _NEAR[1] * row[25], _LOCAL[0] + _LOCAL[1] * row[26]
        around = cv2.GaussianBlur(image, (0, 0), near * image.shape[1])
        image = cv2.addWeighted(image, 1 + more, around, -more, 0)
    if row[27] < policy.shade:
        image = _shade(image, row)
    if row[31] < policy.bars:
        _lay_bars(image, row)
    if (policy.saturation or policy.tint) and image.ndim == 3 and image.shape[2] == _RGB:
        image = _change_color(image, policy, row)
    return image  # type: ignore[no-any-return]


def _change_color(image: Any, policy: Policy, row: NDArray[np.float64]) -> Any:
    """Change saturation and the light's colour of uint8 (H, W, 3). Columns 36 to 39."""
    spread = 2 * row - 1
    if policy.saturation:
        more = policy.saturation * spread[36]
        gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        image = cv2.addWeighted(image, 1 + more, gray, -more, 0)
    if policy.tint:
        image = np.clip(np.rint(image * (1 + policy.tint * spread[37:40])), 0, 255).astype(np.uint8)
    return image


def _shade(image: Any, row: NDArray[np.float64]) -> Any:
    """Shade an image: up to a third brighter and darker toward a side, up to half darker in the corners."""
    height, width = image.shape[:2]
    x, y = np.linspace(-1, 1, width)[None], np.linspace(-1, 1, height)[:, None]
    angle, slope, fall = 2 * np.pi * row[28], 0.35 * row[29], 0.5 * row[30]
    share = 1 + slope * (np.cos(angle) * x + np.sin(angle) * y)
    share = (share * (1 - fall * (x * x + y * y) / 2)).astype(np.float32)
    if image.ndim == 3 and image.shape[2] > 1:
        share = np.repeat(share[..., None], image.shape[2], axis=2)
    return cv2.multiply(image, share, dtype=cv2.CV_8U)


def _lay_bars(image: Any, row: NDArray[np.float64]) -> None:
    """Black out two opposite sides, each up to _BAR of the length, in place."""
    along = 0 if row[34] < 0.5 else 1
    length = image.shape[along]
    first, last = (int(_BAR * row[32 + i] * length) for i in range(2))
    turned = image.swapaxes(0, along)
    turned[:first] = 0
    turned[length - last :] = 0


def _add_noise(image: Images, *, deviation: float, start: float) -> Images:
    """Add normal noise from a table, starting at a random index: drawing new noise would cost more."""
    at = int(start * (_NOISE_PIXELS - image.size)) if image.size < _NOISE_PIXELS else 0
    noise = np.resize(_noise_table()[at : at + image.size], image.shape)
    return cv2.add(image, noise * np.float32(deviation), dtype=cv2.CV_8U)  # type: ignore[return-value]


@lru_cache(maxsize=1)
def _noise_table() -> NDArray[np.float32]:
    """Standard normal numbers by Box and Muller."""
    pairs = draw_uniforms(np.arange(_NOISE_PIXELS), seed=0, epoch=0, count=2)
    normal = np.sqrt(-2 * np.log1p(-pairs[:, 0])) * np.cos(2 * np.pi * pairs[:, 1])
    return np.asarray(normal, np.float32)


def _cut_out(image: Images, row: NDArray[np.float64], *, side: float) -> None:
    """Lay a rectangle of one gray level over the image, in place."""
    height, width = image.shape[:2]
    high, wide = (max(1, math.ceil(side * row[17 + i] * length)) for i, length in enumerate((height, width)))
    top, left = int(row[19] * (height - high + 1)), int(row[20] * (width - wide + 1))
    image[top : top + high, left : left + wide] = int(row[21] * 256)
