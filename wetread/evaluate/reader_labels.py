"""Evaluate a model by readers' labels: reviews.csv compared with the rows of a scores file.

Readers look at some images and not at others, for example at doubtful ones first. So each labelled image is
weighted by the number of scored images, with about its probability, that it stands for. Where no reader
labelled any image, the metrics say nothing, and a note says so.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wetread.errors import DatasetError, SourceError, Status, UsageError
from wetread.evaluate.evaluation import DEFAULT_RESAMPLES
from wetread.evaluate.group_word import find_word
from wetread.evaluate.judged_images import JudgedImages
from wetread.evaluate.metrics import Metrics, Sample, measure_sample
from wetread.evaluate.model_of_scores import KnownModel, find_model
from wetread.evaluate.patients import DEFAULT_GROUP_REGEX, compile_group_regex, find_group
from wetread.evaluate.reviews import Review, read_reviews
from wetread.evaluate.strata import Stratum, count_strata, weigh
from wetread.runtime.model.spec import ModelSpec
from wetread.runtime.scoring.rows import encode_csv
from wetread.runtime.scoring.scores_file import ScoresFile

_ROUNDING = 1e-6  # by which a probability may be outside 0 to 1


@dataclass(frozen=True, kw_only=True)
class ReadersOptions:
    """The options of `wetread evaluate --reviews`.

    `model`: the model file, if no record beside the scores names it. The others as in `EvaluateOptions`.
    """

    reviews: str
    scores: str
    model: str | None = None
    group_regex: str = DEFAULT_GROUP_REGEX
    resamples: int = DEFAULT_RESAMPLES
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resamples < 0:
            raise UsageError(f"--resamples must be 0 or more, not {self.resamples}.")


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The result of evaluating a model by readers' labels.

    `metrics` are weighted; `plain` are those of the labelled images alone. `scored`: how many images have a
    score; `verdicts`: how many reviews of each kind; `unscored`: reviewed images whose row has no score.
    `images`: those with a score and a reader's label. `word`: what they are grouped by, such as 'patient' or
    'group'.
    """

    options: ReadersOptions
    model: KnownModel
    spec: ModelSpec
    metrics: Metrics
    plain: Metrics
    scored: int
    verdicts: dict[str, int]
    unscored: int
    strata: tuple[Stratum, ...]
    notes: tuple[str, ...]
    images: JudgedImages
    word: str

    @property
    def name(self) -> str:
        """The model's file name; 'unknown' if no record has it."""
        return PurePath(self.model.name).name or "unknown"

    @property
    def rows(self) -> tuple[tuple[Any, ...], ...]:
        """Path, label, p of each label, truth, group and weight of each image, as in predictions.csv."""
        return tuple(_list_rows(self.images))

    def to_dict(self) -> dict[str, Any]:
        """Return the content of metrics.json: no names of files, null for values that are not defined."""
        return {
            "model": {"name": PurePath(self.model.name).name, "digest": self.model.digest},
            "reviews": {"verdicts": self.verdicts, "unscored": self.unscored, "scored": self.scored},
            "strata": [asdict(stratum) for stratum in self.strata],
            "metrics": self.metrics.to_dict(),
            "unweighted": self.plain.to_dict(),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class _Scored:
    """The rows with a score: probabilities, float32 (N, K), and the row of each path.

    A path may have several rows, as `watch` writes them for a file that was replaced: the last one counts.
    """

    probabilities: NDArray[np.float32]
    places: dict[str, int]
    others: set[str]  # paths without a score


def judge_by_readers(options: ReadersOptions) -> Judgement:
    """Evaluate the model that made some scores by readers' labels.

    Raises SourceError, UsageError, and DatasetError if no image has a score and a label, or if the two files
    do not belong together.
    """
    file = ScoresFile(options.scores)
    file.find()
    model = find_model(file.read_head(), options.model)
    if model.spec is None:
        raise UsageError(
            f"There is no record beside {options.scores!r} of its model and threshold. Name the model that "
            "made these scores with --model."
        )
    scored = _read_scored(file, model.spec)
    reviews = read_reviews(options.reviews)
    labelled = _choose(reviews, scored, model.spec)
    return _judge(labelled, reviews, scored, model, options)


def _read_scored(file: ScoresFile, spec: ModelSpec) -> _Scored:
    names = [f"p_{label}" for label in spec.labels]
    latest: dict[str, list[float] | None] = {}
    for batch in file.read_new():
        missing = [name for name in names if name not in file.columns]
        if missing:
            raise SourceError(
                f"{file.path!r} has no column {missing[0]!r}. Name the model that made these scores with "
                "--model."
            )
        columns = [batch[file.columns.index(name)] for name in ("path", "status", *names)]
        for path, status, *texts in zip(*columns, strict=True):
            latest[path] = _read_values(texts, path, file.path) if status == Status.OK else None
    scored = {path: values for path, values in latest.items() if values is not None}
    return _Scored(
        np.array(list(scored.values()), np.float32).reshape(len(scored), len(names)),
        {path: place for place, path in enumerate(scored)},
        latest.keys() - scored.keys(),
    )


def _read_values(texts: Sequence[str], path: str, location: str) -> list[float]:
    """The probabilities of a row with the status ok. Raises SourceError."""
    try:
        values = [float(text) for text in texts]
    except ValueError:
        values = [math.nan]
    if not all(-_ROUNDING <= value <= 1 + _ROUNDING for value in values):
        raise SourceError(
            f"{location!r}: the row of {path!r} must have probabilities from 0 to 1, since its status is ok, "
            f"not {', '.join(map(repr, texts))}. Give the file as `wetread score` wrote it."
        )
    return values


def _choose(reviews: Sequence[Review], scored: _Scored, spec: ModelSpec) -> list[Review]:
    """Select the reviews with a label of images with a score. Raises DatasetError."""
    strange = [r for r in reviews if r.path not in scored.places and r.path not in scored.others]
    if strange:
        raise DatasetError(
            f"{len(strange):,} reviews are of images that are not in the scores file, such as "
            f"{strange[0].path!r}. Give the scores file that was reviewed."
        )
    labelled = [r for r in reviews if r.verdict.has_label and r.path in scored.places]
    unknown = sorted({r.label for r in labelled} - set(spec.labels))
    if unknown:
        raise DatasetError(
            f"The reviews have labels that the model lacks: {', '.join(unknown)}. Its labels are "
            f"{', '.join(spec.labels)}."
        )
    if not labelled:
        raise DatasetError(
            "No review has both a label and an image with a score. Give reviews with labels of these scores."
        )
    return labelled


def _judge(
    labelled: Sequence[Review],
    reviews: Sequence[Review],
    scored: _Scored,
    model: KnownModel,
    options: ReadersOptions,
) -> Judgement:
    spec = model.spec
    assert spec is not None
    places = np.array([scored.places[review.path] for review in labelled], np.intp)
    pattern = compile_group_regex(options.group_regex)
    images = JudgedImages(
        spec=spec,
        names=tuple(review.path for review in labelled),
        groups=tuple(find_group(review.path, pattern) for review in labelled),
        truth=np.array([spec.labels.index(review.label) for review in labelled], np.intp),
        probabilities=scored.probabilities[places],
        chosen=spec.decide(scored.probabilities[places]),
        weights=weigh(scored.probabilities, places, spec),
    )
    plain = Sample(probabilities=images.probabilities, truth=images.truth, groups=images.groups)
    strata = count_strata(scored.probabilities, places, spec)
    counts = Counter(str(review.verdict) for review in reviews)
    return Judgement(
        options=options,
        model=model,
        spec=spec,
        metrics=measure_sample(
            replace(plain, weights=images.weights), spec, resamples=options.resamples, seed=options.seed
        ),
        plain=measure_sample(plain, spec),
        scored=len(scored.probabilities),
        verdicts=dict(sorted(counts.items())),
        unscored=sum(review.path in scored.others for review in reviews),
        strata=strata,
        notes=tuple(_find_notes(reviews, strata, spec)),
        images=images,
        word=find_word(options.group_regex, images.names, spec=spec),
    )


def _list_rows(images: JudgedImages) -> list[tuple[Any, ...]]:
    labels, weights = images.spec.labels, images.weights
    assert weights is not None
    return [
        (name, labels[chosen], *map(str, p), labels[truth], group, f"{weight:.6g}")
        for name, chosen, p, truth, group, weight in zip(
            images.names,
            images.chosen,
            images.probabilities,
            images.truth,
            images.groups,
            weights,
            strict=True,
        )
    ]


def _find_notes(reviews: Sequence[Review], strata: Sequence[Stratum], spec: ModelSpec) -> list[str]:
    """List cautions about the metrics."""
    name = spec.positive or "the chosen label"
    labelled, scored = (sum(getattr(s, kind) for s in strata) for kind in ("labelled", "scored"))
    notes = [_describe_selection(labelled, scored, name)]
    unseen = [stratum for stratum in strata if not stratum.labelled]
    if unseen:
        where = ", ".join(f"{s.low:g} to {s.high:g}" for s in unseen)
        notes.append(
            f"No reader gave a label to any of the {sum(s.scored for s in unseen):,} images with {name} from "
            f"{where}: the metrics say nothing about them."
        )
    silent = sum(not review.verdict.has_label for review in reviews)
    if silent:
        notes.append(
            f"{silent:,} images were marked unsure or unusable and are left out: the metrics are of "
            "easier images."
        )
    seen = sum(review.blind is False for review in reviews)
    if seen:
        notes.append(
            f"{seen:,} of {len(reviews):,} reviews were made with the model's answer in view, which "
            "influences readers. Use `wetread review --blind` for an unbiased evaluation."
        )
    return notes


def _describe_selection(labelled: int, scored: int, name: str) -> str:
    if labelled == scored:
        return f"All {scored:,} scored images have a reader's label, so no weights are needed."
    return (
        f"{labelled:,} of {scored:,} scored images have a reader's label. Each is weighted by the number of "
        f"scored images that it stands for: those with {name} in the same tenth of 0 to 1. Within a tenth, "
        "the labelled images are assumed to be a random sample."
    )


def encode_rows(found: Judgement) -> bytes:
    """Write predictions.csv: the images with a score and a reader's label."""
    labels = [f"p_{label}" for label in found.spec.labels]
    return encode_csv([["path", "label", *labels, "truth", "patient", "weight"], *found.rows])
