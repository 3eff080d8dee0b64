"""Train the packaged model: five networks, one for each fold of patients, in one graph that averages them.

    python benchmarks/make_model.py DATA --work FOLDER [--output wetread/models]

DATA is the training folder of Kermany, Zhang and Goldbaum (Mendeley Data v2, 2018): NORMAL and PNEUMONIA.

1. Hold out the tenth of the patients with the lowest numbers of each series of names. The data set's own test
   patients have lower numbers still: what is nearest to them judges, and nothing is fitted or chosen on it.
2. Deal the others into five folds; `wetread train` a network without each.
3. What each network says of its own fold, which it never saw, fits the temperature and the threshold.
4. Average the five networks' logits in one graph; export it as int8 and as float32.
5. Verify both, and evaluate them on the patients held out.

Killed, it goes on where it was. docs/training.md says what else was tried.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from wetread.evaluate.held_out import FIT, OUT_OF_FOLD, OperatingRequest, set_operating_point

from wetread.runtime.spec import ModelSpec
from wetread.train import run as runs
from wetread.train.config import TrainConfig
from wetread.train.dataset import Dataset, load_dataset, sample_calibration
from wetread.train.splits import assign_folds

ROOT = Path(__file__).parents[1]
POLICY = ROOT / "benchmarks" / "packaged.toml"
NAME = "chest-xray"
FOLDS = 5
HELD_OUT = 0.1
TRAINING = {
    "--architecture": "benchmarks.make_model:build_member",
    "--augment": str(POLICY),
    "--epochs": "20",
    "--batch-size": "64",
    "--learning-rate": "0.002",
    "--warmup": "1",
    "--ema": "0.995",
    "--label-smoothing": "0.05",
}
OPERATING_POINT = OperatingRequest(temperature=FIT, rule="sensitivity>=0.95")
STAGES = (32, 64, 96)
_NUMBER = re.compile(r"(person|NORMAL2-IM-|IM-)(\d+)")


def build_member(input_shape: tuple[int, int, int], outputs: int) -> Any:
    """One network: a convolution, three residual stages of halved size, global pooling."""
    from keras import Input, Model, layers

    def convolve(x: Any, filters: int, *, stride: int = 1) -> Any:
        x = layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False)(x)
        return layers.BatchNormalization(momentum=0.9)(x)

    image = Input(input_shape)
    x = layers.ReLU()(convolve(image, 16, stride=2))
    for filters in STAGES:
        x = layers.ReLU()(convolve(x, filters, stride=2))
        inner = convolve(layers.ReLU()(convolve(x, filters)), filters)
        x = layers.ReLU()(layers.Add()([x, inner]))
    x = layers.Dropout(0.3)(layers.GlobalAveragePooling2D()(x))
    return Model(image, layers.Dense(outputs)(x))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--work", type=Path, required=True, help="links, runs and reports go here")
    parser.add_argument("--output", type=Path, default=ROOT / "wetread" / "models")
    arguments = parser.parse_args()
    work, source = arguments.work.absolute(), arguments.data.absolute()

    data = load_dataset(TrainConfig(data=str(source), output=str(work / "all"), cache=str(work / "cache")))
    held_out = hold_out(data)
    folds = deal_folds(data, held_out)
    for fold in range(FOLDS):
        train_member(
            data, source, work, fold=fold, sides=np.where(folds == fold, "val", "train"), folds=folds
        )
    joined = join(data, source, work, folds=folds)
    for precision, name in (("int8", NAME), ("float32", f"{NAME}-float32")):
        publish(joined, work, arguments.output / f"{name}.onnx", precision=precision)


def hold_out(data: Dataset) -> np.ndarray:
    """Choose the patients with the lowest numbers, a tenth of each series' images. Returns bool (N,)."""
    found = [_NUMBER.search(name) for name in data.names]
    first: dict[str, tuple[str, int]] = {}  # of each group, joined by identical images: its lowest number
    for group, match in zip(data.groups, found, strict=True):
        assert match is not None, "Expected the data set's own names."
        key = match[1], int(match[2])
        first[group] = min(first.get(group, key), key)
    members = defaultdict(list)
    for index, group in enumerate(data.groups):
        members[first[group][0]].append((first[group][1], group, index))
    chosen = np.zeros(len(data.names), bool)
    for images in members.values():
        images.sort()
        last = images[int(HELD_OUT * len(images))][:2]
        chosen[[index for number, group, index in images if (number, group) <= last]] = True
    return chosen


def deal_folds(data: Dataset, held_out: np.ndarray) -> np.ndarray:
    """Deal the patients that train into folds. Returns the fold of each image, -1 for those held out."""
    kept = np.flatnonzero(~held_out)
    folds = np.full(len(held_out), -1)
    folds[kept] = assign_folds(
        [data.groups[i] for i in kept],
        [int(data.targets[i]) for i in kept],
        fractions=[1 / FOLDS] * FOLDS,
        seed=0,
    )
    return folds


