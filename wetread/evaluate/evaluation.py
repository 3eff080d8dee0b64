"""Evaluate a model file on labelled folders: choose the images, score them, measure, compare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

import numpy as np

from wetread.errors import DatasetError, UsageError
from wetread.evaluate.calibration import describe_doubt, describe_temperature
from wetread.evaluate.comparison import Comparison, Contender, compare
from wetread.evaluate.group_word import find_word
from wetread.evaluate.labelled_folders import Image, Listing, list_judged
from wetread.evaluate.metrics import Metrics, measure
from wetread.evaluate.notes import note_data, note_perfect_rates, note_unmatched
from wetread.evaluate.patients import DEFAULT_GROUP_REGEX, PATIENT, compile_group_regex, find_group
from wetread.evaluate.runs import Run, read_run
from wetread.evaluate.scope import describe_scope, note_scope
from wetread.evaluate.scores import OnProgress, Scores, score_images
from wetread.runtime.images.cache import list_caches
from wetread.runtime.scoring.classifier import Classifier

DEFAULT_RESAMPLES = 2000
DEFAULT_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """The options of `wetread evaluate`.

    `data`: DATA/<label>/* or DATA/{train,val,test}/<label>/*. `split`: the split to evaluate on: a split in
    splits.csv of the RUN directory `run`, or, without `run`, the name of a folder DATA/<split>.
    `group_regex` finds the patient, or another group, in a name (default: the run's own, or that of
    `wetread train`). `resamples`: bootstrap samples of these groups, 0 for no intervals, drawn from `seed`.
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
            raise UsageError(f"--resamples must be 0 or more, not {self.resamples}.")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The result of evaluating a model on labelled images.

    `strays`: files below DATA that are in no label's folder. `notes`: cautions about the numbers. `other`:
    the scores of the model that it was compared with. `word`: what the images are grouped by, 'patient',
    'group', or a word of the regular expression's own.
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
    word: str = PATIENT

    @property
    def unscored(self) -> int:
        """The number of images without a score, of both models if two were compared."""
        return self.scores.failures.total() + (self.other.failures.total() if self.other else 0)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of metrics.json: no names of files, null for values that are not defined."""
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
                "by": self.word,
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
    """Evaluate a model on labelled images, and compare it with another on those that both scored.

    An image without a score is counted, but is part of no metric. Raises SourceError, UsageError,
    ConfigError, and DatasetError if the folders do not fit the model or no image has a score.
    """
    run = None if options.run is None else read_run(options.run)
    listing = list_judged(options.data, labels=model.spec.labels)
    listing = replace(choose_images(listing, options, run), caches=list_caches(options.run))
    groups = find_groups(listing.images, options, run)
    word = _find_word(listing.images, options, run, model)
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
            *note_data(scores, listing, split=options.split, run=run, word=word),
            *note_unmatched(listing.images, groups, word=word),
            *note_perfect_rates(scores, metrics, word=word),
            *note_scope(scores),
        ),
        run=run,
        other=compared,
        comparison=None
        if compared is None or other is None
        else _compare(scores, compared, (model.name, other.name), options),
        word=word,
    )


def choose_images(listing: Listing, options: EvaluateOptions, run: Run | None) -> Listing:
    """Narrow a listing to the split that is evaluated. Raises DatasetError and UsageError."""
    parts = sorted({image.part for image in listing.images} - {""})
    if run is not None and options.split is not None:
        listing = _choose_by_run(listing, run, options.split)
    elif options.split is not None:
        if options.split not in parts:
            raise UsageError(
                f"--split {options.split} is not a folder of {options.data}, which has "
                f"{', '.join(parts) or 'none'}. Name one of them, or give --run RUN for a split of that run."
            )
        listing = _narrow(listing, options.split)
    elif len(parts) > 1:
        raise DatasetError(
            f"{options.data} has several folders of labels: {', '.join(parts)}. Name one of them, or choose "
            f"it with --split {parts[-1]}."
        )
    if not listing.images:
        raise DatasetError(
            f"{options.data} has {len(listing.strays):,} files, none of them in a label's folder. Arrange "
            f"them as DATA/<label>/*, with the labels {', '.join(listing.labels)}."
        )
    return listing


def _narrow(listing: Listing, part: str) -> Listing:
    images = tuple(image for image in listing.images if image.part == part)
    strays = tuple(name for name in listing.strays if name.startswith(part + "/"))
    return replace(listing, images=images, strays=strays)


def _choose_by_run(listing: Listing, run: Run, split: str) -> Listing:
    """Choose the files of one split in splits.csv, all of them. Raises DatasetError and UsageError."""
    wanted = {name: row for name, row in run.splits.items() if row.split == split}
    if not wanted:
        raise UsageError(f"--split must be one of {', '.join(run.sides)}, not {split!r}.")
    images = tuple(image for image in listing.images if image.name in wanted)
    missing = sorted(wanted.keys() - {image.name for image in images})
    if missing:
        raise DatasetError(
            f"DATA lacks {len(missing):,} of the {len(wanted):,} images of {split} in "
            f"{run.folder / 'splits.csv'}, {missing[0]!r} among them. Name the folder that the run was "
            "trained on."
        )
    moved = next((image for image in images if image.label != wanted[image.name].label), None)
    if moved is not None:
        raise DatasetError(
            f"{moved.name!r} was {wanted[moved.name].label} in the run and is {moved.label} now. Move it "
            "back."
        )
    return replace(listing, images=images, strays=())


def find_groups(images: Sequence[Image], options: EvaluateOptions, run: Run | None) -> list[str]:
    """Find the patient or group of each image, in the run or in its name. Raises ConfigError."""
    known = {} if run is None or options.group_regex else run.splits
    pattern = compile_group_regex(_choose_pattern(options, run))
    return [
        known[image.name].group if image.name in known else find_group(image.name, pattern)
        for image in images
    ]


def _choose_pattern(options: EvaluateOptions, run: Run | None) -> str:
    default = DEFAULT_GROUP_REGEX if run is None else run.config.get("group_regex", DEFAULT_GROUP_REGEX)
    return str(options.group_regex or default)


def _find_word(images: Sequence[Image], options: EvaluateOptions, run: Run | None, model: Classifier) -> str:
    names = (image.name for image in images)
    return find_word(_choose_pattern(options, run), names, spec=model.spec, run=run)


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
        raise DatasetError(f"No image in {options.data} has a score: {found}.")
    return scores


def _compare(mine: Scores, other: Scores, names: tuple[str, str], options: EvaluateOptions) -> Comparison:
    both = np.intersect1d(mine.scored, other.scored)
    if not len(both):
        raise DatasetError("The models cannot be compared: no image was scored by both.")
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
