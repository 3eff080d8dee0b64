"""`wetread.evaluate` and `wetread.evaluate_by_readers`: the command `evaluate` as functions."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory

from wetread.errors import UsageError
from wetread.evaluate.evaluation import DEFAULT_RESAMPLES, EvaluateOptions, Evaluation
from wetread.evaluate.evaluation import evaluate as judge
from wetread.evaluate.outputs import (
    FILES,
    METRICS,
    PREDICTIONS,
    REPORT,
    check_output,
    write_judgement,
    write_outputs,
)
from wetread.evaluate.patients import DEFAULT_GROUP_REGEX
from wetread.evaluate.reader_labels import Judgement, ReadersOptions, judge_by_readers
from wetread.evaluate.scores import OnProgress
from wetread.keyword_functions import take_fields
from wetread.runtime.entries import is_bucket_location
from wetread.runtime.gcs.billing import bill_project
from wetread.runtime.gcs.bucket_folder import RUN_FILES, stage_folder
from wetread.runtime.model.packaged import choose_model
from wetread.runtime.scoring.classifier import Classifier
from wetread.runtime.scoring.scores_file import stage_scores

Location = str | os.PathLike[str]
READERS_FILES = (METRICS, PREDICTIONS, REPORT)


@dataclass(frozen=True, kw_only=True)
class EvaluateKeywords:
    """What `wetread.evaluate` takes; the first group as `EvaluateOptions`.

    `model`: the file, by default the packaged one; `compare`: a second one. `output`: a folder for
    metrics.json, predictions.csv and report.html, with the images themselves if `thumbnails`. `project`: the
    Google Cloud project to bill.
    """

    data: Location = field(kw_only=False)
    split: str | None = None
    run: Location | None = None
    group_regex: str | None = None
    resamples: int = DEFAULT_RESAMPLES
    seed: int = 0
    workers: int | None = None

    model: Location | None = None
    device: str = "auto"
    public_key: Location | None = None
    compare: Location | None = None
    output: Location | None = None
    thumbnails: bool = False
    overwrite: bool = False
    project: str | None = None
    on_progress: OnProgress | None = None

    def choose(self, run: str) -> EvaluateOptions:
        """Return what is judged, and how. `run`: where the run's directory is on this disk, or ''."""
        return EvaluateOptions(
            data=os.fspath(self.data),
            split=self.split,
            run=run or None,
            group_regex=self.group_regex,
            resamples=self.resamples,
            seed=self.seed,
            workers=self.workers,
        )

    def load(self, model: Location | None) -> Classifier:
        """Load a model on the device. Raises ModelError and ProviderError."""
        return Classifier(choose_model(model), device=self.device, public_key=self.public_key)


@take_fields(EvaluateKeywords)
def evaluate(keywords: EvaluateKeywords) -> Evaluation:
    """Evaluate a model file on labelled folders, as the command `evaluate` does. TensorFlow is not needed.

        found = wetread.evaluate("DATA", model="model.onnx")
        found.metrics.auc, found.metrics.intervals["auc"]

    An image without a score is counted in `unscored`, and is part of no metric. `on_progress` is called with
    the number of images done and of all images. Raises UsageError, ConfigError, SourceError, DatasetError,
    ModelError, ProviderError and OutputError.
    """
    output = keywords.output
    if output is None and (keywords.thumbnails or keywords.overwrite):
        raise UsageError("--thumbnails and --overwrite need --output DIR: without it no file is written.")
    with (
        bill_project(keywords.project),
        stage_folder(keywords.run or "", names=RUN_FILES) as trained,
        stage_folder(output or "", names=FILES) as place,
    ):
        options = keywords.choose(trained.folder)
        if output is not None:
            check_output(place.folder, overwrite=keywords.overwrite)
        other = None if keywords.compare is None else keywords.load(keywords.compare)
        model = keywords.load(keywords.model)
        found = judge(model, options, other=other, on_progress=keywords.on_progress)
        if output is not None:
            write_outputs(found, place.folder, thumbnails=keywords.thumbnails)
            place.publish()
    return found


@dataclass(frozen=True, kw_only=True)
class ReadersKeywords:
    """What `wetread.evaluate_by_readers` takes; the first group as `ReadersOptions`.

    `output`: a folder for metrics.json, predictions.csv and report.html. `project`: the Google Cloud project
    to bill.
    """

    reviews: Location = field(kw_only=False)
    scores: Location
    model: Location | None = None
    group_regex: str | None = None
    resamples: int = DEFAULT_RESAMPLES
    seed: int = 0

    output: Location | None = None
    overwrite: bool = False
    project: str | None = None

    def choose(self, scores: str) -> ReadersOptions:
        """Return what is judged by whom. `scores`: where the scores are on this disk."""
        return ReadersOptions(
            reviews=os.fspath(self.reviews),
            scores=scores,
            model=None if self.model is None else os.fspath(self.model),
            group_regex=self.group_regex or DEFAULT_GROUP_REGEX,
            resamples=self.resamples,
            seed=self.seed,
        )


@take_fields(ReadersKeywords)
def evaluate_by_readers(keywords: ReadersKeywords) -> Judgement:
    """Evaluate the rows of a scores file by what readers said, as `evaluate --reviews` does.

        found = wetread.evaluate_by_readers("reviews.csv", scores="scores.csv")

    Raises UsageError, SourceError, DatasetError, ModelError and OutputError.
    """
    output, scores = keywords.output, os.fspath(keywords.scores)
    if output is None and keywords.overwrite:
        raise UsageError("--overwrite needs --output DIR.")
    with (
        bill_project(keywords.project),
        stage_folder(output or "", names=READERS_FILES) as place,
        ExitStack() as passing,
    ):
        if output is not None:
            check_output(place.folder, overwrite=keywords.overwrite)
        if is_bucket_location(scores):
            folder = passing.enter_context(TemporaryDirectory(prefix="wetread-"))
            scores = stage_scores(scores, folder)
        found = judge_by_readers(keywords.choose(scores))
        if output is not None:
            write_judgement(found, place.folder)
            place.publish()
    return found
