"""Unpack pictures that packages ship, by kind, for benchmarks/scope.py.

    pip download --no-deps --only-binary :all: scikit-image==0.25.2 nilearn==0.14.1
    pip download --no-deps --only-binary :all: --python-version 3.8 --platform manylinux1_x86_64 \\
        scikit-image==0.16.2
    python benchmarks/scope_pictures.py *.whl --output FOLDER

Writes FOLDER/<kind>/*.png. Large pictures are cut at random into parts, as photographs are framed.
"""

from __future__ import annotations

import argparse
import gzip
import io
import struct
import zipfile
from pathlib import Path

import cv2
import numpy as np

# scikit-image's own, by kind: the file, and how many parts are cut of it.
PHOTOGRAPHS = ("astronaut.png", "coffee.png", "rocket.jpg", "motorcycle_right.png", "brick.png", "moon.png")
OTHERS = ("camera.png", "chelsea.png", "hubble_deep_field.jpg", "coins.png", "grass.png", "gravel.png")
DRAWN = ("logo.png", "horse.png", "clock_motion.png")
SECTIONS = ("ihc.png", "cell.png", "retina.jpg", "microaneurysms.png")
PAGES = ("page.png", "text.png", "bw_text.png")
KINDS = {
    "photographs": PHOTOGRAPHS,
    "other photographs": OTHERS,
    "logos and silhouettes": DRAWN,
    "microscopy and retina": SECTIONS,
    "scanned pages": PAGES,
}
PARTS = 25
BRAIN = "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
FACES = "lfw_subset.npy"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wheels", type=Path, nargs="+", metavar="WHEEL")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    files: dict[str, bytes] = {}
    for wheel in arguments.wheels:
        with zipfile.ZipFile(wheel) as archive:
            files |= {Path(name).name: archive.read(name) for name in archive.namelist() if "/data/" in name}
    chance = np.random.default_rng(7)
    for kind, names in KINDS.items():
        pictures = [cv2.imdecode(np.frombuffer(files[n], np.uint8), 0) for n in names if n in files]
        write(arguments.output / kind, [cut(p, chance) for p in pictures for _ in range(PARTS)])
    if FACES in files:
        faces = np.load(io.BytesIO(files[FACES]))[:100]
        write(arguments.output / "faces", [np.uint8(face * 255) for face in faces])
    if BRAIN in files:
        write(arguments.output / "brain MRI", list(slice_brain(files[BRAIN])))


def cut(picture: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """A part of a picture, from 40 % of its sides to all of it."""
    share = chance.uniform(0.4, 1)
    height, width = (max(int(share * side), 1) for side in picture.shape)
    top = int(chance.integers(0, picture.shape[0] - height + 1))
    left = int(chance.integers(0, picture.shape[1] - width + 1))
    return picture[top : top + height, left : left + width]


def slice_brain(data: bytes) -> list[np.ndarray]:
    """Every fourth slice of a NIfTI volume of float or integer values, in all three directions."""
    data = gzip.decompress(data)
    sides = struct.unpack("<3h", data[42:48])
    kind = {2: "u1", 4: "<i2", 16: "<f4", 64: "<f8", 256: "i1", 512: "<u2"}[
        struct.unpack("<h", data[70:72])[0]
    ]
    start = int(struct.unpack("<f", data[108:112])[0])
    volume = np.frombuffer(data, kind, int(np.prod(sides)), start).reshape(sides, order="F").astype(float)
    levels = np.clip(volume / volume.max() * 255, 0, 255).astype(np.uint8)
    return [np.rot90(np.take(levels, at, axis)) for axis in range(3) for at in range(30, sides[axis] - 30, 4)]


def write(folder: Path, pictures: list[np.ndarray]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, picture in enumerate(pictures):
        cv2.imwrite(str(folder / f"{index:04d}.png"), np.ascontiguousarray(picture))
    print(f"{folder}: {len(pictures)} pictures", flush=True)


if __name__ == "__main__":
    main()
