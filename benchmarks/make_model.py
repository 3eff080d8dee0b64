"""Train the packaged model: one small network that learned from the answers of five.

    python benchmarks/make_model.py DATA --work FOLDER [--output wetread/models] [--seed 0]
    python benchmarks/make_model.py DATA --work FOLDER --hold-out second-series

DATA is the training folder of Kermany, Zhang and Goldbaum (Mendeley Data v2, 2018): NORMAL and PNEUMONIA.

1. Hold out the tenth of the patients with the lowest numbers of each series of names. The numbers of the data
   set's own test patients are lower still: what is nearest to them judges. No weight, temperature or
   threshold is fitted on it; recipes were compared on it (docs/results/packaged-model.md), and export
   chooses the int8 form on it.
2. Deal the others into five folds; `wetread train` a teacher without each.
3. `wetread train --teacher` a student on all of them, from the mean answer of the five. This is the network
   of the file.
4. Train two more students, each without one fold and taught only by the teacher that did not see that fold.
   What these two say of their fold fits the first one's last bias, temperature and threshold. Each of these
   images is taken in one of the versions of shifts.py, as another hospital would have made it: a threshold
   that suits one hospital's exposure suits no other's.
5. Export as int8 and as float32; verify both, and evaluate them on the patients held out. The int8 file is
   the packaged one; the float32 file, three times as large, stays in the folder of work.
6. Give the packaged file its scope (scope_packaged.py): its probabilities stay as they are.

With `--hold-out second-series` (or `first-series`) it judges the recipe and makes no packaged file: it holds
out a whole series of NORMAL images instead, and a fifth of the patients with PNEUMONIA, and ends after 5.
`shifts.py FOLDER/data FOLDER/chest-xray-int8.onnx --split FOLDER/student-all/splits.csv` says how it does.

Killed, it goes on where it was, once its trainings have ended as well. docs/results/packaged-model.md says
what else was tried.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wetread.evaluate.held_out import OUT_OF_FOLD
from wetread.runtime.images.pixels import read_picture, resize
from wetread.runtime.threads import count_processors
from wetread.train import run as runs
from wetread.train.config import TrainConfig
from wetread.train.dataset import Dataset, load_dataset
from wetread.train.defaults import XRAY
from wetread.train.splits import assign_folds, hash_name

ROOT = Path(__file__).parents[1]
NAME = "chest-xray"
FOLDS, HELD_OUT = 5, 0.1
# A series of NORMAL images, and the remainder by 5 of the numbers of the patients with PNEUMONIA beside it.
SERIES = {"second-series": ("NORMAL2-IM-", 0), "first-series": ("IM-", 1)}
CALIBRATING = (0, 1)  # the folds without which students are trained, to fit bias, temperature and threshold
SIZE = 96
# Multiples of 16: onnxruntime's int8 kernels compute 24 filters no faster than 32.
STAGES = (32, 48, 64)
TRAINING = {
    "--architecture": "benchmarks.make_model:build_member",
    "--augment": str(ROOT / "benchmarks" / "packaged.toml"),
    "--size": str(SIZE),
    "--color": "gray",
    "--batch-size": "64",
    "--learning-rate": "0.002",
    "--warmup": "1",
    "--ema": "0.995",
    "--label-smoothing": "0.05",
    "--class-weight": "none",
}
# From labels alone a network of this size ranks other series worse after 100 epochs than after 40. One that
# learns from answers goes on improving.
ALONE = {"--epochs": "30"}
TAUGHT = {"--epochs": "60", "--teacher-share": "0.7", "--teacher-temperature": "1"}
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
    """The images below `source`, the fold of each, -1 for those held out, and the folder to work in.

    `seed`: of the networks; the folds are the same for every seed.
    """

    data: Dataset
    source: Path
    work: Path
    folds: np.ndarray
    seed: int = 0

    def link(self, folder: str, **sides: np.ndarray) -> Path:
        """Make a folder of links to images, DATA/{train,val}/<label>/*; `sides` say which, bool (N,)."""
        for side, chosen in sides.items():
            wanted = {self.data.names[index] for index in np.flatnonzero(chosen)}
            for place in (self.work / folder / side).glob("*/*"):  # of another DATA, or dealt otherwise
                if place.relative_to(self.work / folder / side).as_posix() not in wanted:
                    place.unlink()
            for name in wanted:
                place = self.work / folder / side / name
                place.parent.mkdir(parents=True, exist_ok=True)
                if not place.is_symlink() or place.readlink() != self.source / name:
                    place.unlink(missing_ok=True)
                    place.symlink_to(self.source / name)
        return self.work / folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--work", type=Path, required=True, help="links, runs and reports go here")
    parser.add_argument("--output", type=Path, default=ROOT / "wetread" / "models")
    parser.add_argument("--seed", type=int, default=0, help="of the networks' initial weights and views")
    parser.add_argument("--hold-out", choices=("lowest", *SERIES), default="lowest")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    places = arguments.data.absolute(), arguments.work.absolute()
    plan = make_plan(*places, seed=arguments.seed, judges=arguments.hold_out)
    run = calibrate(plan, train_all(plan))
    packaged, _ = (publish(run, precision) for precision in ("int8", "float32"))
    if arguments.hold_out == "lowest":
        give_scope(plan.source, packaged, arguments.output / f"{NAME}.onnx")


