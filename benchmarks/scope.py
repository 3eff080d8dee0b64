"""What does a model's scope find, and what does it cost?

    python benchmarks/scope.py DATA --model MODEL.onnx [--pictures FOLDER] [--split RUN/splits.csv]

DATA is the training folder of benchmarks/make_model.py, whose held-out patients judge; or, with --split, any
labelled folder whose val files judge. Prints, for each kind of picture, the share that the model calls
outside, and beside it what the same features and older measures would find when 1 % and 5 % of the good ones
are lost. Kinds that the method was chosen by are marked.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from make_model import hold_out
from scope_kinds import BLANKS, CHOSEN_BY, NEAR, draw_kinds, read_kinds
from shifts import SHIFTS
from sklearn.metrics import roc_auc_score

from wetread.errors import ImageError
from wetread.export.graph import INPUT, LOGITS, add_outputs, open_plain
from wetread.export.unlike_nodes import FeatureMap, compute_features, detach_unlike
from wetread.export.unlike_output import choose_maps
from wetread.runtime.images.pixels import read_input, read_picture, resize
from wetread.runtime.scoring.classifier import Classifier

Images = np.ndarray


@dataclass
class Judged:
    """A kind's scores by every measure, each higher for what is stranger; and how many the model refuses."""

    kind: str
    chosen_by: bool
    scores: dict[str, np.ndarray]
    outside: np.ndarray


class Measures:
    """The model's own measure beside others: probability, energy, and two distances in the last features."""

    def __init__(self, model: Path, training: Images) -> None:
        self.classifier = Classifier(model, device="cpu")
        self.spec = self.classifier.spec
        self._graph = detach_unlike(onnx.load(model))
        last = choose_maps(self._graph, training[:2])[-1]
        sides = compute_sides(self._graph, last, training[:1])
        self._map = (FeatureMap(last.name, last.step, sides, (1, 1)),)
        known = compute_features(self._graph, self._map, training)
        self._mean, covariance = known.mean(axis=0), np.cov(known.T)
        self._inverse = np.linalg.pinv(covariance + shrink(covariance))
        self._known = known / np.linalg.norm(known, axis=1, keepdims=True)
        self._logits = open_plain(add_outputs(self._graph, [LOGITS]).SerializeToString())

    def judge(self, kind: str, images: Images) -> Judged:
        """Score images, uint8 (N, H, W, C)."""
        batches = [images[at : at + 32] for at in range(0, len(images), 32)]
        parts = [self.classifier.judge(batch) for batch in batches]
        probabilities, unlike = (np.concatenate(each) for each in zip(*parts, strict=True))
        logits = np.concatenate([self._logits.run([LOGITS], {INPUT: batch})[0] for batch in batches])
        if logits.shape[1] == 1:
            logits = np.concatenate([-logits / 2, logits / 2], axis=1)
        features = compute_features(self._graph, self._map, images)
        far = features - self._mean
        cosines = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-9) @ self._known.T
        scores = {
            "scope": unlike,
            "probability": -probabilities.max(axis=1),
            "energy": -np.logaddexp.reduce(logits, axis=1),
            "Mahalanobis": np.einsum("nd,de,ne->n", far, self._inverse, far),
            "nearest": -np.sort(cosines, axis=1)[:, -10],
        }
        assert self.spec.scope is not None and self.spec.scope.unlike is not None
        outside = ~(unlike <= np.float32(self.spec.scope.unlike.threshold))
        return Judged(kind, kind in CHOSEN_BY, scores, outside)


def shrink(covariance: np.ndarray) -> np.ndarray:
    """What is added to a covariance so that it can be inverted."""
    return 1e-3 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))


def compute_sides(graph: onnx.ModelProto, last: FeatureMap, image: Images) -> tuple[int, int]:
    """The height and width of a map."""
    value = open_plain(add_outputs(graph, [last.name]).SerializeToString()).run([last.name], {INPUT: image})[
        0
    ]
    return int(value.shape[2]), int(value.shape[3])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, help="FOLDER/<kind>/*: see scope_pictures.py")
    parser.add_argument("--split", type=Path, help="splits.csv of a run: its val rows judge")
    parser.add_argument("--every", type=int, default=1, help="near kinds on each n-th image")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    training, judged = list_files(arguments.data, arguments.split)
    recipe = Classifier(arguments.model, device="cpu").spec.pixels
    measures = Measures(arguments.model, np.stack([read_input(p.read_bytes(), recipe) for p in training]))
    rows = list(judge_all(measures, judged, arguments))
    print_tables(rows, measures)
    print_blanks(recipe)
    if arguments.json:
        arguments.json.write_text(json.dumps([describe(row, rows[0]) for row in rows], indent=1) + "\n")


