"""Measure an epoch of `wetread train` beside one of a bare `model.fit` on the same arrays in memory.

    python benchmarks/training.py [--data FOLDER] [--architecture model-3] [--rounds 3] [--quick]

Each contender is a process of its own, and they take turns; an epoch is counted from the end of the one
before, with all that belongs to it. Only ratios mean anything: of the fastest epochs' wall time, because
other work on the machine only ever adds to it, and of the median processor time, which says more there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import numpy as np

from wetread.keras_backend import import_keras
from wetread.train.architectures import build_network
from wetread.train.augment import augment_images, read_policy
from wetread.train.batches import scale_pixels
from wetread.train.config import TrainConfig
from wetread.train.dataset import Dataset, load_dataset
from wetread.train.defaults import XRAY
from wetread.train.events import EpochEnded, Event, TrainingStarted
from wetread.train.fit import train

DEFAULT_DATA = Path(os.environ.get("WETREAD_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
Seconds = list[tuple[float, float]]  # wall and processor seconds of each epoch but the first
CONTENDERS = {
    "fit": "bare `model.fit`, arrays in memory",
    "fit-deterministic": "the same, operations deterministic",
    "none": "`wetread train --augment none`, validation and checkpoint included",
    "xray": "`wetread train --augment xray`, validation and checkpoint included",
}


def main() -> None:
    arguments = parse_arguments()
    if arguments.contender:
        print(json.dumps(run_contender(arguments)))
        return
    with tempfile.TemporaryDirectory(prefix="wetread-bench-") as scratch:
        arguments.scratch = arguments.scratch or Path(scratch)
        load_dataset(configure(arguments, "none"))  # fills the cache for all
        rounds = [run_round(arguments) for _ in range(arguments.rounds)]
        print_table(arguments, rounds)
        measure_augmentation(arguments, rounds)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA / "chest-xray-224")
    parser.add_argument("--architecture", default="model-3")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3, help="of each contender; the first is not counted")
    parser.add_argument("--subset", type=int)
    parser.add_argument("--quick", action="store_true", help="600 images, one round: to see that it works")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.subset = 1, 600
    return arguments


def configure(arguments: argparse.Namespace, augment: str) -> TrainConfig:
    varied = {"architecture": arguments.architecture, "epochs": arguments.epochs, "augment": augment}
    return TrainConfig(
        data=str(arguments.data),
        output=str(arguments.scratch / f"run-{os.getpid()}"),
        cache=str(arguments.scratch / "cache"),
        subset=arguments.subset,
        **{**XRAY, **varied},
    )


def run_round(arguments: argparse.Namespace) -> dict[str, Seconds]:
    """Let every contender train once, in a process of its own."""
    found = {}
    for name in CONTENDERS:
        command = [sys.executable, __file__, "--contender", name, "--scratch", str(arguments.scratch)]
        command += ["--data", str(arguments.data), "--architecture", arguments.architecture]
        command += ["--epochs", str(arguments.epochs)]
        command += ["--subset", str(arguments.subset)] if arguments.subset else []
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found[name] = [(wall, cpu) for wall, cpu in json.loads(done.stdout.splitlines()[-1])]
    return found


def run_contender(arguments: argparse.Namespace) -> Seconds:
    name = arguments.contender
    if name.startswith("fit"):
        return time_fit(arguments, deterministic=name != "fit")
    clock = Clock()
    train(configure(arguments, name), on_event=clock.listen)
    return clock.epochs[1:]


class Clock:
    """Wall and processor seconds from the end of each epoch to the end of the next."""

    def __init__(self) -> None:
        self.epochs: Seconds = []
        self.start = perf_counter(), process_time()

    def listen(self, event: Event) -> None:
        if isinstance(event, TrainingStarted | EpochEnded):
            now = perf_counter(), process_time()
            if isinstance(event, EpochEnded):
                self.epochs.append((now[0] - self.start[0], now[1] - self.start[1]))
            self.start = now


def time_fit(arguments: argparse.Namespace, *, deterministic: bool) -> Seconds:
    """A bare model.fit: no validation, no weights, no augmentation, no checkpoint."""
    keras = import_keras()
    if deterministic:
        import tensorflow

        tensorflow.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(0)
    config = configure(arguments, "none")
    images, targets = load_arrays(load_dataset(config))
    model = build_network(config.architecture, config.recipe().shape, 1)
    model.compile(
        optimizer=keras.optimizers.AdamW(config.learning_rate, weight_decay=config.weight_decay),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
    )
    clock = Clock()
    end: Callable[..., None] = lambda epoch, logs: clock.listen(EpochEnded(epoch=1, epochs=1, metrics={}))  # noqa: E731
    listener = keras.callbacks.LambdaCallback(on_epoch_end=end)
    model.fit(
        images, targets, batch_size=config.batch_size, epochs=config.epochs, verbose=0, callbacks=[listener]
    )
    return clock.epochs[1:]


def load_arrays(data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    chosen = data.select("train")
    return scale_pixels(data.pixels[data.rows[chosen]]), data.targets[chosen, None].astype(np.float32)


def summarize(rounds: list[dict[str, Seconds]], name: str, which: int) -> float:
    """The fastest epoch's wall time (other work only ever adds to it); the median of processor time."""
    values = [epoch[which] for found in rounds for epoch in found[name]]
    return median(values) if which else min(values)


