"""Compare designs of a network: cost in onnxruntime, validation, and validation as another clinic's.

    wetread train DATA --output RUN1 --architecture benchmarks.designs:lean      train some
    python benchmarks/designs.py RUN1 RUN2 ...                                   and compare them

Validation saturates; what a network does when exposure, framing or sharpness change tells designs apart.
The shifts are larger than what training draws, or of another kind. Runs with one seed share a split.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import thread_time
from typing import Any

import cv2
import numpy as np

from wetread.evaluate.metrics import measure
from wetread.runtime.images.pixels import equalize
from wetread.runtime.scoring.classifier import Classifier
from wetread.train.config import TrainConfig
from wetread.train.dataset import load_dataset

Change = Callable[[np.ndarray], np.ndarray]  # uint8 (N, H, W, C) to the same


def build_plain(input_shape: tuple[int, int, int], outputs: int, filters: tuple[tuple[int, int], ...]) -> Any:
    """Edge's scheme with other (filters, stride)."""
    from keras import Input, Sequential, layers

    body: list[Any] = []
    for count, stride in filters:
        body.append(layers.Conv2D(count, 3, strides=stride, padding="same", use_bias=False))
        body += [layers.BatchNormalization(momentum=0.9), layers.ReLU()]
    head = [layers.GlobalAveragePooling2D(), layers.Dropout(0.3), layers.Dense(outputs)]
    return Sequential([Input(input_shape), *body, *head])


def lean(input_shape: tuple[int, int, int], outputs: int) -> Any:
    """Down to a quarter of the side at once: less than edge costs, as many parameters."""
    return build_plain(input_shape, outputs, ((16, 2), (32, 2), (32, 1), (48, 2), (64, 1), (64, 1)))


def short(input_shape: tuple[int, int, int], outputs: int) -> Any:
    """Five convolutions."""
    return build_plain(input_shape, outputs, ((16, 2), (32, 2), (48, 1), (64, 2), (64, 1)))


def fine(input_shape: tuple[int, int, int], outputs: int) -> Any:
    """A first convolution at the image's own size."""
    return build_plain(input_shape, outputs, ((8, 1), (16, 2), (32, 2), (48, 1), (64, 2), (64, 1)))


def deep(input_shape: tuple[int, int, int], outputs: int) -> Any:
    """Three convolutions at the smallest size."""
    return build_plain(input_shape, outputs, ((16, 2), (32, 2), (48, 1), (64, 2), (64, 1), (64, 1)))


def change_levels(curve: Callable[[np.ndarray], np.ndarray]) -> Change:
    table = np.clip(np.rint(curve(np.arange(256) / 255) * 255), 0, 255).astype(np.uint8)
    return lambda images: table[images]


def change_frame(*, wide: float = 1.0, high: float = 1.0, turn: float = 0.0, move: float = 0.0) -> Change:
    """Scale about the centre, turn by degrees, move right and up by a fraction; black around."""

    def change(images: np.ndarray) -> np.ndarray:
        height, width = images.shape[1:3]
        centre = np.array([(width - 1) / 2, (height - 1) / 2])
        matrix = cv2.getRotationMatrix2D((float(centre[0]), float(centre[1])), turn, 1.0)
        matrix[:, :2] = matrix[:, :2] @ np.diag([wide, high])
        matrix[:, 2] = centre - matrix[:, :2] @ centre + move * np.array([width, -height])
        return each(images, lambda image: cv2.warpAffine(image, matrix, (width, height)))

    return change


def each(images: np.ndarray, function: Callable[[np.ndarray], Any]) -> np.ndarray:
    return np.stack([np.asarray(function(image)).reshape(image.shape) for image in images])


def add_noise(images: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 12, images.shape)
    return np.clip(images + noise, 0, 255).astype(np.uint8)


