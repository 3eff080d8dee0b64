"""Compare a network that was trained before with one that begins with nothing, on few images of new labels.

    pip download --no-deps --only-binary :all: scikit-image==0.25.2
    python benchmarks/transfer.py scikit_image*.whl --work FOLDER [--seeds 3]

Of the ten photographs of photo_sets.py six, drawn by the seed, are what a network learns first: 300 patches
of each. The other four are the new labels, with 10 patches each to train on and 60 to test, from different
halves of each photograph. Both runs have the network, size, epochs and augmentation that `train` chooses:

    nothing    wetread train NEW --output RUN
    before     wetread train NEW --output RUN --weights FIRST_RUN

Balanced accuracy on test images; the intervals of the differences are from a bootstrap of test images,
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
from photo_sets import cut, cut_photographs, decode, read_wheel
from photos import RESAMPLES, balance

FIRST, EACH, FEW = 6, 300, 10


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wheel", type=Path, metavar="WHEEL", help="scikit-image's wheel")
    parser.add_argument("--work", type=Path, required=True, help="sets and results go here")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    files = read_wheel(arguments.wheel)
    found = [run_seed(arguments.work / f"seed-{seed}", files, seed) for seed in range(arguments.seeds)]
    for contender in ("nothing", "before"):
        scores = [balance(one[contender]) for one in found]
        each = ", ".join(f"{score:.3f}" for score in scores)
        print(f"{contender:8} {mean(scores):.3f} ({each})")
    apart = mean(balance(one["before"]) - balance(one["nothing"]) for one in found)
    low, high = find_interval(found)
    print(f"difference {apart:+.3f} (95% {low:+.3f} to {high:+.3f})")


def run_seed(work: Path, files: dict[str, bytes], seed: int) -> dict[str, Any]:
    """Draw both sets, train what comes first, and then the two. Returns what each answered."""
    if not (work / "sets.json").is_file():
        write_sets(work, files, seed)
    before = work / "first-run"
    train(work / "first", before, {"seed": seed})
    contenders = {"nothing": {"seed": seed}, "before": {"seed": seed, "weights": str(before)}}
    return {name: judge(work, name, given) for name, given in contenders.items()}


def write_sets(work: Path, files: dict[str, bytes], seed: int) -> None:
    """Write first/<label>/* with many patches of six photographs, and new/{train,test}/<label>/* of four."""
    chance = np.random.default_rng([seed, 22])
    chosen = cut_photographs(files, chance)
    labels = [str(label) for label in chance.permutation(sorted(chosen["train"]))]
    for label in labels[:FIRST]:
        write_images(work / "first" / label, cut_more(chosen, files, label, chance))
    for label in labels[FIRST:]:
        write_images(work / "new" / "train" / label, chosen["train"][label][:FEW])
        write_images(work / "new" / "test" / label, chosen["test"][label])
    (work / "sets.json").write_text(json.dumps({"first": labels[:FIRST], "new": labels[FIRST:]}))


def cut_more(
    chosen: dict[str, dict[str, list[np.ndarray]]],
    files: dict[str, bytes],
    label: str,
    chance: np.random.Generator,
) -> list[np.ndarray]:
    """Patches from anywhere in a photograph; of two that scikit-learn ships, those that were cut already."""
    name = next((name for name in files if name.partition(".")[0] == label), None)
    if name is None:
        return chosen["train"][label] + chosen["test"][label]
    picture = decode(files[name], 1)
    share = 256 / min(picture.shape[:2])
    small = cv2.resize(picture, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    return [cut(small, chance) for _ in range(EACH)]


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


def find_interval(seeds: list[dict[str, Any]]) -> tuple[float, float]:
    """Bootstrap the mean difference of balanced accuracies: test images, within each label and seed."""
    chance = np.random.default_rng(0)
    drawn = np.zeros(RESAMPLES)
    for one in seeds:
        truth = np.array(one["before"]["truth"])
        apart = np.array(one["before"]["right"]) - np.array(one["nothing"]["right"])
        for label in np.unique(truth):
            own = apart[truth == label]
            picked = chance.integers(0, len(own), (RESAMPLES, len(own)))
            drawn += own[picked].mean(axis=1) / (len(np.unique(truth)) * len(seeds))
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


if __name__ == "__main__":
    main()