def ratio(rounds: list[dict[str, Seconds]], name: str, other: str, which: int) -> float:
    return summarize(rounds, name, which) / summarize(rounds, other, which)


def print_table(arguments: argparse.Namespace, rounds: list[dict[str, Seconds]]) -> None:
    images = len(load_dataset(configure(arguments, "none")).select("train"))
    print(
        f"{arguments.architecture}, {images:,} training images of 64 x 64, batches of 32; {os.cpu_count()} "
        f"processors, {platform.machine()}; {arguments.rounds} rounds of {arguments.epochs - 1} epochs each; "
        f"load average at the end {os.getloadavg()[0]:.1f}\n"
    )
    print("| an epoch of | wall s, fastest | × fit | × deterministic | CPU s | × fit | × deterministic |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, words in CONTENDERS.items():
        cells = [words]
        for which in (0, 1):
            ratios = (ratio(rounds, name, other, which) for other in ("fit", "fit-deterministic"))
            cells += [f"{summarize(rounds, name, which):.2f}", *(f"{value:.2f}" for value in ratios)]
        print("| " + " | ".join(cells) + " |")
    worst = max(ratio(rounds, name, "fit", which) for name in ("none", "xray") for which in (0, 1))
    print(
        f"\nAn epoch costs at most 1.15 times a bare fit's: {worst:.2f} ({'yes' if worst <= 1.15 else 'NO'})."
    )
    cost = ratio(rounds, "fit-deterministic", "fit", 1)
    print(f"Deterministic operations cost a bare fit {cost:.2f} times the processor time.")


def measure_augmentation(arguments: argparse.Namespace, rounds: list[dict[str, Seconds]]) -> None:
    """Augment an epoch's images alone, in this process, beside the epoch's processor time."""
    data = load_dataset(replace(configure(arguments, "none")))
    chosen = data.select("train")
    epoch = median(seconds for found in rounds for _, seconds in found["xray"])
    print("\n| policy | µs an image | share of an epoch's CPU |\n|---|---:|---:|")
    shares = []
    for name in ("light", "xray"):
        times = []
        for number in range(5):
            start = process_time()
            for batch in np.array_split(chosen, -(-len(chosen) // 32)):
                pixels = data.pixels[data.rows[batch]]
                augment_images(pixels, read_policy(name), indices=batch, seed=0, epoch=number)
            times.append(process_time() - start)
        shares.append(median(times) / epoch)
        print(f"| {name} | {median(times) / len(chosen) * 1e6:.0f} | {shares[-1]:.1%} |")
    print(f"\nAugmentation costs at most 15% of an epoch: {'yes' if max(shares) <= 0.15 else 'NO'}.")


if __name__ == "__main__":
    main()
