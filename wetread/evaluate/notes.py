"""Cautions about the numbers of an evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from wetread.evaluate.exact_intervals import bound_exactly
from wetread.evaluate.labelled_folders import Image, Listing
from wetread.evaluate.metrics import Metrics
from wetread.evaluate.runs import Run
from wetread.evaluate.scores import Scores
from wetread.runtime.wording import pluralize

_LABELS = 3  # of many that are named
_NAMED = 12  # absent labels that are named one by one at most
_USED = {"train": "trained its network", "cal": "were set aside to fit its temperature and threshold"}


def note_data(
    scores: Scores, listing: Listing, *, split: str | None, run: Run | None, word: str
) -> list[str]:
    """Note labels without images, images that trained the model, and images without a score."""
    notes = []
    absent = [label for label in listing.labels if label not in {image.label for image in listing.images}]
    if absent:
        notes.append(
            f"No image of {_name_labels(absent, most=_NAMED)}: metrics that need one are not defined."
        )
    notes += _note_training(scores, listing, split=split, run=run, word=word)
    if scores.failures:
        notes.append(f"{scores.failures.total():,} images have no score and are left out of the metrics.")
    return notes


def _name_labels(labels: Sequence[str], *, most: int) -> str:
    """Name labels one by one, or the first of many and the number of the others."""
    if len(labels) <= most:
        return ", ".join(labels)
    return f"{', '.join(labels[:_LABELS])} and {len(labels) - _LABELS:,} more labels"


def _note_training(
    scores: Scores, listing: Listing, *, split: str | None, run: Run | None, word: str
) -> list[str]:
    notes = []
    trained = scores.spec.training.get("data")
    if trained is not None and trained == scores.fingerprint():
        notes.append(
            f"The model was trained on these images: the numbers say nothing about new {pluralize(word)}. "
            f"Evaluate with --split val --run RUN, or on images of other {pluralize(word)}."
        )
    if run is not None and trained is not None and run.data not in (None, trained):
        notes.append(
            "The model was not trained on the data of this RUN: its split does not show which of these "
            f"{pluralize(word)} the model was trained on."
        )
    if split == "train":
        notes.append(
            f"The model was trained on these images: the numbers say nothing about new {pluralize(word)}."
        )
    elif run is not None:
        notes += _note_known(listing, run, word)
    return notes


def _note_known(listing: Listing, run: Run, word: str) -> list[str]:
    """Count the images that a run used in training, by the names in its splits.csv."""
    sides = Counter(run.splits[image.name].split for image in listing.images if image.name in run.splits)
    if run.splits and not sides:
        return [
            f"By their names below {listing.root} none of these images is in splits.csv of the RUN: if they "
            "are the ones that trained it, name the same DATA as then, and --split."
        ]
    return [
        f"By splits.csv of the RUN, {sides[side]:,} of these {len(listing.images):,} images {what} ({side}): "
        f"the numbers are too good for new {pluralize(word)}. Evaluate with --split val."
        for side, what in _USED.items()
        if sides[side]
    ]


def note_unmatched(images: Sequence[Image], groups: Sequence[str], *, word: str) -> list[str]:
    """Note how many images have no known patient: intervals by patient are then by image."""
    count = sum(image.name == group for image, group in zip(images, groups, strict=True))
    if not count:
        return []
    return [
        f"No {word} was found in the names of {count:,} of {len(images):,} images: each counts as one "
        f"{word}. If {pluralize(word)} have several images, the intervals are too narrow: give --group-regex."
    ]


def note_perfect_rates(scores: Scores, metrics: Metrics, *, word: str) -> list[str]:
    """Note how far a rate without a single error may still be off: a bootstrap does not show it."""
    truth, groups = scores.truth(scores.scored), scores.patients(scores.scored)
    counts = {}
    for column, label in enumerate(metrics.labels):
        count = len({group for group, own in zip(groups, truth, strict=True) if own == column})
        if count and metrics.per_label[label].sensitivity == 1:
            counts[label] = count
    if len(counts) > _LABELS:
        return [_note_many_rates(counts, word)]
    return [
        f"No image of {label} was missed, so its bootstrap interval has no width. By the exact 95% interval "
        f"over its {count:,} {pluralize(word)}, up to {1 - bound_exactly(1, count)[0]:.2%} may be missed."
        for label, count in counts.items()
    ]


def _note_many_rates(counts: dict[str, int], word: str) -> str:
    fewest = min(counts, key=lambda label: counts[label])
    bound = 1 - bound_exactly(1, counts[fewest])[0]
    return (
        f"No image of {_name_labels(list(counts), most=_LABELS)} was missed, so their bootstrap intervals "
        f"have no width. By the exact 95% interval over the "
        f"{counts[fewest]:,} {pluralize(word)} of {fewest}, the fewest, up to {bound:.2%} may be missed."
    )
