"""Compare a network that was trained before with one that begins with nothing, on few images of new labels.

    python benchmarks/transfer.py --work FOLDER [--seeds 3]                      digits
    python benchmarks/transfer.py --work FOLDER --photographs scikit_image*.whl  photographs

Six of ten labels, drawn by the seed, are what a network learns first. The other four are the new labels, of
which few images train. Digits are scikit-learn's (8 x 8 pixels): 130 images of each are learned first, then 5
train and 100 are tested. Photographs are those of photo_sets.py: 300 patches of each, then 10 and 60, from
different halves. Everything that is not named here is what `wetread train` chooses:

    nothing    wetread train NEW --output RUN
    before     wetread train NEW --output RUN --weights FIRST_RUN

Balanced accuracy on test images; the interval of the difference is from a bootstrap of test images,
paired, within each label and seed. Killed, it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean
from typing import Any

import cv2
import numpy as np
from photo_sets import Chosen, Files, choose_digits, cut, cut_photographs, decode, read_wheel
from photos import balance, find_interval

FIRST = 6
FEW = {"digits": 5, "photographs": 10}
PATCHES = 300


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="sets and runs go here")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--photographs", type=Path, metavar="WHEEL", help="scikit-image's wheel")
    arguments = parser.parse_args()
    files = {} if arguments.photographs is None else read_wheel(arguments.photographs)
    found = [run_seed(arguments.work / f"seed-{seed}", files, seed) for seed in range(arguments.seeds)]
    for contender in found[0]:
        scores = [balance(one[contender]) for one in found]
        print(f"{contender}  {mean(scores):.3f} ({', '.join(f'{score:.3f}' for score in scores)})")
    apart = mean(balance(one["before"]) - balance(one["nothing"]) for one in found)
    low, high = find_interval(found, one="before", other="nothing")
    print(f"difference {apart:+.3f} (95% {low:+.3f} to {high:+.3f})")


def run_seed(work: Path, files: Files, seed: int) -> dict[str, Any]:
    """Draw both sets, train on the first, and twice on the second. Returns what was answered there."""
    if not (work / "sets.json").is_file():
        write_sets(work, files, seed)
    train(work / "first", work / "first-run", {"seed": seed})
    return {
        "nothing": judge(work, "nothing", {"seed": seed}),
        "before": judge(work, "before", {"seed": seed, "weights": str(work / "first-run")}),
    }


def write_sets(work: Path, files: Files, seed: int) -> None:
    """Write first/<label>/* with many images of six labels, and new/{train,test}/<label>/* of four."""
    chance = np.random.default_rng([seed, 22])
    few = FEW["photographs" if files else "digits"]
    chosen = cut_photographs(files, chance) if files else choose_digits({}, chance)
    labels = [str(label) for label in chance.permutation(sorted(chosen["train"]))]
    for label in labels[:FIRST]:
        write_images(work / "first" / label, gather_many(chosen, files, label, chance))
    for label in labels[FIRST:]:
        write_images(work / "new" / "train" / label, chosen["train"][label][:few])
        write_images(work / "new" / "test" / label, chosen["test"][label])
    (work / "sets.json").write_text(json.dumps({"first": labels[:FIRST], "new": labels[FIRST:]}))


def gather_many(chosen: Chosen, files: Files, label: str, chance: np.random.Generator) -> list[np.ndarray]:
    """Return all images of a label, or patches from anywhere in a photograph of the wheel."""
    name = next((name for name in files if name.partition(".")[0] == label), None)
    if name is None:
        return chosen["train"][label] + chosen["test"][label]
    picture = decode(files[name], 1)
    share = 256 / min(picture.shape[:2])
    small = cv2.resize(picture, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    return [cut(small, chance) for _ in range(PATCHES)]


def write_images(folder: Path, images: list[np.ndarray]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(images):
        cv2.imwrite(str(folder / f"{index:04}.png"), image)


def train(data: Path, run: Path, options: dict[str, Any]) -> Any:
    import wetread

    return wetread.train(data, output=run, resume=run.is_dir(), **options)


def judge(work: Path, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Train one contender on the few images of new labels; return which test images it has right."""
    from wetread.keras_backend import import_keras
    from wetread.runtime.images.pixels import read_pixels
    from wetread.train.network import predict_probabilities

    result = train(work / "new", work / name, options)
    model = import_keras().models.load_model(Path(result.run) / "model.keras", compile=False)
    pixels, truth = [], []
    for target, label in enumerate(result.spec.labels):
        for path in sorted((work / "new" / "test" / label).iterdir()):
            pixels.append(read_pixels(path.read_bytes(), result.spec.pixels))
            truth.append(target)
    answers = result.spec.decide(predict_probabilities(model, np.stack(pixels), np.arange(len(pixels))))
    right = [int(answer == target) for answer, target in zip(answers, truth, strict=True)]
    return {"right": right, "truth": truth}


if __name__ == "__main__":
    main()
