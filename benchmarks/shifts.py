"""Judge models on held-out images as other hospitals would have taken them.

    python benchmarks/shifts.py DATA --split RUN/splits.csv MODEL.onnx [MODEL.onnx ...]

Each change is made to the image at its own size, before the model's pixel recipe: so a recipe that equalizes
is judged fairly. Validation as it is saturates; the worst of these versions tells models apart. "Pooled" puts
the images of all versions into one AUC: a network whose probabilities drift from version to version loses
there though it ranks each well, and no threshold can suit it.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from sklearn.metrics import roc_auc_score

from wetread.runtime.images.pixels import equalize, read_picture, resize
from wetread.runtime.scoring.classifier import Classifier

Change = Callable[[np.ndarray], np.ndarray]  # uint8 (H, W) to the same


def change_levels(curve: Callable[[np.ndarray], np.ndarray]) -> Change:
    table = np.clip(np.rint(curve(np.arange(256) / 255) * 255), 0, 255).astype(np.uint8)
    return lambda image: table[image]


def change_frame(
    *, wide: float = 1.0, high: float = 1.0, turn: float = 0.0, move: float = 0.0, edge: bool = False
) -> Change:
    """Scale about the centre, turn by degrees, move right and up by a fraction; black around, or the edge."""

    def change(image: np.ndarray) -> np.ndarray:
        height, width = image.shape
        centre = np.array([(width - 1) / 2, (height - 1) / 2])
        matrix = cv2.getRotationMatrix2D((float(centre[0]), float(centre[1])), turn, 1.0)
        matrix[:, :2] = matrix[:, :2] @ np.diag([wide, high])
        matrix[:, 2] = centre - matrix[:, :2] @ centre + move * np.array([width, -height])
        border = cv2.BORDER_REPLICATE if edge else cv2.BORDER_CONSTANT
        return np.asarray(cv2.warpAffine(image, matrix, (width, height), borderMode=border))

    return change


def add_grain(image: np.ndarray) -> np.ndarray:
    """Noise of two pixels' size at 224 x 224, the same for the same image."""
    chance = np.random.default_rng(int(image.sum()))
    grain = chance.normal(0, 25, (112, 112)).astype(np.float32)
    return np.clip(image + cv2.resize(grain, image.shape[::-1]), 0, 255).astype(np.uint8)


def write_letters(*letters: tuple[str, float, float, float]) -> Change:
    """Write (text, left, bottom, size), in fractions of the width and the height."""

    def change(image: np.ndarray) -> np.ndarray:
        height, width = image.shape
        changed = image.copy()
        for text, left, bottom, size in letters:
            at = (int(left * width), int(bottom * height))
            scale = size * width / 124
            cv2.putText(changed, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, max(1, round(3 * scale)))
        return changed

    return change


def light(share: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Change:
    """Multiply by a share of x and y, -1 to 1."""

    def change(image: np.ndarray) -> np.ndarray:
        y, x = np.meshgrid(*(np.linspace(-1, 1, side) for side in image.shape), indexing="ij")
        return np.clip(np.rint(image * share(x, y)), 0, 255).astype(np.uint8)

    return change


def lay_bars(*, beside: float = 0.0, above: float = 0.0) -> Change:
    """Black bars over the image, as of a film in a larger frame."""

    def change(image: np.ndarray) -> np.ndarray:
        changed, high, wide = image.copy(), int(above * image.shape[0]), int(beside * image.shape[1])
        changed[:high] = changed[image.shape[0] - high :] = 0
        changed[:, :wide] = changed[:, image.shape[1] - wide :] = 0
        return changed

    return change


def compress(image: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 12])[1], 0))


def sample_down(image: np.ndarray) -> np.ndarray:
    small = cv2.resize(image, (40, 40), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, image.shape[::-1]))


