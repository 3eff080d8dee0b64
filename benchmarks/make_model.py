"""Train the packaged model: a network without each fifth of the patients, the five averaged in one graph.

    python benchmarks/make_model.py DATA --work FOLDER [--output wetread/models]

DATA is the training folder of Kermany, Zhang and Goldbaum (Mendeley Data v2, 2018): NORMAL and PNEUMONIA.

1. Hold out the tenth of the patients with the lowest numbers of each series of names. The numbers of the data
   set's own test patients are lower still: what is nearest to them judges. No weight, temperature or
   threshold is fitted on it; recipes were compared on it (docs/results/packaged-model.md).
2. Deal the others into five folds; `wetread train` a network without each.
3. Average the five networks' logits in one graph, one of them of the image's enlarged middle. What each
   says of its own fold, which it never saw, fits the temperature and the threshold. Each of these images is
   taken in one of the versions of shifts.py, as another hospital would have made it: a threshold that suits
   one hospital's exposure suits no other's.
4. Export as int8 and as float32; verify both, and evaluate them on the patients held out. The int8 file is
   the packaged one; the float32 file, three times as large, stays in the folder of work.
5. Give the packaged file its scope (scope_packaged.py): its probabilities stay as they are.

Killed, it goes on where it was. docs/results/packaged-model.md says what else was tried.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wetread.evaluate.held_out import OUT_OF_FOLD
from wetread.runtime.images.pixels import read_picture, resize
from wetread.runtime.model.spec import ModelSpec
from wetread.train import run as runs
from wetread.train.config import TrainConfig
from wetread.train.dataset import Dataset, load_dataset, sample_calibration
from wetread.train.defaults import XRAY
from wetread.train.splits import assign_folds, hash_name

ROOT = Path(__file__).parents[1]
NAME = "chest-xray"
FOLDS, HELD_OUT = 5, 0.1
ENLARGED = (1,)  # which members see the image's enlarged middle
SIZE = 96
STAGES = (24, 44, 64)
TRAINING = {
    "--architecture": "benchmarks.make_model:build_member",
    "--augment": str(ROOT / "benchmarks" / "packaged.toml"),
    "--size": str(SIZE),
    "--color": "gray",
    "--epochs": "20",
    "--batch-size": "64",
    "--learning-rate": "0.002",
    "--warmup": "1",
    "--ema": "0.995",
    "--label-smoothing": "0.05",
}
OPERATING_POINT = {"--temperature": "fit", "--threshold-rule": "specificity>=0.98"}
_NUMBER = re.compile(r"(person|NORMAL2-IM-|IM-)(\d+)")


def build_member(input_shape: tuple[int, int, int], outputs: int, stages: tuple[int, ...] = STAGES) -> Any:
    """One network: a convolution, three residual stages of halved size, global pooling."""
    from keras import Input, Model, layers

    def convolve(x: Any, filters: int, *, stride: int = 1) -> Any:
        x = layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False)(x)
        return layers.BatchNormalization(momentum=0.9)(x)

    image = Input(input_shape)
    x = layers.ReLU()(convolve(image, 16, stride=2))
    for filters in stages:
        x = layers.ReLU()(convolve(x, filters, stride=2))
        inner = convolve(layers.ReLU()(convolve(x, filters)), filters)
        x = layers.ReLU()(layers.Add()([x, inner]))
    x = layers.Dropout(0.3)(layers.GlobalAveragePooling2D()(x))
    return Model(image, layers.Dense(outputs)(x))


@dataclass(frozen=True)
class Plan:
    """The images below `source`, the fold of each, -1 for those held out, and the folder to work in."""

    data: Dataset
    source: Path
    work: Path
    folds: np.ndarray

    def link(self, folder: str, **sides: np.ndarray) -> Path:
        """Make a folder of links to images, DATA/{train,val}/<label>/*; `sides` say which, bool (N,)."""
        for side, chosen in sides.items():
            for index in np.flatnonzero(chosen):
                place = self.work / folder / side / self.data.names[index]
                place.parent.mkdir(parents=True, exist_ok=True)
                if not place.is_symlink():
                    place.symlink_to(self.source / self.data.names[index])
        return self.work / folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--work", type=Path, required=True, help="links, runs and reports go here")
    parser.add_argument("--output", type=Path, default=ROOT / "wetread" / "models")
    arguments = parser.parse_args()
    plan = make_plan(arguments.data.absolute(), arguments.work.absolute())
    for fold in range(FOLDS):
        train_member(plan, fold)
    run = join_members(plan)
    packaged, _ = (publish(run, precision) for precision in ("int8", "float32"))
    give_scope(plan.source, packaged, arguments.output / f"{NAME}.onnx")


def give_scope(source: Path, model: Path, output: Path) -> None:
    """Write the packaged file: the exported one with its scope."""
    here = Path(__file__).parent
    places = ["--model", str(model), "--scope", str(here / "chest-scope.toml"), "--output", str(output)]
    subprocess.run([sys.executable, str(here / "scope_packaged.py"), str(source), *places], check=True)


def make_plan(source: Path, work: Path) -> Plan:
    places = {"data": str(source), "output": str(work / "all"), "cache": str(work / "cache")}
    config = TrainConfig(**places, **{**XRAY, "size": SIZE})
    data = load_dataset(config)
    held_out = hold_out(data)
    kept = np.flatnonzero(~held_out)
    folds = np.full(len(held_out), -1)
    folds[kept] = assign_folds(
        [data.groups[i] for i in kept],
        [int(data.targets[i]) for i in kept],
        fractions=[1 / FOLDS] * FOLDS,
        seed=0,
    )
    return Plan(data, source, work, folds)


def hold_out(data: Dataset) -> np.ndarray:
    """Choose the patients with the lowest numbers, a tenth of each series' images. Returns bool (N,)."""
    first: dict[str, tuple[str, int]] = {}  # the series and lowest number of each group of patients
    for name, group in zip(data.names, data.groups, strict=True):
        key = find_number(name)
        first[group] = min(first.get(group, key), key)
    series = defaultdict(list)
    for index, group in enumerate(data.groups):
        series[first[group][0]].append((first[group][1], group, index))
    chosen = np.zeros(len(data.names), bool)
    for images in series.values():
        images.sort()
        last = images[int(HELD_OUT * len(images))][:2]
        chosen[[index for number, group, index in images if (number, group) <= last]] = True
    return chosen


def find_number(name: str) -> tuple[str, int]:
    """The series and the number of the patient in one of the data set's own names."""
    match = _NUMBER.search(name)
    if match is None:
        raise ValueError(f"{name!r} must be person<number>, IM-<number> or NORMAL2-IM-<number>.")
    return match[1], int(match[2])


def train_member(plan: Plan, fold: int) -> None:
    """Train without a fold's patients; they validate, and choose nothing."""
    own, others = plan.folds == fold, (plan.folds >= 0) & (plan.folds != fold)
    folder = plan.link(f"data-{fold}", train=others, val=own)
    places = ["--output", str(plan.work / f"run-{fold}"), "--seed", str(fold)]
    wetread("train", str(folder), *places, *flatten(TRAINING), "--resume")


def flatten(options: dict[str, str]) -> list[str]:
    return [part for option in options.items() for part in option]


def wetread(*arguments: str) -> None:
    print("wetread", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "wetread", *arguments], check=True, cwd=ROOT)


def join_members(plan: Plan) -> Path:
    """Make a RUN of the members: one network, and what each says of its own fold in oof.csv."""
    from wetread.keras_backend import import_keras
    from wetread.train.network import predict_probabilities, save_network

    keras, data, run = import_keras(), plan.data, plan.work / "joined"
    members = [keras.models.load_model(plan.work / f"run-{fold}" / runs.MODEL) for fold in range(FOLDS)]
    image = keras.Input(data.pixels.shape[1:])
    middle = enlarge_middle(keras, image)
    views = [middle if fold in ENLARGED else image for fold in range(FOLDS)]
    said, versions = np.zeros((len(data.names), len(data.labels)), np.float32), change_images(plan)
    for fold, member in enumerate(members):
        member.name = f"without_fold_{fold}"
        own = np.flatnonzero(plan.folds == fold)
        said[own] = predict_probabilities(keras.Model(image, member(views[fold])), versions, own)
    logits = [member(view) for member, view in zip(members, views, strict=True)]
    network = keras.Model(image, keras.layers.Average()(logits))
    run.mkdir(parents=True, exist_ok=True)
    save_network(network, run / runs.MODEL, sample=np.asarray(data.pixels[:16]))
    write_out_of_fold(plan, said, run)
    describe_run(plan, network, run)
    return run


def enlarge_middle(keras: Any, image: Any) -> Any:
    """The middle four fifths of an image at the image's size."""
    margins = [side // 10 for side in image.shape[1:3]]
    middle = keras.layers.Cropping2D(margins)(image)
    return keras.layers.Resizing(*image.shape[1:3], interpolation="bilinear")(middle)


def change_images(plan: Plan) -> np.ndarray:
    """Take each image in one version of shifts.py, dealt by its name. Returns uint8 (N, H, W, C)."""
    from shifts import SHIFTS

    recipe, changes = (
        TrainConfig(data=str(plan.source), output=str(plan.work), **{**XRAY, "size": SIZE}).recipe(),
        list(SHIFTS.values()),
    )
    versions = []
    for name in plan.data.names:
        change = changes[int.from_bytes(hash_name(name, seed=0)[:4]) % len(changes)]
        picture = read_picture((plan.source / name).read_bytes(), recipe)[..., 0]
        versions.append(resize(np.ascontiguousarray(change(picture))[..., None], recipe))
    return np.stack(versions)


def write_out_of_fold(plan: Plan, said: np.ndarray, run: Path) -> None:
    data, columns = plan.data, [f"p_{label}" for label in plan.data.labels]
    rows = (
        (data.names[i], data.labels[data.targets[i]], data.groups[i], *(str(p) for p in said[i]))
        for i in np.flatnonzero(plan.folds >= 0)
    )
    runs.write_table(run / OUT_OF_FOLD, ("name", "label", "group", *columns), rows)


def describe_run(plan: Plan, network: Any, run: Path) -> None:
    """Write the rest of a RUN: its data in two sides, its calibration images and its spec."""
    folder, first = plan.link("data", train=plan.folds >= 0, val=plan.folds < 0), plan.work / "run-0"
    config = TrainConfig.from_json((first / runs.CONFIG).read_text(encoding="utf-8"))
    config = dataclasses.replace(config, data=str(folder), output=str(run), cache=str(plan.work / "cache"))
    data = load_dataset(config)
    truth = (data.labels[target] for target in data.targets)
    rows = zip(data.names, truth, data.groups, data.splits, strict=True)
    runs.write_table(run / runs.SPLITS, ("name", "label", "group", "split"), rows)
    runs.write_names(run / runs.CALIBRATION, sample_calibration(data, count=512, seed=0))
    runs.write_bytes(run / runs.CONFIG, config.to_json().encode())
    spec = ModelSpec.from_json((first / runs.SPEC).read_text(encoding="utf-8"))
    training = {
        **spec.training,
        "architecture": f"{FOLDS} residual networks, one without each fold, their logits averaged",
        "parameters": network.count_params(),
        "seed": f"0 to {FOLDS - 1}",
        "images": {side: len(data.select(side)) for side in ("train", "val")},
        "data": data.fingerprint,
    }
    spec = dataclasses.replace(spec, training=training)
    runs.write_bytes(run / runs.SPEC, (spec.to_json() + "\n").encode())


def publish(run: Path, precision: str) -> Path:
    """Export in one precision, verify, and judge on the patients held out."""
    work, model = run.parent, run.parent / f"{NAME}-{precision}.onnx"
    wetread("export", str(run), "--precision", precision, "--output", str(model), *flatten(OPERATING_POINT))
    wetread("verify", str(model))
    judged = ["--run", str(run), "--split", "val", "--output", str(work / f"judged-{precision}")]
    wetread("evaluate", str(work / "data"), "--model", str(model), *judged, "--overwrite")
    return model


if __name__ == "__main__":
    main()
