"""Train the paper's three networks and ours on the same data, and print them beside the paper's figures.

    python benchmarks/paper.py --runs FOLDER [--data FOLDER] [--epochs 10]    the table
    python benchmarks/paper.py --why [--subset 1500]                          what keeps models at 74%

A run that FOLDER holds already is not trained again; one that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from wetread.keras_backend import import_keras
from wetread.train.architectures import ARCHITECTURES
from wetread.train.batches import scale_pixels
from wetread.train.config import TrainConfig
from wetread.train.dataset import Dataset, load_dataset
from wetread.train.defaults import XRAY
from wetread.train.events import EpochEnded, describe_event
from wetread.train.fit import train

DEFAULT_DATA = Path(os.environ.get("WETREAD_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
# What the paper tells: parameters, and for its third network the official test folder's figures.
PAPER = {
    "model-1": "13,121 parameters; 74%, the majority class",
    "model-2": "34,659 parameters; 74%, the majority class",
    "model-3": "98,017 parameters; 84.6% (sensitivity 96.7%, specificity 66.2%) on the official test folder",
    "edge": "",
}
SHOWN = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "auc")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA / "chest-xray-224")
    parser.add_argument("--runs", type=Path, help="where the runs are, or will be")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--subset", type=int)
    parser.add_argument("--seeds", type=int, default=3, help="of each experiment of --why")
    parser.add_argument("--why", action="store_true")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="wetread-bench-") as scratch:
        arguments.runs = arguments.runs or Path(scratch)
        if arguments.why:
            explain_majority(arguments)
        else:
            print_table(arguments)


def configure(arguments: argparse.Namespace, architecture: str, seed: int = 0) -> TrainConfig:
    return TrainConfig(
        data=str(arguments.data),
        output=str(arguments.runs / architecture),
        subset=arguments.subset,
        seed=seed,
        **{**XRAY, "architecture": architecture, "epochs": arguments.epochs},
    )


def print_table(arguments: argparse.Namespace) -> None:
    rows = []
    for architecture in PAPER:
        result = train(configure(arguments, architecture), resume=True, on_event=print_epoch)
        rows.append((architecture, result.metrics))
    found = rows[0][1]
    print(f"\ntraining: {found['images']['train']}; validation: {found['images']['val']}, other patients\n")
    print("| network | parameters | epochs | seconds | " + " | ".join(SHOWN) + " | the paper's |")
    print("|---|---:|---:|---:|" + "---:|" * len(SHOWN) + "---|")
    for architecture, metrics in rows:
        cells = [architecture, f"{metrics['parameters']:,}", metrics["epochs"], f"{metrics['seconds']:.0f}"]
        for name in SHOWN:
            low, high = metrics["validation"]["intervals"][name]
            cells.append(f"{metrics['validation'][name]:.3f} ({low:.3f} to {high:.3f})")
        print("| " + " | ".join(str(cell) for cell in [*cells, PAPER[architecture]]) + " |")
    print("\nIn brackets: 95% by patient (bootstrap). Seconds are of a shared machine: trust their ratios.")


def print_epoch(event: Any) -> None:
    if isinstance(event, EpochEnded):
        print(describe_event(event), flush=True)


@dataclass(frozen=True)
class Experiment:
    """One way to write models 1 and 2 down in Keras: how pixels are scaled, and how the network ends."""

    words: str
    ends: Callable[[Any], list[Any]]
    scaled: bool = True
    loss: str = "binary_crossentropy"


def dense(keras: Any, *activations: str | None) -> list[Any]:
    return [keras.layers.Dense(1, activation=activation) for activation in activations]


EXPERIMENTS = {
    "model-1": (
        Experiment("sigmoid, pixels 0 to 1", lambda k: dense(k, "sigmoid")),
        Experiment("sigmoid, pixels 0 to 255", lambda k: dense(k, "sigmoid"), scaled=False),
        Experiment("softmax over the one unit", lambda k: dense(k, "softmax")),
        Experiment("ReLU on the last unit", lambda k: dense(k, "relu")),
    ),
    "model-2": (
        Experiment("linear, then sigmoid (ours, but for the logits)", lambda k: dense(k, None, "sigmoid")),
        Experiment(
            "linear, then sigmoid, pixels 0 to 255", lambda k: dense(k, None, "sigmoid"), scaled=False
        ),
        Experiment("ReLU, then sigmoid", lambda k: dense(k, "relu", "sigmoid")),
        Experiment(
            "ReLU, then sigmoid, pixels 0 to 255", lambda k: dense(k, "relu", "sigmoid"), scaled=False
        ),
        Experiment("sigmoid, then sigmoid", lambda k: dense(k, "sigmoid", "sigmoid")),
        Experiment("ReLU, then softmax over the one unit", lambda k: dense(k, "relu", "softmax")),
    ),
}


def explain_majority(arguments: argparse.Namespace) -> None:
    """Train each experiment with plain Adam and no class weights, as a newcomer would, from a few seeds."""
    data = load_dataset(configure(arguments, "model-1"))
    majority = np.bincount(data.targets[data.select("val")]).max() / len(data.select("val"))
    print(
        f"{len(data.select('train')):,} training images, {arguments.epochs} epochs, Adam 0.001, batches of "
        f"32, no class weights, no augmentation; the majority is {majority:.1%} of validation\n"
    )
    print(
        "| network | written as | validation accuracy, by seed | called PNEUMONIA | seeds at the majority |"
    )
    print("|---|---|---|---|---:|")
    for architecture, experiments in EXPERIMENTS.items():
        for experiment in experiments:
            runs = [
                run_experiment(architecture, experiment, data, arguments, s) for s in range(arguments.seeds)
            ]
            stuck = sum(called in (0.0, 1.0) for _, called in runs)
            accuracies = ", ".join(f"{accuracy:.1%}" for accuracy, _ in runs)
            calls = ", ".join(f"{called:.0%}" for _, called in runs)
            print(
                f"| {architecture} | {experiment.words} | {accuracies} | {calls} | {stuck} of {len(runs)} |",
                flush=True,
            )


def run_experiment(
    architecture: str, experiment: Experiment, data: Dataset, arguments: argparse.Namespace, seed: int
) -> tuple[float, float]:
    """Return validation accuracy, and the share of validation images that are called positive."""
    keras = import_keras()
    keras.utils.set_random_seed(seed)
    ours = ARCHITECTURES[architecture](keras, data.pixels.shape[1:], 1)
    body = [layer for layer in ours.layers if not isinstance(layer, keras.layers.Dense)]
    model = keras.Sequential([keras.Input(data.pixels.shape[1:]), *body, *experiment.ends(keras)])
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss=experiment.loss)
    images, targets = read_arrays(data, "train", scaled=experiment.scaled)
    model.fit(images, targets, batch_size=32, epochs=arguments.epochs, verbose=0)
    images, targets = read_arrays(data, "val", scaled=experiment.scaled)
    called = model.predict(images, verbose=0)[:, 0] >= 0.5
    return float((called == targets).mean()), float(called.mean())


def read_arrays(data: Dataset, split: str, *, scaled: bool) -> tuple[np.ndarray, np.ndarray]:
    chosen = data.select(split)
    pixels = data.pixels[data.rows[chosen]]
    return scale_pixels(pixels) if scaled else pixels.astype(np.float32), data.targets[chosen].astype(
        np.float32
    )


if __name__ == "__main__":
    main()
