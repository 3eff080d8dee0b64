"""`wetread.train`: the command as a function."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from wetread.evaluate.patients import DEFAULT_GROUP_REGEX
from wetread.keyword_functions import take_fields
from wetread.runtime.gcs.billing import bill_project
from wetread.train.config import BY_DATA, LABELS, VIEWS, TrainConfig, join_teachers
from wetread.train.events import OnEvent, ignore_event
from wetread.train.fit import TrainResult
from wetread.train.fit import train as fit
from wetread.train.label_weights import write_weights
from wetread.train.learning_rate import RateSearch, search_rate
from wetread.train.pretraining import PretrainResult
from wetread.train.pretraining import pretrain as learn_views

Location = str | os.PathLike[str]
_LOCATIONS = ("data", "output", "labels", "weights", "augment")


@dataclass(frozen=True, kw_only=True)
class TrainKeywords(TrainConfig):
    """What `wetread.train` takes: the fields of a TrainConfig, and what a run does not save.

    `teacher`: also a sequence of names. `resume`: continue a run that was interrupted. `project`: the Google
    Cloud project to bill.
    """

    data: Location = field(kw_only=False)  # type: ignore[assignment]
    output: Location  # type: ignore[assignment]
    class_weight: str | Mapping[str, float] = "balanced"  # type: ignore[assignment]
    teacher: Location | Sequence[Location] | None = None  # type: ignore[assignment]
    # These are no options of the command: a TrainConfig sets them.
    fold: int | None = field(default=None, init=False)
    cache: str | None = field(default=None, init=False)
    equalize: str = field(default="none", init=False)
    schedule: str = field(default="cosine", init=False)
    reasons: dict[str, str] = field(default_factory=dict, init=False)
    weights_digest: str | None = field(default=None, init=False)
    weights_objective: str | None = field(default=None, init=False)
    objective: str = field(default=LABELS, init=False)
    resume: bool = False
    project: str | None = None
    on_progress: OnEvent = ignore_event

    def __post_init__(self) -> None:
        for name in _LOCATIONS:
            if isinstance(value := getattr(self, name), os.PathLike):
                object.__setattr__(self, name, os.fspath(value))
        if isinstance(self.class_weight, Mapping):
            object.__setattr__(self, "class_weight", write_weights(self.class_weight))
        if not (self.teacher is None or isinstance(self.teacher, str)):
            names = [self.teacher] if isinstance(self.teacher, os.PathLike) else self.teacher
            object.__setattr__(self, "teacher", join_teachers(os.fspath(name) for name in names))
        super().__post_init__()

    def configure(self) -> TrainConfig:
        """Return what is saved with the run."""
        return TrainConfig(**{one.name: getattr(self, one.name) for one in fields(TrainConfig)})


@take_fields(TrainKeywords)
def train(keywords: TrainKeywords) -> TrainResult:
    """Train a network on labelled folders and leave a run directory, as the command `train` does.

        result = wetread.train("DATA", output="run", epochs=20)
        result.metrics["validation"]["auc"]

    The keywords are the command's options; `TrainConfig` describes them. An interrupted run continues with
    `resume=True`. `on_progress` is called with each event of `wetread.train.events`, whose `str` is a line.
    Raises ConfigError, DatasetError, SourceError, OutputError, MissingExtraError, and ModelError for a model
    file that cannot teach.
    """
    with bill_project(keywords.project):
        return fit(keywords.configure(), resume=keywords.resume, on_event=keywords.on_progress)


@dataclass(frozen=True, kw_only=True)
class PretrainKeywords:
    """What `wetread.pretrain` takes: fields of a TrainConfig, `resume` and `project` as in `train`."""

    data: Location = field(kw_only=False)
    output: Location
    preset: str | None = None
    labels: Location | None = None
    validation: float = 0.1
    group_regex: str = DEFAULT_GROUP_REGEX
    subset: int | None = None
    near_identical: bool = True
    size: int = BY_DATA
    color: str = BY_DATA
    resize: str = "stretch"
    augment: Location = BY_DATA
    architecture: str = BY_DATA
    epochs: int = BY_DATA
    batch_size: int = BY_DATA
    learning_rate: float = BY_DATA
    warmup: float = 0.0
    weight_decay: float = 1e-2
    seed: int = 0
    resume: bool = False
    project: str | None = None
    on_progress: OnEvent = ignore_event

    def configure(self) -> TrainConfig:
        """Return what is saved with the run."""
        left = ("resume", "project", "on_progress")
        values: dict[str, Any] = {
            one.name: getattr(self, one.name) for one in fields(self) if one.name not in left
        }
        paths = {name: os.fspath(value) for name, value in values.items() if isinstance(value, os.PathLike)}
        return TrainConfig(objective=VIEWS, **{**values, **paths})


@take_fields(PretrainKeywords)
def pretrain(keywords: PretrainKeywords) -> PretrainResult:
    """Train the body of a network without labels, as the command `pretrain` does.

        body = wetread.pretrain("DATA", output="body")
        wetread.train("DATA", output="run", weights=body.run)

    The keywords are the command's options; `TrainConfig` describes them. An interrupted run continues with
    `resume=True`. Raises ConfigError, DatasetError, SourceError, OutputError and MissingExtraError.
    """
    with bill_project(keywords.project):
        return learn_views(keywords.configure(), resume=keywords.resume, on_event=keywords.on_progress)


@dataclass(frozen=True, kw_only=True)
class RateKeywords(TrainKeywords):
    """What `wetread.find_learning_rate` takes: as `wetread.train`, but no learning rate and no `resume`."""

    learning_rate: float = field(default=BY_DATA, init=False)
    resume: bool = field(default=False, init=False)


@take_fields(RateKeywords)
def find_learning_rate(keywords: RateKeywords) -> RateSearch:
    """Suggest a learning rate for a run, as `train --find-learning-rate` does, and train no run.

        found = wetread.find_learning_rate("DATA", output="run")
        wetread.train("DATA", output="run", learning_rate=found.rate)

    The keywords are those of `train`. A picture and a table of the losses are left in the run directory.
    Raises as `train`, and ConfigError if the loss falls at no rate.
    """
    with bill_project(keywords.project):
        return search_rate(keywords.configure(), on_event=keywords.on_progress)
