"""Make what the scoring benchmark needs, in a process of its own: a model, and sets of pictures.

python benchmarks/prepare.py run DATA RUN           train model-3 for an epoch: what it costs is what counts
python benchmarks/prepare.py model RUN FILE.onnx    export it
python benchmarks/prepare.py int8 RUN FILE.onnx     export it to int8, however much it changes
python benchmarks/prepare.py packaged FILE.onnx     copy the packaged model
python benchmarks/prepare.py full SOURCE FOLDER N   N full-size X-rays: the originals, and variants of them
python benchmarks/prepare.py phantoms FOLDER N      N drawn phantoms
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path


def make_run(data: str, run: str) -> None:
    """Train the network that the claims are about, briefly."""
    from wetread.train.config import TrainConfig
    from wetread.train.fit import train

    train(TrainConfig(data=data, output=run, architecture="model-3", epochs=1, subset=1000, preset="xray"))


def make_model(run: str, output: str) -> None:
    """Export a run to float32."""
    from wetread.export.convert import export_run

    export_run(run, output=output)


def make_int8(run: str, output: str) -> None:
    """Export a run to int8. Its network was trained briefly, so no limit holds it: only its cost counts."""
    from wetread.export.convert import export_run
    from wetread.export.judging import Gate
    from wetread.export.options import ExportOptions

    export_run(
        run,
        output=output,
        options=ExportOptions(precision="int8", gate=Gate(max_flips=1.0, max_auc_change=1.0)),
    )


def copy_packaged(output: str) -> None:
    """Copy the packaged model, so that programs that know nothing of wetread find it."""
    from wetread.runtime.model.packaged import choose_model

    Path(output).write_bytes(Path(choose_model(None)).read_bytes())


def make_phantoms(folder: str, count: str) -> None:
    """Draw pictures where there are no X-rays."""
    from wetread.demo.phantoms import draw_dataset

    draw_dataset(folder, count=int(count))


def make_full_set(source: str, folder: str, count: str) -> None:
    """Half are the originals, again and again; half vary in size, cut, quality and channels."""
    originals = sorted(Path(source).glob("*.jpeg"))
    home, half = Path(folder), int(count) // 2
    home.mkdir(parents=True)
    for index in range(half):
        original = originals[index % len(originals)]
        (home / f"original-{index:04d}.jpeg").write_bytes(original.read_bytes())
    for index in range(int(count) - half):
        variant = encode_variant(originals[index % len(originals)], index)
        (home / f"variant-{index:04d}.jpeg").write_bytes(variant)


def encode_variant(original: Path, index: int) -> bytes:
    """Scale, cut and encode an X-ray in another way, which `index` decides."""
    import cv2

    image = cv2.imread(str(original), cv2.IMREAD_GRAYSCALE)
    scale, cut = 0.45 + 0.1 * (index % 5), 8 * (index % 7)
    image = cv2.resize(image[cut:, cut:], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    if index % 3 == 0:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 70 + 5 * (index % 6)]
    progressive = [cv2.IMWRITE_JPEG_PROGRESSIVE, int(index % 6 == 5)]
    return cv2.imencode(".jpeg", image, quality + progressive)[1].tobytes()


MAKERS: dict[str, Callable[..., None]] = {
    "run": make_run,
    "model": make_model,
    "int8": make_int8,
    "packaged": copy_packaged,
    "full": make_full_set,
    "phantoms": make_phantoms,
}

if __name__ == "__main__":
    MAKERS[sys.argv[1]](*sys.argv[2:])
