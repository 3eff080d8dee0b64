"""Swap labels of some images and see how many of them learned_last.csv lists first.

    python benchmarks/wrong_labels.py [--data FOLDER] [--images 400] [--wrong 20] [--seeds 3]

FOLDER/<label>/* are taken in equal parts, `--wrong` of them get another label, and `wetread train` with its
defaults trains on them. Of N swapped images that trained, how many are among the first N of the list, and
among the first 2 N? By chance N * N / images would be. The area under the ROC curve is of the list's losses:
0.5 by chance.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import tempfile
from pathlib import Path
from statistics import mean

import numpy as np
from sklearn.metrics import roc_auc_score

from wetread.train.config import TrainConfig
from wetread.train.fit import train
from wetread.train.learned_last import LEARNED_LAST

DEFAULT_DATA = Path(os.environ.get("WETREAD_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA / "chest-xray-224")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--wrong", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    found = []
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory(prefix="wetread-wrong-") as scratch:
            swapped = plant(arguments.data, Path(scratch) / "data", arguments, seed=seed)
            rows = train_and_list(Path(scratch), seed=seed)
        found.append(judge(rows, swapped))
        print(f"seed {seed}: {describe(found[-1])}", flush=True)
    print(f"mean: {describe({name: mean(one[name] for one in found) for name in found[0]})}")


def plant(source: Path, folder: Path, arguments: argparse.Namespace, *, seed: int) -> set[str]:
    """Link images into FOLDER/<label>, some under another label; return the names of those."""
    chance = random.Random(seed)
    labels = sorted(path.name for path in source.iterdir() if path.is_dir())
    chosen = []
    for label in labels:
        images = sorted(path for path in (source / label).rglob("*") if path.is_file())
        chosen += [(path, label) for path in chance.sample(images, arguments.images // len(labels))]
    wrong = set(chance.sample(range(len(chosen)), arguments.wrong))
    swapped = set()
    for number, (path, label) in enumerate(chosen):
        given = chance.choice([other for other in labels if other != label]) if number in wrong else label
        place = folder / given / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(path)
        if number in wrong:
            swapped.add(f"{given}/{path.name}")
    return swapped


def train_and_list(scratch: Path, *, seed: int) -> list[dict[str, str]]:
    """Train with the defaults; return the rows of the list."""
    result = train(TrainConfig(data=str(scratch / "data"), output=str(scratch / "run"), seed=seed))
    with (Path(result.run) / LEARNED_LAST).open(newline="") as file:
        return list(csv.DictReader(file))


def judge(rows: list[dict[str, str]], swapped: set[str]) -> dict[str, float]:
    """Count the swapped images that trained, those among the first rows, and the area under the curve."""
    hits = np.array([row["path"] in swapped for row in rows])
    count = int(hits.sum())
    losses = np.array([float(row["loss"]) for row in rows])
    return {
        "images": len(rows),
        "swapped": count,
        "first": int(hits[:count].sum()),
        "twice": int(hits[: 2 * count].sum()),
        "auc": float(roc_auc_score(hits, losses)),
    }


def describe(found: dict[str, float]) -> str:
    chance = found["swapped"] ** 2 / found["images"]
    return (
        f"{found['swapped']:.3g} of {found['images']:.4g} labels are swapped: {found['first']:.3g} of them "
        f"are among as many first rows (by chance {chance:.1f}), {found['twice']:.3g} among twice as many; "
        f"area under the curve {found['auc']:.3f}"
    )


if __name__ == "__main__":
    main()
