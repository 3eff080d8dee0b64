"""Small sets of images that are no X-rays, from pictures that packages ship, for benchmarks/photos.py.

    pip download --no-deps --only-binary :all: scikit-image==0.25.2

scikit-image's wheel has the photographs, textures and faces (its own, which nobody here chose for this);
scikit-learn the digits and two more photographs. What trains and what is tested comes from different halves
of each picture, or is different images.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np

Pixels = np.ndarray
Files = dict[str, bytes]
Chosen = dict[str, dict[str, list[Pixels]]]  # of 'train' and 'test', the images of each label

PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png")
SCIENCE = ("hubble_deep_field.jpg", "ihc.png", "retina.jpg")
TEXTURES = ("brick.png", "grass.png", "gravel.png")
_SIDE = 32
_SHORTER = 256  # pixels of a photograph's shorter side, before it is cut
_FLAT = 8.0  # of 255: a patch with less deviation is sky


def read_wheel(wheel: Path) -> Files:
    """Return the data files of scikit-image's wheel by name."""
    with zipfile.ZipFile(wheel) as archive:
        return {Path(name).name: archive.read(name) for name in archive.namelist() if "/data/" in name}


def cut_photographs(files: Files, chance: np.random.Generator) -> Chosen:
    """Ten labels in colour: of which photograph is this patch of 32 x 32? 20 of each train, 60 are tested."""
    from sklearn.datasets import load_sample_images

    pictures = {name.partition(".")[0]: decode(files[name], 1) for name in PHOTOGRAPHS + SCIENCE}
    for name, picture in zip(("china", "flower"), load_sample_images().images, strict=True):
        pictures[name] = np.ascontiguousarray(picture[..., ::-1])
    chosen: Chosen = {"train": {}, "test": {}}
    for label, picture in pictures.items():
        share = _SHORTER / min(picture.shape[:2])
        small = cv2.resize(picture, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
        middle = small.shape[1] // 2
        for side, half, count in (("train", small[:, :middle], 20), ("test", small[:, middle:], 60)):
            chosen[side][label] = [cut(half, chance) for _ in range(count)]
    return chosen


def cut(picture: Pixels, chance: np.random.Generator) -> Pixels:
    """A patch of 32 x 32 at random that is not flat."""
    while True:
        top, left = (int(chance.integers(0, side - _SIDE + 1)) for side in picture.shape[:2])
        patch = picture[top : top + _SIDE, left : left + _SIDE]
        if patch.std() >= _FLAT:
            return patch


def turn_textures(files: Files, chance: np.random.Generator) -> Chosen:
    """Three gray textures, turned, scaled and lit at random: 40 of each train, 200 are tested."""
    chosen: Chosen = {"train": {}, "test": {}}
    for name in TEXTURES:
        picture = decode(files[name], 0)
        middle = picture.shape[1] // 2
        for side, half, count in (("train", picture[:, :middle], 40), ("test", picture[:, middle:], 200)):
            chosen[side][name.partition(".")[0]] = [turn(half, chance) for _ in range(count)]
    return chosen


def turn(picture: Pixels, chance: np.random.Generator) -> Pixels:
    """A patch of 32 x 32 at any angle, 0.6 to 1.2 times as large, lighter or darker."""
    reach = _SIDE  # what is turned stays inside
    height, width = picture.shape
    centre = chance.uniform(reach, width - reach), chance.uniform(reach, height - reach)
    warp = cv2.getRotationMatrix2D(centre, chance.uniform(0, 360), chance.uniform(0.6, 1.2))
    warp[:, 2] += np.array([_SIDE / 2, _SIDE / 2]) - centre
    patch = cv2.warpAffine(picture, warp, (_SIDE, _SIDE), flags=cv2.INTER_AREA)
    light, shift = chance.uniform(0.6, 1.3), chance.uniform(-30, 30)
    return np.clip(patch * light + shift, 0, 255).astype(np.uint8)


def choose_faces(files: Files, chance: np.random.Generator, *, faces: int = 15) -> Chosen:
    """Unbalanced, few, gray, 25 x 25: 15 faces among 60 others train; the rest of 100 each are tested."""
    from io import BytesIO

    images = np.uint8(np.round(np.load(BytesIO(files["lfw_subset.npy"])) * 255))
    chosen: Chosen = {"train": {}, "test": {}}
    for label, first, count in (("face", 0, faces), ("other", 100, 60)):
        order = first + chance.permutation(100)
        chosen["train"][label] = [images[i] for i in order[:count]]
        chosen["test"][label] = [images[i] for i in order[count:]]
    return chosen


def choose_digits(files: Files, chance: np.random.Generator) -> Chosen:
    """Tiny: scikit-learn's digits, 8 x 8, ten labels; 30 of each train, 100 are tested."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = np.uint8(np.clip(found.images * 16, 0, 255))
    chosen: Chosen = {"train": {}, "test": {}}
    for label in range(10):
        order = chance.permutation(np.flatnonzero(found.target == label))
        chosen["train"][str(label)] = [images[i] for i in order[:30]]
        chosen["test"][str(label)] = [images[i] for i in order[30:130]]
    return chosen


SETS: dict[str, Callable[[Files, np.random.Generator], Chosen]] = {
    "photographs": cut_photographs,
    "textures": turn_textures,
    "faces": choose_faces,
    "few faces": partial(choose_faces, faces=5),
    "digits": choose_digits,
}


def write_set(name: str, files: Files, folder: Path, *, seed: int) -> None:
    """Write a set as FOLDER/{train,test}/<label>/*.png."""
    for side, labels in SETS[name](files, np.random.default_rng(seed)).items():
        for label, images in labels.items():
            place = folder / side / label
            place.mkdir(parents=True, exist_ok=True)
            for index, image in enumerate(images):
                cv2.imwrite(str(place / f"{index:04}.png"), image)


def decode(data: bytes, flag: int) -> Pixels:
    """Decode a file as gray (0) or BGR (1), uint8."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), flag)  # type: ignore[return-value]