def list_files(data: Path, split: Path | None) -> tuple[list[Path], list[Path]]:
    """A thousand files that trained the network, and those that judge."""
    if split is not None:
        rows = list(csv.DictReader(split.open(encoding="utf-8")))
        train, judged = ([data / r["name"] for r in rows if r["split"] == side] for side in ("train", "val"))
    else:
        names = sorted(str(path.relative_to(data)) for path in data.glob("*/*"))
        held = hold_out_names(names)
        train = [data / name for name, out in zip(names, held, strict=True) if not out]
        judged = [data / name for name, out in zip(names, held, strict=True) if out]
    return train[:: max(len(train) // 1000, 1)], judged


def hold_out_names(names: list[str]) -> np.ndarray:
    """The files that make_model.py holds out."""
    from wetread.evaluate.patients import DEFAULT_GROUP_REGEX, compile_group_regex, find_group

    pattern = compile_group_regex(DEFAULT_GROUP_REGEX)
    groups = [find_group(name, pattern) for name in names]
    return hold_out(argparse.Namespace(names=names, groups=groups))


def judge_all(measures: Measures, files: list[Path], arguments: argparse.Namespace) -> Iterable[Judged]:
    recipe = measures.spec.pixels
    whole = np.stack([read_input(path.read_bytes(), recipe) for path in files])
    yield measures.judge("held-out images", whole)
    pictures = [read_picture(path.read_bytes(), recipe)[..., 0] for path in files[:: arguments.every]]
    for name, change in {**SHIFTS, **NEAR}.items():
        kind = f"version: {name}" if name in SHIFTS else name
        yield measures.judge(kind, bring([change(picture) for picture in pictures], recipe))
    for kind, drawn in (*draw_kinds(100), *read_kinds(arguments.pictures, recipe)):
        yield measures.judge(kind, bring(drawn, recipe))


def bring(pictures: list[np.ndarray], recipe: object) -> Images:
    gray = [resize(np.ascontiguousarray(p)[..., None], recipe) for p in pictures]  # type: ignore[arg-type]
    return np.repeat(np.stack(gray), recipe.channels, axis=3)  # type: ignore[attr-defined]


def describe(row: Judged, good: Judged) -> dict[str, object]:
    """A kind's row: the share outside, and for each measure AUROC and what is found at 1 and 5 % lost."""
    values: dict[str, object] = {"kind": row.kind, "chosen_by": row.chosen_by, "pictures": len(row.outside)}
    values["outside"] = round(float(row.outside.mean()), 4)
    for name, scores in row.scores.items():
        inside = good.scores[name]
        truth = np.repeat([0, 1], [len(inside), len(scores)])
        found = [float((scores > np.quantile(inside, 1 - lost)).mean()) for lost in (0.01, 0.05)]
        auc = float(roc_auc_score(truth, np.nan_to_num(np.concatenate([inside, scores]), nan=1e9)))
        values[name] = [round(value, 4) for value in (auc, *found)]
    return values


def print_tables(rows: list[Judged], measures: Measures) -> None:
    good, versions = rows[0], [row for row in rows if row.kind.startswith("version: ")]
    print(f"held-out images outside: {good.outside.mean():.2%} of {len(good.outside)}")
    shares = [row.outside.mean() for row in versions if row.kind != "version: as it is"]
    worst = sorted(versions, key=lambda row: -row.outside.mean())[:4]
    print(f"versions outside, on average: {np.mean(shares):.2%}; the worst:")
    print("  " + ", ".join(f"{row.kind.removeprefix('version: ')} {row.outside.mean():.1%}" for row in worst))
    names = list(good.scores)
    print(
        "\n| kind | pictures | outside | " + " | ".join(f"{name}: AUROC, 1 %, 5 %" for name in names) + " |"
    )
    print("|---|---:|---:|" + "---|" * len(names))
    for row in rows:
        if row is good or row in versions:
            continue
        values = describe(row, good)
        cells = (", ".join(f"{v:.3f}" for v in values[name]) for name in names)  # type: ignore[attr-defined]
        mark = " *" if row.chosen_by else ""
        print(f"| {row.kind}{mark} | {len(row.outside)} | {row.outside.mean():.1%} | {' | '.join(cells)} |")
    print("\nOf each measure: AUROC, found at 1 % lost, found at 5 % lost. * the method was chosen by it.")


def print_blanks(recipe: object) -> None:
    import cv2

    for name, picture in BLANKS.items():
        try:
            read_input(cv2.imencode(".png", picture)[1].tobytes(), recipe)  # type: ignore[arg-type]
            print(f"blank, {name}: not found")
        except ImageError as error:
            print(f"blank, {name}: {error.status}")


if __name__ == "__main__":
    main()
