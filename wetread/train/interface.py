"""`wetread.train`: the command as a function."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields

from wetread.keyword_functions import take_fields
from wetread.runtime.gcs.billing import bill_project
from wetread.train.config import TrainConfig
from wetread.train.events import OnEvent, ignore_event
from wetread.train.fit import TrainResult
from wetread.train.fit import train as fit

Location = str | os.PathLike[str]
_LOCATIONS = ("data", "output", "labels", "weights", "augment")


@dataclass(frozen=True, kw_only=True)
class TrainKeywords(TrainConfig):
    """What `wetread.train` takes: the fields of a TrainConfig, and what a run does not save.

    `resume`: continue a run that was interrupted. `project`: the Google Cloud project to bill.
    """

    data: Location = field(kw_only=False)  # type: ignore[assignment]
    output: Location  # type: ignore[assignment]
    # These are no options of the command: a TrainConfig sets them.
    fold: int | None = field(default=None, init=False)
    cache: str | None = field(default=None, init=False)
    equalize: str = field(default="none", init=False)
    schedule: str = field(default="cosine", init=False)
    reasons: dict[str, str] = field(default_factory=dict, init=False)
    weights_digest: str | None = field(default=None, init=False)
    resume: bool = False
    project: str | None = None
    on_progress: OnEvent = ignore_event

    def __post_init__(self) -> None:
        for name in _LOCATIONS:
            if isinstance(value := getattr(self, name), os.PathLike):
                object.__setattr__(self, name, os.fspath(value))
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
    Raises ConfigError, DatasetError, SourceError, OutputError and MissingExtraError.
    """
    with bill_project(keywords.project):
        return fit(keywords.configure(), resume=keywords.resume, on_event=keywords.on_progress)