def link(names: Iterable[str], source: Path, folder: Path) -> None:
    """Make a folder of links to images, as they lie below DATA."""
    for name in names:
        place = folder / name
        if not place.is_symlink():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(source / name)


def train_member(data: Dataset, source: Path, work: Path, *, fold: int, folds: np.ndarray) -> None:
    sides = np.where(folds < 0, "", np.where(folds == fold, "val", "train"))
    for side in ("train", "val"):
        names = (name for name, s in zip(data.names, sides, strict=True) if s == side)
        link(names, source, work / f"data-{fold}" / side)
    options = [part for option in TRAINING.items() for part in option]
    places = ["--output", str(work / f"run-{fold}"), "--seed", str(fold)]
    wetread("train", str(work / f"data-{fold}"), *places, *options, "--resume")


def wetread(*arguments: str) -> None:
    print("wetread", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "wetread", *arguments], check=True, cwd=ROOT)


def join(data: Dataset, source: Path, work: Path, *, folds: np.ndarray) -> Path:
    """Make a RUN of the five: one network, and the operating point by what each says of its own fold."""
    from wetread.backend import import_keras
    from wetread.train.network import predict_probabilities, save_network

    keras, run = import_keras(), work / "joined"
    members = [keras.models.load_model(work / f"run-{fold}" / runs.MODEL) for fold in range(FOLDS)]
    said = np.zeros((len(data.names), len(data.labels)), np.float32)
    for fold, member in enumerate(members):
        rows = np.flatnonzero(folds == fold)
        said[rows] = predict_probabilities(member, data.pixels, data.rows[rows])
        member.name = f"fold_{fold}"
    image = keras.Input(data.pixels.shape[1:])
    network = keras.Model(image, keras.layers.Average()([member(image) for member in members]))
    run.mkdir(parents=True, exist_ok=True)
    save_network(network, run / runs.MODEL, sample=data.pixels[:16])
    describe_run(data, source, work, folds=folds)
    write_out_of_fold(run, data, said, folds=folds)
    spec = set_operating_point(run, describe_network(work, network, data, folds), OPERATING_POINT)
    runs.write_bytes(run / runs.SPEC, (spec.to_json() + "\n").encode())
    return run


def describe_run(data: Dataset, source: Path, work: Path, *, folds: np.ndarray) -> None:
    """Lay the whole data out in the two sides that the joined network has, and say so as `train` does."""
    run, sides = work / "joined", np.where(folds < 0, "val", "train")
    for side in ("train", "val"):
        link((n for n, s in zip(data.names, sides, strict=True) if s == side), source, work / "data" / side)
    member = TrainConfig.from_json((work / "run-0" / runs.CONFIG).read_text(encoding="utf-8"))
    config = dataclasses.replace(member, data=str(work / "data"), output=str(run))
    both = load_dataset(dataclasses.replace(config, cache=str(work / "cache")))
    truth = (both.labels[t] for t in both.targets)
    rows = zip(both.names, truth, both.groups, both.splits, strict=True)
    runs.write_table(run / runs.SPLITS, ("name", "label", "group", "split"), rows)
    runs.write_names(run / runs.CALIBRATION, sample_calibration(both, count=512, seed=0))
    runs.write_bytes(run / runs.CONFIG, config.to_json().encode())


def write_out_of_fold(run: Path, data: Dataset, said: np.ndarray, *, folds: np.ndarray) -> None:
    columns = ("name", "label", "group", *(f"p_{label}" for label in data.labels))
    rows = (
        (data.names[i], data.labels[data.targets[i]], data.groups[i], *(repr(float(p)) for p in said[i]))
        for i in np.flatnonzero(folds >= 0)
    )
    runs.write_table(run / OUT_OF_FOLD, columns, rows)


def describe_network(work: Path, network: Any, data: Dataset, folds: np.ndarray) -> ModelSpec:
    """The spec of one member, with what the five have in common."""
    spec = ModelSpec.from_json((work / "run-0" / runs.SPEC).read_text(encoding="utf-8"))
    training = {
        **spec.training,
        "architecture": f"{FOLDS} residual networks, their logits averaged",
        "parameters": network.count_params(),
        "seed": f"0 to {FOLDS - 1}",
        "images": {"train": int((folds >= 0).sum()), "val": int((folds < 0).sum())},
        "data": data.fingerprint,
    }
    return dataclasses.replace(spec, training=training)


def publish(run: Path, work: Path, output: Path, *, precision: str) -> None:
    """Export in one precision, verify, and judge on the patients held out."""
    draft = work / output.name
    wetread("export", str(run), "--precision", precision, "--output", str(draft))
    wetread("verify", str(draft))
    judged = ["--run", str(run), "--output", str(work / f"evaluation-{precision}"), "--overwrite"]
    wetread("evaluate", str(work / "data"), "--model", str(draft), *judged)
    output.write_bytes(draft.read_bytes())
    metrics = json.loads((work / f"evaluation-{precision}" / "metrics.json").read_text(encoding="utf-8"))
    print(f"{output}: {output.stat().st_size:,} bytes", json.dumps(metrics)[:2000])


if __name__ == "__main__":
    main()
