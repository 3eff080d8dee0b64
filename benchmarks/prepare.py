"""Make what the benchmark needs, in a process of its own: a model, and sets of X-rays.

python benchmarks/prepare.py model DATA FOLDER      train model-3 briefly, export it: FOLDER/model.onnx
python benchmarks/prepare.py full SOURCE FOLDER N   N full-size X-rays: the originals, and variants of them
"""

from __future__ import annotations

from pathlib import Path


def make_full_set(source: Path, folder: Path, count: int) -> None:
    """Half are the originals, again and again; half vary in size, cut, quality and channels."""
    import cv2

    folder.mkdir(parents=True)
    originals = sorted(source.glob("*.jpeg"))
    for index in range(count // 2):
        original = originals[index % len(originals)]
        (folder / f"original-{index:04d}.jpeg").write_bytes(original.read_bytes())
    for index in range(count - count // 2):
        image = cv2.imread(str(originals[index % len(originals)]), cv2.IMREAD_GRAYSCALE)
        scale, cut = 0.45 + 0.1 * (index % 5), 8 * (index % 7)
        image = cv2.resize(image[cut:, cut:], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        if index % 3 == 0:
            image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        quality = [
            cv2.IMWRITE_JPEG_QUALITY,
            70 + 5 * (index % 6),
            cv2.IMWRITE_JPEG_PROGRESSIVE,
            index % 6 == 5,
        ]
        cv2.imwrite(str(folder / f"variant-{index:04d}.jpeg"), image, [int(value) for value in quality])


def make_model(data: Path, folder: Path) -> None:
    """Train model-3 for one epoch on a subset and export it: what it answers matters less than its cost."""
    raise NotImplementedError
