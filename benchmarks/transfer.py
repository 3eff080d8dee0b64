"""Compare a network that was trained before with one that begins with nothing, on few images of new labels.

    python benchmarks/transfer.py --work FOLDER [--seeds 3]

Six of scikit-learn's ten digits (8 x 8 pixels), drawn by the seed, are what a network learns first, 130
images of each. The other four are the new labels: 5 images of each train, and 100 are tested. Everything that
is not named here is what `wetread train` chooses:

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
from photo_sets import choose_digits
from photos import RESAMPLES, balance

FIRST, FEW = 6, 5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="sets and runs go here")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    found = [run_seed(arguments.work / f"seed-{seed}", seed) for seed in range(arguments.seeds)]
    for contender in found[0]:
        scores = [balance(one[contender]) for one in found]
        print(f"{contender}  {mean(scores):.3f} ({', '.join(f'{score:.3f}' for score in scores)})")
    apart = mean(balance(one["before"]) - balance(one["nothing"]) for one in found)
    low, high = find_interval(found)
    print(f"difference {apart:+.3f} (95% {low:+.3f} to {high:+.3f})")


def run_seed(work: Path, seed: int) -> dict[str, Any]:
    """Draw both sets, train on the first, and twice on the second. Returns what was answered there."""
    if not (work / "sets.json").is_file():
        write_sets(work, seed)
    train(work / "first", work / "first-run", {"seed": seed})
    return {
        "nothing": judge(work, "nothing", {"seed": seed}),
        "before": judge(work, "before", {"seed": seed, "weights": str(work / "first-run")}),
    }


def write_sets(work: Path, seed: int) -> None:
    """Write first/<label>/* with every image of six digits, and new/{train,test}/<label>/* of four."""
    chance = np.random.default_rng([seed, 22])
    chosen = choose_digits({}, chance)
    labels = [str(label) for label in chance.permutation(10)]
    for label in labels[:FIRST]:
        write_images(work / "first" / label, chosen["train"][label] + chosen["test"][label])
    for label in labels[FIRST:]:
        write_images(work / "new" / "train" / label, chosen["train"][label][:FEW])
        write_images(work / "new" / "test" / label, chosen["test"][label])
    (work / "sets.json").write_text(json.dumps({"first": labels[:FIRST], "new": labels[FIRST:]}))


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
        truth = np.array(one["nothing"]["truth"])
        apart = np.array(one["before"]["right"]) - np.array(one["nothing"]["right"])
        for label in np.unique(truth):
            own = apart[truth == label]
            picked = chance.integers(0, len(own), (RESAMPLES, len(own)))
            drawn += own[picked].mean(axis=1) / (len(np.unique(truth)) * len(seeds))
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


if __name__ == "__main__":
    main()