def train_all(plan: Plan) -> Path:
    """Train teachers and students; return the RUN of the student of all. What is finished is kept."""
    # One thread for each training: as many at a time as there are processors, and the same sums everywhere.
    with ThreadPoolExecutor(count_processors()) as pool:
        try:
            return train_in_order(plan, pool)
        except BaseException:  # begin none of those that wait
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def train_in_order(plan: Plan, pool: ThreadPoolExecutor) -> Path:
    """Train the teachers and, beside the last of them, a first student."""
    teachers = [pool.submit(train_teacher, plan, fold) for fold in range(FOLDS)]
    first, *others = CALIBRATING
    teachers[first].result()
    students = [pool.submit(train_student, plan, f"{first}", teachers=[first])]
    for teacher in teachers:
        teacher.result()
    # It takes the longest: it begins before the last student.
    whole = pool.submit(train_student, plan, "all", teachers=list(range(FOLDS)))
    students += [pool.submit(train_student, plan, f"{fold}", teachers=[fold]) for fold in others]
    for student in students:
        student.result()
    return whole.result()


def give_scope(source: Path, model: Path, output: Path) -> None:
    """Write the packaged file: the exported one with its scope."""
    here = Path(__file__).parent
    places = ["--model", str(model), "--scope", str(here / "chest-scope.toml"), "--output", str(output)]
    subprocess.run([sys.executable, str(here / "scope_packaged.py"), str(source), *places], check=True)


def make_plan(source: Path, work: Path, *, seed: int = 0, judges: str = "lowest") -> Plan:
    places = {"data": str(source), "output": str(work / "all"), "cache": str(work / "cache")}
    config = TrainConfig(**places, **{**XRAY, "size": SIZE})
    data = load_dataset(config)
    held_out = hold_out(data) if judges == "lowest" else hold_out_series(data, *SERIES[judges])
    kept = np.flatnonzero(~held_out)
    folds = np.full(len(held_out), -1)
    folds[kept] = assign_folds(
        [data.groups[i] for i in kept],
        [int(data.targets[i]) for i in kept],
        fractions=[1 / FOLDS] * FOLDS,
        seed=0,
    )
    return Plan(data, source, work, folds, seed)


def hold_out(data: Dataset) -> np.ndarray:
    """Choose the patients with the lowest numbers, a tenth of each series' images. Returns bool (N,)."""
    first = find_first(data)
    series = defaultdict(list)
    for index, group in enumerate(data.groups):
        series[first[group][0]].append((first[group][1], group, index))
    chosen = np.zeros(len(data.names), bool)
    for images in series.values():
        images.sort()
        last = images[int(HELD_OUT * len(images))][:2]
        chosen[[index for number, group, index in images if (number, group) <= last]] = True
    return chosen


def hold_out_series(data: Dataset, series: str, remainder: int) -> np.ndarray:
    """Choose a series of NORMAL images and every fifth patient with PNEUMONIA. Returns bool (N,)."""
    first = find_first(data)
    chosen = {
        group
        for group, (kind, number) in first.items()
        if kind == series or (kind == "person" and number % 5 == remainder)
    }
    return np.array([group in chosen for group in data.groups])


def find_first(data: Dataset) -> dict[str, tuple[str, int]]:
    """The series and the lowest number of each group of patients."""
    first: dict[str, tuple[str, int]] = {}
    for name, group in zip(data.names, data.groups, strict=True):
        key = find_number(name)
        first[group] = min(first.get(group, key), key)
    return first


def find_number(name: str) -> tuple[str, int]:
    """The series and the number of the patient in one of the data set's own names."""
    match = _NUMBER.search(name)
    if match is None:
        raise ValueError(f"{name!r} must be person<number>, IM-<number> or NORMAL2-IM-<number>.")
    return match[1], int(match[2])


def train_teacher(plan: Plan, fold: int) -> None:
    """Train without a fold's patients; they validate, and choose nothing."""
    train(plan, f"teacher-{fold}", data=link_fold(plan, fold), seed=plan.seed + fold, **TRAINING, **ALONE)


def train_student(plan: Plan, name: str, *, teachers: list[int]) -> Path:
    """Train a student without its one teacher's fold, or on all that are not held out. Returns its RUN."""
    everyone = len(teachers) > 1
    data = plan.link("data", train=plan.folds >= 0, val=plan.folds < 0) if everyone else None
    runs_taught = ",".join(str(plan.work / f"teacher-{fold}") for fold in teachers)
    options = {**TRAINING, **TAUGHT, "--teacher": runs_taught}
    seed = plan.seed + FOLDS + teachers[0]
    return train(plan, f"student-{name}", data=data or link_fold(plan, teachers[0]), seed=seed, **options)


