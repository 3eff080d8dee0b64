"""Say after the first epochs that a network is no better than guessing, and what to try."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from wetread.train.batches import weigh_labels
from wetread.train.config import TrainConfig
from wetread.train.dataset import Dataset
from wetread.train.run import History

FIRST = 3  # epochs after which it is said
# One-sided 5%: a network that guesses is above it in one of twenty cases.
_BEYOND = 1.645
# A training loss below this share of the loss of guessing shows that something is learned.
_LEARNED = 0.8


def find_chance(history: History, data: Dataset, config: TrainConfig) -> str | None:
    """Say that a run is at chance level after its first epochs, and what to try; None if it is not.

    At chance level: neither the balanced accuracy nor the AUC of the last epoch is above what guessing stays
    below in 95% of cases, with so many validation images of each label. Said once, after `FIRST` epochs or
    all of them, whichever comes first, but not after a single one, nor where guessing on so few images may
    reach half the way to perfect.
    """
    if len(history) != max(2, min(FIRST, config.epochs)):
        return None
    counts = np.bincount(data.targets[data.select("val")], minlength=len(data.labels))
    row, labels = history[-1], len(counts)
    if limit_accuracy(counts) > (1 + 1 / labels) / 2:  # too few images to tell
        return None
    if row["val_balanced_accuracy"] > limit_accuracy(counts) or row["val_auc"] > limit_auc(counts):
        return None
    advice = "; ".join(_advise(row, data, config))
    return (
        f"after {len(history)} epochs the network is at chance level on validation: balanced accuracy "
        f"{row['val_balanced_accuracy']:.3f}, and guessing one of {labels} labels gives {1 / labels:.3f}. "
        f"What to try: {advice}"
    )


def limit_accuracy(counts: NDArray[np.intp]) -> float:
    """Return the balanced accuracy that guessing stays below in 95% of cases; `counts`: images by label."""
    labels = len(counts)
    chance = 1 / labels
    deviation = math.sqrt(float((chance * (1 - chance) / counts).sum())) / labels
    return chance + _BEYOND * deviation


def limit_auc(counts: NDArray[np.intp]) -> float:
    """Return the AUC, the mean of each label against the others, that guessing stays below in 95% of cases.

    The variance of one label's AUC is that of the Mann-Whitney statistic without ties. Of two labels both
    AUCs are one number. The mean of K varies most where one score orders the images, upwards for half of the
    labels and downwards for the others: by the root of 1 / (K - 1) of what one of them does.
    """
    others, labels = counts.sum() - counts, len(counts)
    variances = (counts.sum() + 1) / (12 * counts * others)
    return 0.5 + _BEYOND * math.sqrt(float(variances.mean()) / (labels - 1))


def _advise(row: dict[str, float], data: Dataset, config: TrainConfig) -> list[str]:
    """What to try, the likeliest first."""
    found = []
    if row["loss"] > _LEARNED * _guess_loss(data, config):
        rates = f"--learning-rate {config.learning_rate / 10:g} or {config.learning_rate * 10:g}"
        found.append(f"{rates}, since the training loss does not fall either")
        found += ["--augment none"] if config.augment != "none" else []
    else:
        found.append("more images or a stronger --augment: the network learns those it trains on by heart")
    if config.is_pretrained and config.freeze_epochs:
        found.append("--freeze-epochs 0, so that all layers train from the start")
    elif config.backbone is not None and not config.is_pretrained:
        found.append("--weights FILE, since so large a network learns little from nothing")
    if config.color == "gray" and data.colored[0]:
        found.append("--color rgb, since images are in colour")
    found.append(f"a --size above {config.size}, if details tell the labels apart")
    return [*found, "and see in splits.csv whether the labels are right"]


def _guess_loss(data: Dataset, config: TrainConfig) -> float:
    """The training loss of a network that gives every label the same probability."""
    weights = weigh_labels(data, config.class_weight)[data.targets[data.select("train")]]
    share = 1 / len(data.labels)
    focus = (1 - share) ** config.focal_gamma if config.loss == "focal" else 1.0
    return float(weights.mean()) * -math.log(share) * focus