def write_letter(image: np.ndarray) -> np.ndarray:
    return cv2.putText(image.copy(), "R", (2, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 2)


SHIFTS: dict[str, Change] = {
    "as it is": lambda images: images,
    "gamma 0.6": change_levels(lambda v: v**0.6),
    "gamma 1.7": change_levels(lambda v: v**1.7),
    "contrast 0.6": change_levels(lambda v: (v - 0.5) * 0.6 + 0.5),
    "darker": change_levels(lambda v: v * 0.6),
    "brighter": change_levels(lambda v: v * 0.7 + 0.3),
    "equalized": lambda images: each(images, equalize),
    "blurred": lambda images: each(images, lambda image: cv2.GaussianBlur(image, (0, 0), 1.0)),
    "noisy": add_noise,
    "cropped to 80%": change_frame(wide=1.25, high=1.25),
    "black border": change_frame(wide=0.76, high=0.76),
    "wider": change_frame(wide=1.2, high=0.95),
    "taller": change_frame(wide=0.9, high=1.15),
    "turned by 12": change_frame(turn=12),
    "turned by -12": change_frame(turn=-12),
    "moved": change_frame(move=0.08),
    "a letter": lambda images: each(images, write_letter),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wetread-bench-") as scratch:
        models = [export(run, Path(scratch) / f"{n}.onnx") for n, run in enumerate(arguments.runs)]
        costs = time_models(models)
        judged = [judge(run, model) for run, model in zip(arguments.runs, models, strict=True)]
    print_summary(arguments.runs, costs, judged)
    print_shifts(arguments.runs, judged)


def export(run: Path, model: Path) -> Classifier:
    command = [sys.executable, "-m", "wetread", "export", str(run), "--output", str(model)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return Classifier(model, device="cpu")


def time_models(models: list[Classifier]) -> list[float]:
    """Microseconds of processor time an image, in turns, batches of 32 on one thread."""
    found: list[list[float]] = [[] for _ in models]
    for _ in range(20):
        for model, times in zip(models, found, strict=True):
            batch = np.zeros((32, *model.spec.pixels.shape), np.uint8)
            start = thread_time()
            for _ in range(5):
                model.classify(batch)
            times.append((thread_time() - start) / 5 / 32 * 1e6)
    return [median(times) for times in found]


def judge(run: Path, model: Classifier) -> dict[str, tuple[float, float]]:
    """AUC and balanced accuracy of a run's validation images under every shift."""
    data = load_dataset(TrainConfig.from_json((run / "config.json").read_text(encoding="utf-8")))
    chosen = data.select("val")
    pixels = data.pixels[data.rows[chosen]]
    found = {}
    for name, change in SHIFTS.items():
        metrics = measure(model.classify(change(pixels)), data.targets[chosen], model.spec)
        found[name] = metrics.auc, metrics.balanced_accuracy
    return found


def print_summary(runs: list[Path], costs: list[float], judged: list[dict[str, tuple[float, float]]]) -> None:
    print(
        "| run | network | seed | parameters | s to train | µs an image "
        "| AUC, worst, mean | balanced accuracy, worst, mean |"
    )
    print("|---|---|---:|---:|---:|---:|---|---|")
    for run, cost, found in zip(runs, costs, judged, strict=True):
        metrics, config = (json.loads((run / f"{name}.json").read_text()) for name in ("metrics", "config"))
        cells = [
            run.name,
            config["architecture"].split(":")[-1],
            config["seed"],
            f"{metrics['parameters']:,}",
        ]
        cells += [f"{metrics['seconds']:.0f}", f"{cost:.0f}"]
        for which, digits in ((0, 4), (1, 3)):
            values = [pair[which] for pair in found.values()]
            shown = (values[0], min(values), float(np.mean(values)))
            cells.append(", ".join(f"{value:.{digits}f}" for value in shown))
        print("| " + " | ".join(str(cell) for cell in cells) + " |")


def print_shifts(runs: list[Path], judged: list[dict[str, tuple[float, float]]]) -> None:
    print("\n| AUC, balanced accuracy | " + " | ".join(run.name for run in runs) + " |")
    print("|---|" + "---|" * len(runs))
    for name in SHIFTS:
        cells = (f"{found[name][0]:.4f}, {found[name][1]:.3f}" for found in judged)
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
