"""What a run leaves when its last epoch is over: the network, its spec, the curves, and metrics.json."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wetread.evaluate.exact_intervals import find_exact_intervals, find_only_answer
from wetread.evaluate.metrics import Metrics, measure
from wetread.evaluate.patients import PATIENT
from wetread.evaluate.temperature_scaling import apply_temperature
from wetread.packages import find_own_version
from wetread.runtime.model.spec import ModelSpec
from wetread.train import run as runs
from wetread.train.calibration import calibrate
from wetread.train.config import TrainConfig, split_teachers
from wetread.train.dataset import Dataset
from wetread.train.folds import judge_folds
from wetread.train.history import choose_epoch
from wetread.train.network import predict_probabilities, save_network
from wetread.train.run_pictures import draw_history
from wetread.train.seen_patients import compare_weights

if TYPE_CHECKING:
    import keras

_RESAMPLES = 1000


def finish(
    config: TrainConfig, model: keras.Model, data: Dataset, *, spec: ModelSpec, history: runs.History
) -> ModelSpec:
    """Write the network, its spec, the curves and, last, metrics.json. Returns the spec."""
    directory = Path(config.output)
    spec = calibrate(config, model, data, spec)
    metrics = _collect_metrics(config, model, data, spec=spec, history=history)
    training = {**_fingerprint(config, data, metrics), **spec.training}
    spec = dataclasses.replace(spec, training=training, tools=_tools())
    save_network(model, directory / runs.MODEL, sample=data.pixels[data.rows[data.select("val")[:16]]])
    runs.write_bytes(directory / runs.SPEC, (spec.to_json() + "\n").encode())
    draw_history(directory / runs.HISTORY_PICTURE, history)
    runs.write_json(directory / runs.METRICS, metrics)
    (directory / runs.CHECKPOINT).unlink(missing_ok=True)
    return spec


def _collect_metrics(
    config: TrainConfig, model: keras.Model, data: Dataset, *, spec: ModelSpec, history: runs.History
) -> dict[str, Any]:
    found, seen = data.describe(), compare_weights(config, data, begun=True).seen
    return {
        "architecture": config.network,
        "parameters": model.count_params(),
        "epochs": len(history),
        "kept_epoch": choose_epoch(history, config) if config.best else len(history),
        "seconds": sum(row["seconds"] for row in history),
        "images": found.counts,
        "patients": found.patients,
        **({} if found.word == PATIENT else {"group": found.word}),
        "left_out": len(found.left_out),
        "leaks": found.leaks,
        "near_identical": found.alike,
        "under_two_labels": found.conflicts,
        **({"seen_before": len(seen)} if seen else {}),
        "validation": _judge_validation(model, data, spec),
        **_describe_operating_point(model, data, spec),
        **judge_folds(Path(config.output), spec),
        "history": history,
    }


def _describe_operating_point(model: keras.Model, data: Dataset, spec: ModelSpec) -> dict[str, Any]:
    """The threshold and temperature fitted on held-out patients, with the calibration before; else empty."""
    if "held_out" not in spec.training:
        return {}
    before = _judge(model, data, dataclasses.replace(spec, temperature=1.0)).to_dict()
    point = {name: getattr(spec, name) for name in ("temperature", "threshold", "threshold_rule")}
    point["uncertain"] = None if spec.uncertain is None else dataclasses.asdict(spec.uncertain)
    uncalibrated = {name: before[name] for name in ("ece", "brier", "log_loss")}
    return {"operating_point": {**point, **spec.training}, "validation_at_temperature_1": uncalibrated}


def _fingerprint(config: TrainConfig, data: Dataset, metrics: dict[str, Any]) -> dict[str, Any]:
    """What the spec says about the training, without names of files or folders."""
    return {
        "architecture": config.network,
        "parameters": metrics["parameters"],
        "epochs": metrics["epochs"],
        "seed": config.seed,
        "augment": Path(config.augment).name,
        "class_weight": config.class_weight,
        "images": {split: sum(counts.values()) for split, counts in metrics["images"].items()},
        **({} if data.word == PATIENT else {"group": data.word}),
        "data": data.fingerprint,
        **({"weights": config.weights_digest} if config.weights_digest else {}),
        **({"teachers": len(split_teachers(config.teacher))} if config.teacher else {}),
    }


def _tools() -> dict[str, str]:
    """The versions of the packages that trained the network."""
    import cv2
    import keras
    import tensorflow

    return {
        "wetread": find_own_version(),
        "keras": keras.__version__,
        "tensorflow": tensorflow.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }


def judge_epoch(model: keras.Model, data: Dataset, spec: ModelSpec) -> dict[str, float]:
    """Measure validation for a row of history.csv."""
    found = _judge(model, data, spec)
    names = ["accuracy", "balanced_accuracy", "sensitivity", "specificity", "f1", "auc"]
    if spec.positive is None:
        names = ["accuracy", "balanced_accuracy", "f1", "auc"]
    return {"val_loss": found.log_loss, **{f"val_{name}": getattr(found, name) for name in names}}


def _judge_validation(model: keras.Model, data: Dataset, spec: ModelSpec) -> dict[str, Any]:
    """Validation metrics with intervals: by bootstrap, and exact ones where the bootstrap's has no width."""
    found, chosen = _judge(model, data, spec, resamples=_RESAMPLES), data.select("val")
    exact = find_exact_intervals(found, data.targets[chosen], [data.groups[i] for i in chosen])
    return {**found.to_dict(), "exact_intervals": exact, "only_answer": find_only_answer(found)}


def _judge(model: keras.Model, data: Dataset, spec: ModelSpec, *, resamples: int = 0) -> Metrics:
    chosen = data.select("val")
    probabilities = predict_probabilities(model, data.pixels, data.rows[chosen])
    if spec.temperature != 1:
        probabilities = apply_temperature(probabilities, spec.temperature).astype(np.float32)
    groups = [data.groups[i] for i in chosen]
    return measure(probabilities, data.targets[chosen], spec, groups=groups, resamples=resamples)
