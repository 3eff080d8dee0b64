"""Judge a model file on labelled folders: choose the images, score them, measure, compare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

import numpy as np

from wetread.errors import DatasetError, UsageError
from wetread.evaluate.bounds import bound_exactly
from wetread.evaluate.certainty import describe_doubt, describe_temperature
from wetread.evaluate.comparison import Comparison, Contender, compare
from wetread.evaluate.listing import Image, Listing, list_judged
from wetread.evaluate.metrics import Metrics, measure
from wetread.evaluate.patients import DEFAULT_GROUP_REGEX, compile_group_regex, find_group
from wetread.evaluate.runs import Run, read_run
from wetread.evaluate.scope import describe_scope, note_scope
from wetread.evaluate.scores import OnProgress, Scores, score_images
from wetread.runtime.images.cache import list_caches
from wetread.runtime.scoring.classifier import Classifier

DEFAULT_RESAMPLES = 2000
DEFAULT_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """What `wetread evaluate` was asked for.

    `data`: DATA/<label>/* or DATA/{train,val,test}/<label>/*. `split`: the side to judge on; as splits.csv
    of the RUN directory `run` names it, or without `run` as the folder DATA/<split> is named.
    `group_regex` finds the patient in a name (default: the run's own, or that of `wetread train`).
    `resamples`: bootstrap samples of patients, 0 for no intervals, drawn from `seed`.
    """

    data: str
    split: str | None = None
    run: str | None = None
    group_regex: str | None = None
    resamples: int = DEFAULT_RESAMPLES
    seed: int = 0
    workers: int | None = None
    batch_size: int = DEFAULT_BATCH

    def __post_init__(self) -> None:
        if self.resamples < 0:
            raise UsageError(f"Expected --resamples of 0 or more. Received {self.resamples}.")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a model's answers on labelled images are worth.

    `strays`: files below DATA in no label's folder. `notes`: what a reader must know beside the numbers.
    `other`: the scores of the model that it was compared with.
    """

    options: EvaluateOptions
    model: str
    provider: str
    scores: Scores
    metrics: Metrics
    strays: tuple[str, ...]
    notes: tuple[str, ...]
    run: Run | None = None
    other: Scores | None = None
    comparison: Comparison | None = None

    @property
    def unscored(self) -> int:
        """The images without a score, of both models where two were compared."""
        return self.scores.failures.total() + (self.other.failures.total() if self.other else 0)

    def to_dict(self) -> dict[str, Any]:
        """Return what metrics.json holds: no names of files, null for what is not defined."""
        spec, options = self.scores.spec, self.options
        counts = Counter(image.label for image in self.scores.images)
        return {
            "model": {
                "name": self.model,
                "digest": spec.digest,
                "provider": self.provider,
                "precision": spec.precision,
                "labels": list(spec.labels),
                "positive": spec.positive,
                "threshold": spec.threshold,
                "threshold_rule": spec.threshold_rule,
                "training": spec.training,
            },
            "data": {
                "split": options.split,
                "images": len(self.scores.images),
                "labels": {label: counts[label] for label in spec.labels},
                "patients": len(set(self.scores.groups)),
                "unscored": dict(sorted(self.scores.failures.items())),
                "unlabelled": len(self.strays),
                "fingerprint": self.scores.fingerprint(),
            },
            "metrics": self.metrics.to_dict(),
            "calibration": describe_temperature(self.scores),
            "uncertain": describe_doubt(self.scores),
            "scope": describe_scope(self.scores),
            "bootstrap": {
                "by": "patient",
                "resamples": options.resamples,
                "seed": options.seed,
                "level": 0.95,
            },
            "comparison": None if self.comparison is None else self.comparison.to_dict(),
            "notes": list(self.notes),
        }


def evaluate(
    model: Classifier,
    options: EvaluateOptions,
    *,
    other: Classifier | None = None,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Judge a model on labelled images, and against another on those that both scored.

    An image without a score is counted, never judged. Raises SourceError, UsageError, ConfigError, and
    DatasetError when the folders do not fit the model or no image has a score.
    """
    run = None if options.run is None else read_run(options.run)
    listing = list_judged(options.data, labels=model.spec.labels)
    listing = replace(choose_images(listing, options, run), caches=list_caches(options.run))
    groups = find_groups(listing.images, options, run)
    scores = _score(model, listing, groups, options, on_progress)
    compared = None if other is None else _score(other, listing, groups, options, on_progress)
    scored = scores.scored
    metrics = measure(
        scores.probabilities(scored),
        scores.truth(scored),
        model.spec,
        groups=scores.patients(scored),
        resamples=options.resamples,
        seed=options.seed,
    )
    return Evaluation(
        options=options,
        model=PurePath(model.name).name,
        provider=model.provider,
        scores=scores,
        metrics=metrics,
        strays=listing.strays,
        notes=(
            *_find_notes(scores, listing, options, run),
            *_find_strangers(listing.images, groups),
            *_find_certainties(scores, metrics),
            *note_scope(scores),
        ),
        run=run,
        other=compared,
        comparison=None
        if compared is None or other is None
        else _compare(scores, compared, (model.name, other.name), options),
    )


def choose_images(listing: Listing, options: EvaluateOptions, run: Run | None) -> Listing:
    """Narrow a listing to the side that is to be judged. Raises DatasetError and UsageError."""
    parts = sorted({image.part for image in listing.images} - {""})
    if run is not None and options.split is not None:
        listing = _choose_by_run(listing, run, options.split)
    elif options.split is not None:
        if options.split not in parts:
            raise UsageError(
                f"Expected --split to name a folder of {options.data}: {', '.join(parts) or 'none'}; or "
                f"--run RUN, whose splits.csv says who is on which side. Received --split {options.split}."
            )
        listing = _narrow(listing, options.split)
    elif len(parts) > 1:
        raise DatasetError(
            f"Expected one folder of labels. Received {options.data} with {', '.join(parts)}. Point at one "
            f"of them, or choose it: --split {parts[-1]}."
        )
    if not listing.images:
        raise DatasetError(
            f"Expected images as DATA/<label>/*, labels {', '.join(listing.labels)}. Received "
            f"{options.data}, with {len(listing.strays):,} files, none of them in a label's folder."
        )
    return listing


def _narrow(listing: Listing, part: str) -> Listing:
    images = tuple(image for image in listing.images if image.part == part)
    strays = tuple(name for name in listing.strays if name.startswith(part + "/"))
    return replace(listing, images=images, strays=strays)


def _choose_by_run(listing: Listing, run: Run, split: str) -> Listing:
    """Take the files that splits.csv names for one side, all of them. Raises DatasetError and UsageError."""
    wanted = {name: row for name, row in run.splits.items() if row.split == split}
    if not wanted:
        raise UsageError(f"Expected --split to be one of {', '.join(run.sides)}. Received {split!r}.")
    images = tuple(image for image in listing.images if image.name in wanted)
    missing = sorted(wanted.keys() - {image.name for image in images})
    if missing:
        raise DatasetError(
            f"Expected the {len(wanted):,} images that {run.folder / 'splits.csv'} names as {split}. "
            f"Received DATA without {len(missing):,} of them, {missing[0]!r} among them. Point at the "
            "folder that the run was trained on."
        )
    moved = next((image for image in images if image.label != wanted[image.name].label), None)
    if moved is not None:
        raise DatasetError(
            f"Expected {moved.name!r} to be {wanted[moved.name].label}, as in the run. "
            f"Received {moved.label}."
        )
    return replace(listing, images=images, strays=())


def find_groups(images: Sequence[Image], options: EvaluateOptions, run: Run | None) -> list[str]:
    """Tell the patient of each image: as the run knows it, or by its name. Raises ConfigError."""
    known = {} if run is None or options.group_regex else run.splits
    default = DEFAULT_GROUP_REGEX if run is None else run.config.get("group_regex", DEFAULT_GROUP_REGEX)
    pattern = compile_group_regex(options.group_regex or default)
    return [
        known[image.name].group if image.name in known else find_group(image.name, pattern)
        for image in images
    ]


def _score(
    model: Classifier,
    listing: Listing,
    groups: Sequence[str],
    options: EvaluateOptions,
    on_progress: OnProgress | None,
) -> Scores:
    scores = score_images(
        model,
        listing,
        groups=groups,
        workers=options.workers,
        batch_size=options.batch_size,
        on_progress=on_progress,
    )
    if not len(scores.scored):
        found = ", ".join(f"{count:,} {status}" for status, count in sorted(scores.failures.items()))
        raise DatasetError(f"Expected images that can be read in {options.data}. Received {found}.")
    return scores


def _compare(mine: Scores, other: Scores, names: tuple[str, str], options: EvaluateOptions) -> Comparison:
    both = np.intersect1d(mine.scored, other.scored)
    if not len(both):
        raise DatasetError("Expected images that both models scored. Received none.")
    contenders = [
        Contender(name=PurePath(name).name, spec=scores.spec, probabilities=scores.probabilities(both))
        for name, scores in zip(names, (mine, other), strict=True)
    ]
    return compare(
        contenders[0],
        contenders[1],
        mine.truth(both),
        groups=mine.patients(both),
        resamples=options.resamples,
        seed=options.seed,
    )


def _find_notes(scores: Scores, listing: Listing, options: EvaluateOptions, run: Run | None) -> list[str]:
    """What makes the numbers mean less than they seem to."""
    notes = []
    trained = scores.spec.training.get("data")
    absent = [label for label in listing.labels if label not in {image.label for image in listing.images}]
    if absent:
        notes.append(f"No image of {', '.join(absent)}: what needs one is not defined.")
    if trained is not None and trained == scores.fingerprint():
        notes.append(
            "These are the images that the model was trained on: the numbers say nothing of new patients. "
            "Judge on --split val --run RUN, or on images of other patients."
        )
    if run is not None and trained is not None and run.data not in (None, trained):
        notes.append(
            "The model was not trained on the data of this RUN: its split does not say which of these "
            "patients the model knows."
        )
    if options.split == "train":
        notes.append("These images trained the model: the numbers say nothing of new patients.")
    elif run is not None:
        notes += _find_known(listing, run)
    if scores.failures:
        notes.append(f"{scores.failures.total():,} images have no score and are not judged.")
    return notes


_TAUGHT = {"train": "trained its network", "cal": "were set aside to fit its temperature and threshold"}


def _find_known(listing: Listing, run: Run) -> list[str]:
    """Count the images that a run learned from, by the names in its splits.csv."""
    sides = Counter(run.splits[image.name].split for image in listing.images if image.name in run.splits)
    return [
        f"By splits.csv of the RUN, {sides[side]:,} of these {len(listing.images):,} images {what} ({side}): "
        "the numbers say less of new patients than they seem to. Judge on --split val."
        for side, what in _TAUGHT.items()
        if sides[side]
    ]


def _find_strangers(images: Sequence[Image], groups: Sequence[str]) -> list[str]:
    """Say of how many images the patient is not known: an interval by patient is then one by image."""
    count = sum(image.name == group for image, group in zip(images, groups, strict=True))
    if not count:
        return []
    return [
        f"No patient was found in the names of {count:,} of {len(images):,} images: each counts as one. "
        "Where patients have several, the intervals are too narrow; say how names tell them: --group-regex."
    ]


def _find_certainties(scores: Scores, metrics: Metrics) -> list[str]:
    """Say how far a rate without a single error may still be off: a bootstrap draws no error from none."""
    truth, groups = scores.truth(scores.scored), scores.patients(scores.scored)
    notes = []
    for column, label in enumerate(metrics.labels):
        patients = len({group for group, own in zip(groups, truth, strict=True) if own == column})
        if patients and metrics.per_label[label].sensitivity == 1:
            notes.append(
                f"No image of {label} was missed, so the bootstrap sees no doubt there. By the exact 95% "
                f"interval over its {patients:,} patients, up to {1 - bound_exactly(1, patients)[0]:.2%} may "
                "be missed."
            )
    return notes