SHIFTS: dict[str, Change] = {
    "as it is": lambda image: image,
    "gamma 0.6": change_levels(lambda v: v**0.6),
    "gamma 1.7": change_levels(lambda v: v**1.7),
    "contrast 0.6": change_levels(lambda v: (v - 0.5) * 0.6 + 0.5),
    "contrast 1.6": change_levels(lambda v: (v - 0.5) * 1.6 + 0.5),
    "darker": change_levels(lambda v: v * 0.6),
    "brighter": change_levels(lambda v: v * 0.7 + 0.3),
    "equalized": lambda image: equalize(image[..., None])[..., 0],
    "equalized locally": lambda image: cv2.createCLAHE(2.0, (8, 8)).apply(image),
    "blurred": lambda image: cv2.GaussianBlur(image, (0, 0), 3.5),
    "sharpened": lambda image: cv2.addWeighted(image, 2.2, cv2.GaussianBlur(image, (0, 0), 4), -1.2, 0),
    "grain": add_grain,
    "cropped to 80%": change_frame(wide=1.25, high=1.25),
    "black border": change_frame(wide=0.76, high=0.76),
    "edge border": change_frame(wide=0.8, high=0.8, edge=True),
    "wider": change_frame(wide=1.2, high=0.95),
    "taller": change_frame(wide=0.9, high=1.15),
    "turned by 12": change_frame(turn=12),
    "turned by -12": change_frame(turn=-12),
    "moved": change_frame(move=0.08),
    "a letter": write_letters(("R", 0.04, 0.23, 1.0)),
    "letters": write_letters(("L", 0.8, 0.22, 0.9), ("PORTABLE", 0.27, 0.96, 0.45)),
    "JPEG, quality 12": compress,
    "40 pixels": sample_down,
    "darker corners": light(lambda x, y: 1 - 0.5 * np.minimum((x * x + y * y) / 2, 1)),
    "light from a side": light(lambda x, _: 0.875 + 0.275 * x),
    "bars beside": lay_bars(beside=0.1),
    "bars above": lay_bars(above=0.1),
    "mirror": lambda image: np.ascontiguousarray(image[:, ::-1]),
}


@dataclass(frozen=True)
class Verdict:
    """What a model makes of every version: the positive label's probabilities, (N,) each."""

    scores: dict[str, np.ndarray]
    positive: np.ndarray
    threshold: float

    def auc(self, name: str) -> float:
        return float(roc_auc_score(self.positive, self.scores[name]))

    def rates(self, name: str) -> tuple[float, float]:
        """Sensitivity and specificity at the model's threshold."""
        called = self.scores[name] >= np.float32(self.threshold)
        return float(called[self.positive].mean()), float((~called[~self.positive]).mean())

    def pooled(self) -> float:
        truth = np.tile(self.positive, len(self.scores))
        return float(roc_auc_score(truth, np.concatenate(list(self.scores.values()))))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="the folder below which the names of --split lie")
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL.onnx")
    parser.add_argument(
        "--split", type=Path, required=True, help="splits.csv of a run: its val rows are used"
    )
    arguments = parser.parse_args()
    rows = [row for row in csv.DictReader(arguments.split.open(encoding="utf-8")) if row["split"] == "val"]
    verdicts = [judge(Classifier(model, device="cpu"), arguments.data, rows) for model in arguments.models]
    print_summary(arguments.models, verdicts)
    print_shifts(arguments.models, verdicts)


def judge(model: Classifier, data: Path, rows: list[dict[str, str]]) -> Verdict:
    """Score every version of the images; one image is in memory at its own size at a time."""
    changed: dict[str, list[np.ndarray]] = {name: [] for name in SHIFTS}
    for row in rows:
        picture = read_picture((data / row["name"]).read_bytes(), model.spec.pixels)[..., 0]
        for name, change in SHIFTS.items():
            changed[name].append(resize(np.ascontiguousarray(change(picture))[..., None], model.spec.pixels))
    column = model.spec.labels.index(str(model.spec.positive))
    scores = {name: classify(model, np.stack(images))[:, column] for name, images in changed.items()}
    positive = np.array([row["label"] == model.spec.positive for row in rows])
    return Verdict(scores, positive, model.spec.threshold)


def classify(model: Classifier, images: np.ndarray) -> np.ndarray:
    parts = [model.classify(images[at : at + 64]) for at in range(0, len(images), 64)]
    return np.concatenate(parts)


def print_summary(models: list[Path], verdicts: list[Verdict]) -> None:
    print("| model | bytes | AUC, worst, mean, pooled | balanced accuracy, worst, mean |")
    print("|---|---:|---|---|")
    for model, verdict in zip(models, verdicts, strict=True):
        aucs = [verdict.auc(name) for name in SHIFTS]
        balanced = [float(np.mean(verdict.rates(name))) for name in SHIFTS]
        first = ", ".join(f"{v:.4f}" for v in (aucs[0], min(aucs), np.mean(aucs), verdict.pooled()))
        second = ", ".join(f"{v:.3f}" for v in (balanced[0], min(balanced), np.mean(balanced)))
        print(f"| {model.stem} | {model.stat().st_size:,} | {first} | {second} |")


def print_shifts(models: list[Path], verdicts: list[Verdict]) -> None:
    print("\n| AUC, sensitivity, specificity | " + " | ".join(model.stem for model in models) + " |")
    print("|---|" + "---|" * len(models))
    for name in SHIFTS:
        cells = (f"{v.auc(name):.4f}, {v.rates(name)[0]:.3f}, {v.rates(name)[1]:.3f}" for v in verdicts)
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
