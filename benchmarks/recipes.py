"""Try a recipe for the packaged model: train a network as briefly as tells recipes apart, judge every shift.

    python benchmarks/recipes.py DATA --policy benchmarks/packaged.toml --stages 24 44 64
    python benchmarks/recipes.py DATA [--equalize histogram] [--kinds] [--mix 0.3] [--size 96]
    python benchmarks/recipes.py DATA --split series [--pretrain 30] [--known 0]

A fifth of the patients is kept from training and judges: those with the lowest numbers (`--split number`),
or a whole series of NORMAL images, the second or the first, beside every fifth patient with PNEUMONIA
(`--split series` or `first-series`: a NORMAL image is then of an acquisition that training never saw).
`--kinds` learns bacterial and viral apart, as the names tell them, and adds the two up; `--mix` is mixup's
alpha. `--pretrain`: epochs in which it first learns without labels, as `wetread pretrain` does. `--known 0`
(or `1`): the other half of the patients that judge is trained on as well, so that the acquisition is known.
docs/results/packaged-model.md says what came of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from make_model import SERIES, build_member, find_number
from shifts import SHIFTS
from sklearn.metrics import roc_auc_score

from wetread.evaluate.labelled_folders import list_images
from wetread.runtime.images.pixels import read_picture, resize
from wetread.runtime.images.recipe import PixelRecipe
from wetread.train.augment import Policy, augment_images, read_policy
from wetread.train.config import TrainConfig
from wetread.train.network import make_optimizer
from wetread.train.views import ViewLearner

FIFTH = 0.2
SPLITS = {"series": SERIES["second-series"], "first-series": SERIES["first-series"]}
RATE, DECAY, SMOOTHING, AVERAGE = 2e-3, 1e-2, 0.05, 0.995


@dataclass(frozen=True)
class Images:
    """Pictures at their own and at the network's size, truth, kind (0 NORMAL, 1, 2), and who judges."""

    pictures: list[np.ndarray]
    pixels: np.ndarray
    positive: np.ndarray
    kinds: np.ndarray
    judges: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", metavar="DATA")
    parser.add_argument("--policy", default="xray")
    parser.add_argument("--stages", type=int, nargs=3, default=(32, 64, 96))
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--equalize", choices=("none", "histogram"), default="none")
    parser.add_argument("--split", choices=("number", *SPLITS), default="number")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", action="store_true")
    parser.add_argument("--mix", type=float, default=0.0)
    parser.add_argument("--pretrain", type=int, default=0, metavar="EPOCHS")
    parser.add_argument("--known", type=int, choices=(0, 1))
    options = parser.parse_args()
    recipe = PixelRecipe(height=options.size, width=options.size, equalize=options.equalize)
    images = read_images(options.data, recipe, split=options.split, known=options.known)
    start = perf_counter()
    model = train(images, options)
    print(f"{model.count_params():,} parameters, {perf_counter() - start:.0f} s")
    judge(model, images, recipe)


def read_images(data: str, recipe: PixelRecipe, *, split: str, known: int | None = None) -> Images:
    listing = list_images(data)
    names = [image.name for image in listing.images]
    pictures = [read_picture(Path(image.entry.name).read_bytes(), recipe)[..., 0] for image in listing.images]
    numbers = [find_number(name) for name in names]
    series = np.array([kind for kind, _ in numbers])
    order = np.array([number for _, number in numbers])
    if split in SPLITS:
        normal, remainder = SPLITS[split]
        judges = (series == normal) | ((series == "person") & (order % 5 == remainder))
    else:
        last = {kind: np.quantile(order[series == kind], FIFTH) for kind in set(series)}
        judges = order <= np.array([last[kind] for kind in series])
    if known is not None:
        judges &= order // 5 % 2 == known
    positive = series == "person"
    kinds = np.where(positive, [1 + ("virus" in name) for name in names], 0)
    pixels = np.stack([resize(np.ascontiguousarray(picture)[..., None], recipe) for picture in pictures])
    return Images(pictures, pixels, positive, kinds, judges)