def link_fold(plan: Plan, fold: int) -> Path:
    """Link the images of a fold to validate, and those of the other folds to train."""
    return plan.link(f"data-{fold}", train=(plan.folds >= 0) & (plan.folds != fold), val=plan.folds == fold)


def train(plan: Plan, name: str, *, data: Path, seed: int, **options: str) -> Path:
    run = plan.work / name
    places = [str(data), "--output", str(run), "--seed", str(seed)]
    wetread("train", *places, *flatten(options), "--resume", TF_NUM_INTRAOP_THREADS="1")
    return run


def flatten(options: dict[str, str]) -> list[str]:
    return [part for option in options.items() for part in option]


def wetread(*arguments: str, **environment: str) -> None:
    print("wetread", *arguments, flush=True)
    command = [sys.executable, "-m", "wetread", *arguments]
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, **environment})


def change_images(plan: Plan, positions: np.ndarray) -> np.ndarray:
    """Take images in one version of shifts.py each, dealt by their names. Returns uint8 (N, H, W, C)."""
    from shifts import SHIFTS

    recipe, changes = (
        TrainConfig(data=str(plan.source), output=str(plan.work), **{**XRAY, "size": SIZE}).recipe(),
        list(SHIFTS.values()),
    )
    versions = []
    for name in (plan.data.names[position] for position in positions):
        change = changes[int.from_bytes(hash_name(name, seed=0)[:4]) % len(changes)]
        picture = read_picture((plan.source / name).read_bytes(), recipe)[..., 0]
        versions.append(resize(np.ascontiguousarray(change(picture))[..., None], recipe))
    return np.stack(versions)


def calibrate(plan: Plan, trained: Path) -> Path:
    """Copy a RUN, with a last bias that suits its answers and with answers out of fold. Returns the copy.

    Mild pneumonias look normal, so a logit of 0 is no even chance, and a temperature cannot mend that: it
    keeps the 0. The bias can (Platt scaling, whose slope `export` fits as the temperature).
    """
    from sklearn.linear_model import LogisticRegression

    run = plan.work / "calibrated"
    shutil.copytree(trained, run, dirs_exist_ok=True)
    judged = np.flatnonzero(np.isin(plan.folds, CALIBRATING))
    logits = ask_students(plan)[judged]
    line = LogisticRegression(C=np.inf).fit(logits[:, None], plan.data.targets[judged])
    bias = float(line.intercept_[0] / line.coef_[0, 0])
    add_bias(run / runs.MODEL, bias, sample=np.asarray(plan.data.pixels[:16]))
    write_out_of_fold(plan, run, judged, logits + bias)
    print(f"bias {bias:.4f}, of {len(judged):,} images that fitted nothing else", flush=True)
    return run


def ask_students(plan: Plan) -> np.ndarray:
    """Logits, (N,), of the students for the fold that neither they nor their teachers saw; 0 elsewhere."""
    from wetread.keras_backend import import_keras

    keras, logits = import_keras(), np.zeros(len(plan.data.names))
    for fold in CALIBRATING:
        network = keras.models.load_model(plan.work / f"student-{fold}" / runs.MODEL)
        own = np.flatnonzero(plan.folds == fold)
        images = change_images(plan, own).astype(np.float32) / 255
        logits[own] = network.predict(images, verbose=0)[:, 0]
    return logits


def add_bias(model: Path, bias: float, *, sample: np.ndarray) -> None:
    """Add to the bias of a saved network's last layer. `sample`: images that it is compared on."""
    from wetread.keras_backend import import_keras
    from wetread.train.network import save_network

    network = import_keras().models.load_model(model)
    last = network.layers[-1]
    last.bias.assign(last.bias + bias)
    save_network(network, model, sample=sample)


def write_out_of_fold(plan: Plan, run: Path, judged: np.ndarray, logits: np.ndarray) -> None:
    """Write the answers for the images at `judged` to a RUN: oof.csv."""
    data, positive = plan.data, 1 / (1 + np.exp(-logits))
    columns = [f"p_{label}" for label in data.labels]
    rows = (
        (data.names[i], data.labels[data.targets[i]], data.groups[i], str(1 - p), str(p))
        for i, p in zip(judged, positive, strict=True)
    )
    runs.write_table(run / OUT_OF_FOLD, ("name", "label", "group", *columns), rows)


def publish(run: Path, precision: str) -> Path:
    """Export in one precision, verify, and judge on the patients held out."""
    work, model = run.parent, run.parent / f"{NAME}-{precision}.onnx"
    form = ["--precision", precision, *(["--exact-integers"] if precision == "int8" else [])]
    wetread("export", str(run), *form, "--output", str(model), *flatten(OPERATING_POINT))
    wetread("verify", str(model))
    judged = ["--run", str(run), "--split", "val", "--output", str(work / f"judged-{precision}")]
    wetread("evaluate", str(work / "data"), "--model", str(model), *judged, "--overwrite")
    return model


if __name__ == "__main__":
    main()
