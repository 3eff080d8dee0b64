"""What `wetread.export` and `wetread.parity` take, in groups: one frozen dataclass for each.

Commands hand their options to these names, so a check here is a check of both.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from wetread.errors import ConfigError, UsageError
from wetread.evaluate.held_out import OperatingRequest
from wetread.export.description import NetworkDescription
from wetread.export.forms.labels_file import read_labels
from wetread.export.forms.network_files import NetworkSource
from wetread.export.judging import Gate
from wetread.export.options import ExportOptions, Progress
from wetread.export.owner_pipeline import Reference
from wetread.export.parity import MAX_FLIPS
from wetread.export.parity_certificate import check_name
from wetread.export.report import check_folder

Location = str | os.PathLike[str]
Numbers = float | Sequence[float]


@dataclass(frozen=True, kw_only=True)
class FormKeywords:
    """A RUN directory, or `keras`, a network of any form; the file, and how it is made: as `ExportOptions`.

    `max_flips` and `max_auc_change` are the `Gate` of int8 and float16.
    """

    run: Location | None = field(default=None, kw_only=False)
    output: Location = "model.onnx"
    keras: Location | None = None
    precision: str = "float32"
    calibration: Location | None = None
    with_activation: bool = False
    scope: Location | None = None
    sign: Location | None = None
    exact_integers: bool = False
    max_flips: float = Gate.max_flips
    max_auc_change: float = Gate.max_auc_change


@dataclass(frozen=True, kw_only=True)
class OperatingKeywords:
    """The threshold between two labels, chosen on a RUN's held-out images: as `OperatingRequest`."""

    threshold_rule: str | None = None
    prevalence: float | None = None
    temperature: float | str | None = None
    uncertain_band: str | None = None

    def request(self) -> OperatingRequest:
        """Return what to compute on the run's held-out images. Raises ConfigError."""
        number = float(self.temperature) if isinstance(self.temperature, int) else self.temperature
        return OperatingRequest(
            rule=self.threshold_rule, prevalence=self.prevalence, temperature=number, band=self.uncertain_band
        )


@dataclass(frozen=True, kw_only=True)
class NetworkKeywords:
    """How the pixels of a network that was trained without wetread were made: as `NetworkDescription`.

    `size`: the side of a square, or height and width. Numbers: one, or one for each channel.
    """

    labels: Sequence[str] | None = None
    positive: str | None = None
    threshold: float = 0.5
    scale: Numbers | None = None
    offset: Numbers | None = None
    mean: Numbers | None = None
    std: Numbers | None = None
    color: str | None = None
    resize: str | None = None
    size: int | tuple[int, int] | None = None
    head: str | None = None
    pipeline: str | None = None
    resize_kernel: str | None = None
    preprocessing: str | None = None


@dataclass(frozen=True, kw_only=True)
class SourceKeywords:
    """What belongs to a Keras network beside its file: as `NetworkSource`."""

    weights: Location | None = None
    custom: str | None = None
    output_name: str | None = None

    def name(self, path: Location) -> NetworkSource:
        """Return the network at a path, with what belongs to it."""
        return NetworkSource(
            path=path, weights=self.weights, custom=self.custom, output_name=self.output_name
        )


