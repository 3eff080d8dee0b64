"""Compare the defaults of `wetread train` with the plain network of Keras' tutorial, on other images.

    pip download --no-deps --only-binary :all: scikit-image==0.25.2
    python benchmarks/photos.py scikit_image*.whl --work FOLDER [--seeds 3] [--only digits]

Small sets of four kinds (photo_sets.py), three seeds. `train(TrainConfig(data, output, seed))` looks at the
images and chooses everything else. The tutorial's network (Rescaling, three convolutions, one dense layer,
Adam) then trains as many processor seconds as that took, from reading to saving; its own reading is not
counted. Both train on the same folder; a tenth of it validates wetread's. They take turns, each in a
process of its own. Balanced accuracy on test images; the interval of the difference is from a bootstrap of
test images, paired, within each label and seed. Killed, it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import mean
from time import process_time
from typing import Any

import cv2
import numpy as np
from photo_sets import SETS, read_wheel, write_set

RESAMPLES = 2000
_SMALL = 20  # pixels: below this three unpadded convolutions leave nothing


def main() -> None:
    arguments = parse_arguments()
    if arguments.contender:
        folder = arguments.work
        found = CONTENDERS[arguments.contender](folder, arguments.seed, arguments.seconds)
        print(json.dumps(found))
        return
    files = read_wheel(arguments.wheel)
    names = [name for name in SETS if arguments.only in (None, name)]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for seed in range(arguments.seeds):
        for name in names:
            found[name].append(run_seed(arguments, name, files, seed))
    for name in names:
        print_set(name, found[name])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wheel", type=Path, metavar="WHEEL", help="scikit-image's wheel")
    parser.add_argument("--work", type=Path, required=True, help="sets and results go here")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=SETS)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=0.0, help=argparse.SUPPRESS)
    return parser.parse_args()


def run_seed(arguments: argparse.Namespace, name: str, files: dict[str, bytes], seed: int) -> dict[str, Any]:
    """Draw a set and let both train on it, one after the other. Returns what each answered."""
    folder = arguments.work / f"{name}-{seed}"
    if not folder.is_dir():
        write_set(name, files, folder, seed=seed)
    found: dict[str, Any] = {}
    for contender in CONTENDERS:
        place = arguments.work / f"{name}-{seed}-{contender}.json"
        if not place.is_file():
            seconds = found.get("defaults", {}).get("seconds", 0.0)
            place.write_text(run_contender(arguments.wheel, contender, folder, seed, seconds))
        found[contender] = json.loads(place.read_text())
    return found


def run_contender(wheel: Path, contender: str, folder: Path, seed: int, seconds: float) -> str:
    command = [sys.executable, __file__, str(wheel), "--work", str(folder), "--contender", contender]
    command += ["--seed", str(seed), "--seconds", str(seconds)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return done.stdout.splitlines()[-1]


def train_defaults(folder: Path, seed: int, seconds: float) -> dict[str, Any]:
    """`wetread train` with nothing but the data, the run and the seed."""
    import tempfile

    from wetread.keras_backend import import_keras
    from wetread.runtime.images.pixels import read_pixels
    from wetread.train.config import CHOSEN, TrainConfig
    from wetread.train.fit import train
    from wetread.train.network import predict_probabilities

    keras = import_keras()
    with tempfile.TemporaryDirectory() as scratch:
        start = process_time()
        result = train(TrainConfig(data=str(folder), output=f"{scratch}/run", seed=seed))
        spent = process_time() - start
        run = Path(result.run)
        chosen = TrainConfig.from_json((run / "config.json").read_text())
        model = keras.models.load_model(run / "model.keras", compile=False)
    pixels, truth = [], []
    for target, label in enumerate(result.spec.labels):
        for path in sorted((folder / "test" / label).iterdir()):
            pixels.append(read_pixels(path.read_bytes(), result.spec.pixels))
            truth.append(target)
    answers = result.spec.decide(predict_probabilities(model, np.stack(pixels), np.arange(len(pixels))))
    options = {name: getattr(chosen, name) for name in ("preset", *CHOSEN)}
    return describe(answers, truth, spent, chosen.epochs) | {"options": options}


def train_tutorial(folder: Path, seed: int, seconds: float) -> dict[str, Any]:
    """The network of Keras' and TensorFlow's tutorials on the images as they are."""
    from wetread.keras_backend import import_keras

    keras = import_keras()
    images, targets = load(folder / "train")
    keras.utils.set_random_seed(seed)
    padding = "valid" if images.shape[1] >= _SMALL else "same"
    layers: list[Any] = [keras.Input(images.shape[1:]), keras.layers.Rescaling(1 / 255)]
    for filters in (32, 64, 64):
        layers += [keras.layers.MaxPooling2D()] if filters != 32 and len(layers) < 6 else []
        layers += [keras.layers.Conv2D(filters, 3, activation="relu", padding=padding)]
    layers += [keras.layers.Flatten(), keras.layers.Dense(64, activation="relu")]
    model = keras.Sequential([*layers, keras.layers.Dense(len(set(targets.tolist())))])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    start, epochs = process_time(), 0
    while process_time() - start < seconds:
        model.fit(images, targets, batch_size=32, verbose=0)
        epochs += 1
    spent = process_time() - start
    tested, truth = load(folder / "test")
    answers = model.predict(tested, verbose=0).argmax(axis=1)
    return describe(answers, truth.tolist(), spent, epochs)


def load(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a folder of labels: uint8 (N, H, W, C), gray where every image is, and targets (N,)."""
    labels = sorted(folder.iterdir())
    files = [(path, k) for k, label in enumerate(labels) for path in sorted(label.iterdir())]
    images = np.stack([cv2.imread(str(path), cv2.IMREAD_COLOR_RGB) for path, _ in files])
    gray = (images[..., :1] == images).all()
    return images[..., :1] if gray else images, np.array([target for _, target in files])