def train(images: Images, options: argparse.Namespace) -> Any:
    """AdamW along a cosine after a warm-up, labels weighed alike; keeps the average of the weights."""
    import keras

    keras.utils.set_random_seed(options.seed)
    model = build_member(
        (options.size, options.size, 1), 3 if options.kinds else 1, stages=tuple(options.stages)
    )
    chosen = np.flatnonzero(~images.judges)
    if options.pretrain:
        learn_views(model, images, chosen, options)
    steps = len(chosen) // 64
    rate = keras.optimizers.schedules.CosineDecay(
        RATE / steps, steps * (options.epochs - 1), warmup_target=RATE, warmup_steps=steps
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=DECAY)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    losses = keras.losses
    loss = losses.CategoricalCrossentropy if options.kinds else losses.BinaryCrossentropy
    model.compile(optimizer, loss(from_logits=True, label_smoothing=SMOOTHING))
    average, policy = model.get_weights(), read_policy(options.policy)
    for epoch in range(options.epochs):
        order = np.random.default_rng([options.seed, epoch]).permutation(chosen)
        for step in range(steps):
            rows = order[step * 64 : step * 64 + 64]
            model.train_on_batch(**make_batch(images, rows, policy, epoch=epoch, options=options))
            done = epoch * steps + step + 1
            kept = min(AVERAGE, (1 + done) / (10 + done))
            average = [kept * a + (1 - kept) * w for a, w in zip(average, model.get_weights(), strict=True)]
    model.set_weights(average)
    return model


def learn_views(model: Any, images: Images, chosen: np.ndarray, options: argparse.Namespace) -> None:
    """Train all but the last layer on pairs of views, 128 images at a time."""
    steps = len(chosen) // 128
    config = TrainConfig(
        data="DATA",
        output="RUN",
        epochs=options.pretrain,
        learning_rate=RATE,
        warmup=min(1.0, options.pretrain / 2),
    )
    learner = ViewLearner(model, optimizer=make_optimizer(config, steps=steps))
    policy, found = read_policy(options.policy), []
    for epoch in range(options.pretrain):
        order = np.random.default_rng([options.seed, epoch]).permutation(chosen)
        for step in range(steps):
            rows = order[step * 128 : step * 128 + 128]
            views = (
                augment_images(images.pixels[rows], policy, indices=rows, seed=options.seed, epoch=number)
                for number in (2 * epoch, 2 * epoch + 1)
            )
            found.append(learner.learn(*(view.astype(np.float32) / 255 for view in views)))
    loss, matched = np.mean(found[-steps:], axis=0)
    print(f"{options.pretrain} epochs without labels: loss {loss:.3f}, {matched:.1%} matched")


def make_batch(
    images: Images, rows: np.ndarray, policy: Policy, *, epoch: int, options: argparse.Namespace
) -> dict[str, np.ndarray]:
    pixels = augment_images(images.pixels[rows], policy, indices=rows, seed=options.seed, epoch=epoch)
    x = pixels.astype(np.float32) / 255
    y = images.positive[rows, None].astype(np.float32)
    shares = images.positive[~images.judges].mean()
    weights = np.where(images.positive[rows], 0.5 / shares, 0.5 / (1 - shares)).astype(np.float32)
    if options.kinds:
        y = np.eye(3, dtype=np.float32)[images.kinds[rows]]
    if options.mix:
        chance = np.random.default_rng([epoch, int(rows[0])])
        share = np.float32(chance.beta(options.mix, options.mix))
        others = chance.permutation(len(rows))
        x, y, weights = (share * a + (1 - share) * a[others] for a in (x, y, weights))
    return {"x": x, "y": y, "sample_weight": weights}


def judge(model: Any, images: Images, recipe: PixelRecipe) -> None:
    rows = np.flatnonzero(images.judges)
    truth, logits = images.positive[rows], {}
    for name, change in SHIFTS.items():
        logits[name] = score(model, [images.pictures[row] for row in rows], change, recipe)
    areas = {name: float(roc_auc_score(truth, values)) for name, values in logits.items()}
    balanced = [np.mean([(v[truth] >= 0).mean(), (v[~truth] < 0).mean()]) for v in logits.values()]
    pooled = roc_auc_score(np.tile(truth, len(logits)), np.concatenate(list(logits.values())))
    worst = min(areas, key=lambda name: areas[name])
    mean = float(np.mean(list(areas.values())))
    print(f"AUC {areas['as it is']:.4f}, worst {areas[worst]:.4f} ({worst}), mean {mean:.4f}, {pooled:.4f}")
    print(f"balanced accuracy {balanced[0]:.3f}, worst {min(balanced):.3f}, mean {np.mean(balanced):.3f}")


def score(
    model: Any, pictures: list[np.ndarray], change: Callable[[np.ndarray], np.ndarray], recipe: PixelRecipe
) -> np.ndarray:
    """The logit of PNEUMONIA for one version of the images, (N,)."""
    changed = [np.ascontiguousarray(change(picture))[..., None] for picture in pictures]
    pixels = np.stack([resize(picture, recipe) for picture in changed])
    parts = [
        model.predict_on_batch(pixels[at : at + 256] / np.float32(255)) for at in range(0, len(pixels), 256)
    ]
    logits = np.concatenate(parts)
    return logits[:, 0] if logits.shape[1] == 1 else np.logaddexp(logits[:, 1], logits[:, 2]) - logits[:, 0]


if __name__ == "__main__":
    main()