@dataclass(frozen=True, kw_only=True)
class ExportKeywords(SourceKeywords, NetworkKeywords, OperatingKeywords, FormKeywords):
    """What `wetread.export` takes. `project`: the Google Cloud project to bill."""

    project: str | None = None
    on_progress: Progress | None = None

    def __post_init__(self) -> None:
        for name in ("scale", "offset", "mean", "std"):
            object.__setattr__(self, name, _read_numbers(name, getattr(self, name)))
        if self.labels is not None:
            object.__setattr__(self, "labels", _read_labels("labels", self.labels))
        if (self.run is None) == (self.keras is None):
            raise UsageError("Give either a RUN or --keras NETWORK: one of them, not both or neither.")
        if self.keras is None:
            self._check_run()
        elif self._has(OperatingKeywords):
            raise UsageError(
                "--threshold-rule, --prevalence, --temperature and --uncertain-band cannot be used with "
                "--keras: they need the held-out predictions of a RUN. Give --threshold."
            )

    def _check_run(self) -> None:
        if self._has(SourceKeywords):
            raise UsageError(
                "--weights, --custom and --output-name belong to --keras: a RUN needs none of them."
            )
        if self._has(NetworkKeywords):
            raise UsageError(
                "--labels, --scale and the other options of --keras cannot be used with a RUN: its files "
                "already say how it was trained."
            )

    def _has(self, group: type[Any]) -> bool:
        """Whether a group of keywords has any that is not its default."""
        return any(getattr(self, one.name) != one.default for one in fields(group))

    def choose(self) -> ExportOptions:
        """Return how the file is made. Raises ConfigError."""
        return ExportOptions(
            precision=self.precision,
            calibration=self.calibration,
            gate=Gate(max_flips=self.max_flips, max_auc_change=self.max_auc_change),
            exact_integers=self.exact_integers,
            sign=self.sign,
            with_activation=self.with_activation,
            scope=self.scope,
            operating=self.request(),
            on_progress=self.on_progress,
        )

    def describe(self, options: ExportOptions) -> NetworkDescription:
        """Return the description of the network `keras`. Raises UsageError."""
        given = {one.name: getattr(self, one.name) for one in fields(NetworkKeywords)}
        size = (self.size, self.size) if isinstance(self.size, int) else self.size
        changed = {
            "labels": self.labels or _find_labels(self.keras or "", options),
            "offset": self.offset or (0.0,),
            "resize": self.resize or "stretch",
            "size": size,
        }
        return NetworkDescription(**(given | changed))


def _find_labels(keras: Location, options: ExportOptions) -> tuple[str, ...]:
    """The labels in a file beside the network, as Teachable Machine leaves it. Raises UsageError."""
    found = read_labels(keras)
    if found is None:
        raise UsageError(
            "--keras needs --labels A,B,..., in the order of the network's outputs: it has no labels.txt "
            "beside it."
        )
    options.tell(f"labels, in this order, from {found.path}: {', '.join(found.labels)}")
    return found.labels


def _read_labels(name: str, labels: Sequence[str]) -> tuple[str, ...]:
    if isinstance(labels, str):
        raise ConfigError(f"{name} must be a list of labels, not the one text {labels!r}.")
    return tuple(labels)


def _read_numbers(name: str, value: Numbers | None) -> tuple[float, ...] | None:
    """One number, or one for each channel, as a tuple. Raises ConfigError."""
    if value is None:
        return None
    try:
        return tuple(np.atleast_1d(np.asarray(value, np.float64)).tolist())
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name} must be a number, or one for each channel, not {value!r}.") from error


@dataclass(frozen=True, kw_only=True)
class ComparisonKeywords:
    """A RUN directory or a Keras network of any form, the models, and their limits: as `measure_parity`.

    `json`, `certificate`: files to write.
    """

    network: Location = field(kw_only=False)
    models: Location | Sequence[Location] = field(kw_only=False)
    images: Location | Sequence[Location]
    tolerance: float | None = None
    max_flips: float = MAX_FLIPS
    by_layer: bool = False
    json: Location | None = None
    certificate: Location | None = None
    reference: Reference | None = None
    expected_labels: Sequence[str] | None = None
    expected_scale: Numbers | None = None
    expected_resize: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "expected_scale", _read_numbers("expected_scale", self.expected_scale))
        if self.expected_labels is not None:
            _read_labels("expected_labels", self.expected_labels)
        if self.json is not None:
            check_folder(self.json)
        if self.certificate is not None:
            check_name(self.certificate)


@dataclass(frozen=True, kw_only=True)
class ParityKeywords(SourceKeywords, ComparisonKeywords):
    """What `wetread.parity` takes. `project`: the Google Cloud project to bill."""

    project: str | None = None
    on_progress: Callable[[int], object] | None = None
