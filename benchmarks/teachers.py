"""Compare a small network that learned from a larger one's answers with the same one that learned alone.

    python benchmarks/teachers.py --work FOLDER [--data FOLDER] [--seeds 3] [--student stages-8-3-1-0.0]

For each seed the teacher is what `wetread train` chooses; both students are the small network, on the same
split by patient. They are judged on the validation patients, which decide nothing here:

    teacher    wetread train DATA --output TEACHER
    alone      wetread train DATA --output RUN --architecture STUDENT --epochs 30
    taught     wetread train DATA --output RUN --architecture STUDENT --epochs 30 --teacher TEACHER

Balanced accuracy and AUC; the interval of the difference is from a bootstrap of images, paired, within each
label and seed. The time is of an epoch, the median of all but the first, as a ratio within each seed. Killed,
it goes on where it was.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from photos import balance, find_interval

DEFAULT_DATA = Path(os.environ.get("WETREAD_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="runs go here")
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA / "chest-xray-224")
    parser.add_argument("--subset", type=int, default=2000)
    parser.add_argument("--validation", type=float, default=0.4)
    parser.add_argument("--student", default="stages-8-3-1-0.0")
    parser.add_argument("--epochs", type=int, default=30, help="of the students")
    parser.add_argument("--share", type=float, default=0.7)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    found = [run_seed(arguments, seed) for seed in range(arguments.seeds)]
    for contender in found[0]:
        print(f"{contender:8}{_list(balance(one[contender]) for one in found)}", end="")
        print(f"  AUC {_list(one[contender]['auc'] for one in found)}")
    apart = mean(balance(one["taught"]) - balance(one["alone"]) for one in found)
    low, high = find_interval(found, one="taught", other="alone")
    print(f"difference {apart:+.3f} (95% {low:+.3f} to {high:+.3f})")
    print(f"time of an epoch {_list(one['taught']['seconds'] / one['alone']['seconds'] for one in found)}")


def _list(values: Any) -> str:
    values = list(values)
    return f"{mean(values):.4f} ({', '.join(f'{value:.4f}' for value in values)})"


def run_seed(arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train the teacher and both students of a seed; return what they answered for its validation images."""
    work = arguments.work / f"seed-{seed}"
    common = {"seed": seed, "subset": arguments.subset, "validation": arguments.validation}
    small = {**common, "architecture": arguments.student, "epochs": arguments.epochs}
    taught = {
        "teacher": str(work / "teacher"),
        "teacher_share": arguments.share,
        "teacher_temperature": arguments.temperature,
    }
    name = f"{arguments.student}-{arguments.epochs}"
    told = f"taught-{name}-{arguments.share:g}-{arguments.temperature:g}"
    return {
        "teacher": judge(arguments.data, work / "teacher", common),
        "alone": judge(arguments.data, work / f"alone-{name}", small),
        "taught": judge(arguments.data, work / told, {**small, **taught}),
    }


def judge(data: Path, run: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Train one contender; return which validation images it has right, its AUC, and an epoch's seconds."""
    import wetread
    from wetread.keras_backend import import_keras
    from wetread.train.config import TrainConfig
    from wetread.train.dataset import load_dataset
    from wetread.train.network import predict_probabilities

    result = wetread.train(data, output=run, resume=run.is_dir(), **options)
    found = load_dataset(TrainConfig.from_json((run / "config.json").read_text(encoding="utf-8")))
    chosen = found.select("val")
    model = import_keras().models.load_model(run / "model.keras", compile=False)
    answers = result.spec.decide(predict_probabilities(model, found.pixels, found.rows[chosen]))
    return {
        "right": np.equal(answers, found.targets[chosen]).astype(int).tolist(),
        "truth": found.targets[chosen].tolist(),
        "auc": result.metrics["validation"]["auc"],
        "seconds": median(row["seconds"] for row in result.metrics["history"][1:]),
    }


if __name__ == "__main__":
    main()