def describe(answers: Any, truth: list[int], seconds: float, epochs: int) -> dict[str, Any]:
    right = [int(answer == target) for answer, target in zip(answers, truth, strict=True)]
    return {"right": right, "truth": truth, "seconds": seconds, "epochs": epochs}


CONTENDERS = {"defaults": train_defaults, "tutorial": train_tutorial}


def print_set(name: str, seeds: list[dict[str, Any]]) -> None:
    """Print a set's table: each seed's balanced accuracy, then the difference with its interval."""
    options = seeds[0]["defaults"]["options"]
    print(f"{name}: {', '.join(f'{key} {value}' for key, value in options.items())}")
    for contender in CONTENDERS:
        scores = [balance(one[contender]) for one in seeds]
        seconds = mean(one[contender]["seconds"] for one in seeds)
        epochs = mean(one[contender]["epochs"] for one in seeds)
        each = ", ".join(f"{score:.3f}" for score in scores)
        print(f"  {contender}  {mean(scores):.3f} ({each}), {epochs:.0f} epochs in {seconds:.0f} s")
    apart = mean(balance(one["defaults"]) - balance(one["tutorial"]) for one in seeds)
    low, high = find_interval(seeds)
    print(f"  difference {apart:+.3f} (95% {low:+.3f} to {high:+.3f})", flush=True)


def balance(found: dict[str, Any]) -> float:
    right, truth = np.array(found["right"]), np.array(found["truth"])
    return float(np.mean([right[truth == label].mean() for label in np.unique(truth)]))


def find_interval(
    seeds: list[dict[str, Any]], *, one: str = "defaults", other: str = "tutorial"
) -> tuple[float, float]:
    """Bootstrap the mean difference of two contenders' balanced accuracies, one's less the other's.

    Test images are drawn within each label and seed.
    """
    chance = np.random.default_rng(0)
    drawn = np.zeros(RESAMPLES)
    for seed in seeds:
        truth = np.array(seed[one]["truth"])
        apart = np.array(seed[one]["right"]) - np.array(seed[other]["right"])
        for label in np.unique(truth):
            own = apart[truth == label]
            picked = chance.integers(0, len(own), (RESAMPLES, len(own)))
            drawn += own[picked].mean(axis=1) / (len(np.unique(truth)) * len(seeds))
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


if __name__ == "__main__":
    main()
