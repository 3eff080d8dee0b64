"""K-fold cross-validation by patient: each image is predicted once, by a network that never saw its patient.

RUN/fold-0, RUN/fold-1, ... are runs like any other, except that a K-th of the patients is neither in train
nor in val. Each run writes its predictions for those patients to held_out.csv; RUN/oof.csv holds all of them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wetread.evaluate.exact_intervals import find_exact_intervals
from wetread.evaluate.held_out import HELD_OUT, OUT_OF_FOLD
from wetread.evaluate.metrics import measure
from wetread.runtime.gcs.bucket_folder import read_file
from wetread.runtime.model.spec import ModelSpec
from wetread.train.config import TrainConfig
from wetread.train.dataset import CALIBRATION, Dataset
from wetread.train.network import predict_probabilities
from wetread.train.run import write_table

if TYPE_CHECKING:
    import keras

_RESAMPLES = 1000


def list_folds(config: TrainConfig, *, cache: str) -> list[TrainConfig]:
    """Return the configuration of each fold's run; all of them read one cache."""
    place = config.output.rstrip("/")
    return [
        replace(config, fold=fold, output=f"{place}/fold-{fold}", cache=cache)
        for fold in range(config.folds or 0)
    ]


def write_held_out(path: Path, model: keras.Model, data: Dataset) -> None:
    """Write a network's predictions for its held-out images, at temperature 1."""
    chosen = data.select(CALIBRATION)
    probabilities = predict_probabilities(model, data.pixels, data.rows[chosen])
    rows = (
        [data.names[i], data.labels[data.targets[i]], data.groups[i], *(str(np.float32(p)) for p in values)]
        for i, values in zip(chosen, probabilities, strict=True)
    )
    write_table(path, ("name", "label", "group", *(f"p_{label}" for label in data.labels)), rows)


def gather_folds(folds: list[TrainConfig], run: Path) -> None:
    """Write RUN/oof.csv: `name,label,group,fold` and `p_<label>`, in the order of names."""
    rows: list[dict[str, str]] = []
    for fold in folds:
        text = read_file(f"{fold.output}/{HELD_OUT}").decode("utf-8", "surrogateescape")
        rows += [{**row, "fold": str(fold.fold)} for row in csv.DictReader(io.StringIO(text, newline=""))]
    columns = [name for name in rows[0] if name.startswith("p_")]
    header = ("name", "label", "group", "fold", *columns)
    rows.sort(key=lambda row: row["name"])
    write_table(run / OUT_OF_FOLD, header, ([row[name] for name in header] for row in rows))


def judge_folds(run: Path, spec: ModelSpec) -> dict[str, Any]:
    """Measure the out-of-fold predictions, with intervals by patient; empty if there are none.

    At temperature 1 and threshold 0.5: values fitted on these predictions would make them look better.
    """
    spec = replace(spec, temperature=1.0, threshold=0.5, threshold_rule="default", uncertain=None)
    if not (run / OUT_OF_FOLD).is_file():
        return {}
    rows = list(_read_rows(run / OUT_OF_FOLD))
    probabilities = np.array([[row[f"p_{label}"] for label in spec.labels] for row in rows], np.float32)
    targets = np.array([spec.labels.index(row["label"]) for row in rows], np.intp)
    groups = [row["group"] for row in rows]
    found = measure(probabilities, targets, spec, groups=groups, resamples=_RESAMPLES)
    exact = find_exact_intervals(found, targets, groups)
    folds = len({row["fold"] for row in rows})
    return {"out_of_fold": {"folds": folds, **found.to_dict(), "exact_intervals": exact}}


def _read_rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
        yield from csv.DictReader(lines)
