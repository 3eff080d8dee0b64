"""What a comparison of ONNX files with Keras found, as data, as a table and as text."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wetread.errors import ExportError
from wetread.export.assumptions import RUN, Terms
from wetread.export.flips import allow_flips, bound_share
from wetread.export.layer_by_layer import LIMITS, LayerDifference
from wetread.export.owner_comparison import Gap, OwnerReport, describe_owner
from wetread.runtime.entries import is_bucket_location
from wetread.runtime.files.atomic import write_file
from wetread.runtime.files.json_text import make_plain, write_record

_SHOWN_FLIPS = 20


@dataclass(frozen=True)
class Flip:
    """One image that a model labels otherwise than Keras does. `margin`: how near Keras was to that.

    `name`: its path below the folder that was given, which is the same wherever the folder stands. `label`:
    'no_answer' where the model has no probabilities for it; that is no near tie.
    """

    path: str
    name: str
    keras_label: str
    label: str
    keras_probability: float
    probability: float
    margin: float


@dataclass(frozen=True)
class ModelParity:
    """How one ONNX file compares with Keras.

    Differences are the largest of a probability of an image: `max`, `mean` and the 99.9th percentile over
    the images. `near_flips`: flips of images on which Keras is within 0.02 of deciding otherwise.
    `batch_difference`: between batches of 1, 7 and all images. `milliseconds`: per image, one thread.
    `outside`: images that are unlike the training images by the model's scope; `scope_flips`: those of which
    the first file with a scope says otherwise. None without one: Keras knows of no scope.
    """

    path: str
    digest: str
    precision: str
    size: int
    threshold: float
    max_difference: float
    mean_difference: float
    p999_difference: float
    flips: int
    near_flips: int
    batch_difference: float
    milliseconds: float
    passed: bool
    flipped: tuple[Flip, ...] = ()
    outside: int | None = None
    scope_flips: int | None = None
    beside_owner: Gap | None = None


@dataclass(frozen=True)
class ParityReport:
    """What `measure_parity` found: the network, the images, and one ModelParity for each ONNX file.

    `owner`: what the owner's own code answered, if it was asked. `contradictions`: what of the files is not
    as it was expected. `doubts`: what looks wrong, and nothing proves. `trusted`: what only the files say.
    """

    reference: str
    reference_sha256: str
    images: int
    failures: tuple[str, ...]
    listing_sha256: str
    terms: Terms
    tolerance: float
    max_flips: float
    keras_milliseconds: float
    keras_size: int
    models: tuple[ModelParity, ...]
    layers: tuple[LayerDifference, ...]
    machine: str
    versions: dict[str, str]
    owner: OwnerReport | None = None
    contradictions: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    trusted: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every model holds its tolerance, and the owner's way too, and nothing is contradicted."""
        owner = self.owner is None or self.owner.passed
        return all(model.passed for model in self.models) and owner and not self.contradictions

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON takes it: None stands for NaN and infinity."""
        found: dict[str, Any] = make_plain(dataclasses.asdict(self))
        return {**found, "passed": self.passed}


def tabulate(report: ParityReport) -> list[list[str]]:
    """The report as rows of a table, the first of them its header, the second Keras."""
    header = [
        "model",
        "max |dp|",
        "mean |dp|",
        "99.9%",
        "flips",
        "near",
        "batches",
        "ms/image",
        "kB",
        "holds",
    ]
    keras = [
        report.reference,
        *["-"] * 6,
        f"{report.keras_milliseconds:.3f}",
        f"{report.keras_size / 1e3:.0f}",
        "-",
    ]
    rows = [
        [
            f"{model.path} ({model.precision})",
            f"{model.max_difference:.1e}",
            f"{model.mean_difference:.1e}",
            f"{model.p999_difference:.1e}",
            f"{model.flips} of {report.images}",
            str(model.near_flips),
            f"{model.batch_difference:.1e}",
            f"{model.milliseconds:.3f}",
            f"{model.size / 1e3:.0f}",
            "yes" if model.passed else "NO",
        ]
        for model in report.models
    ]
    return [header, keras, *rows]


def describe_report(report: ParityReport) -> str:
    """The report as plain text: the table, then the images whose labels flip, then what departs first."""
    rows = tabulate(report)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    lines.append(
        f"{report.images} images, {len(report.failures)} without pixels; tolerance {report.tolerance:g} for "
        f"float32, at most {report.max_flips:.2%} flips besides near ties, "
        f"{max(allow_flips(report.images, report.max_flips), 0)} of so many; {report.machine}"
    )
    lines += [_describe_flips(model, report) for model in report.models if model.precision != "float32"]
    lines += _describe_terms(report)
    lines += [
        f"scope of {model.path}: {model.outside} of {report.images} outside, {model.scope_flips} otherwise "
        "than by the first file with a scope"
        for model in report.models
        if model.outside is not None
    ]
    for model in report.models:
        lines += [
            f"flip in {model.path}: {flip.path}: {flip.keras_label} -> {flip.label} "
            f"(of {flip.label}: {flip.keras_probability:.4f} -> {flip.probability:.4f})"
            for flip in model.flipped[:_SHOWN_FLIPS]
        ]
        if model.flips > _SHOWN_FLIPS:
            lines.append(f"flip in {model.path}: and {model.flips - _SHOWN_FLIPS} more")
    return "\n".join([*lines, *_describe_layers(report)])


def _describe_flips(model: ModelParity, report: ParityReport) -> str:
    """What the flips of these images say of others: of few images little, whether the file holds or not."""
    count = model.flips - model.near_flips
    low, high = bound_share(count, report.images)
    text = (
        f"{model.path}: {count} labels flip besides near ties, {low:.1%} to {high:.1%} of such images, at 95%"
    )
    if low <= report.max_flips < high:
        text += f"; these images do not show whether that is below {report.max_flips:.2%}"
    return text


def _describe_terms(report: ParityReport) -> list[str]:
    """Who says what labels and pixels are: a RUN, the owner's code, or nobody but the file itself."""
    lines = [] if report.owner is None else describe_owner(report.owner)
    for model in report.models:
        if (gap := model.beside_owner) is not None:
            lines.append(
                f"{model.path} beside it: off by {gap.p99_difference:.1e} for 99% of the images, "
                f"{gap.max_difference:.1e} at most; {gap.flips} labels differ, {gap.near_flips} more by "
                f"rounding: {'holds' if gap.passed else 'DOES NOT HOLD'}"
            )
    lines += [f"NOT AS EXPECTED: {text}" for text in report.contradictions]
    lines += [f"doubt: {text}" for text in report.doubts]
    if report.terms.source == RUN:
        lines.append(
            f"labels, pixels, scale, offset and head are those of {report.reference.rstrip('/')}/spec.json"
        )
    elif report.trusted:
        lines.append(
            f"taken from {report.terms.source} on trust, as nothing else says it: "
            f"{'; '.join(report.trusted)}. A RUN would say it; so do --reference, --expected-labels, "
            "--expected-scale, --expected-resize"
        )
    return lines


def _describe_layers(report: ParityReport) -> list[str]:
    """For each model whose layers were compared: the first that departs, or that none does."""
    lines = []
    for model in report.models:
        layers = [layer for layer in report.layers if layer.model == model.path]
        first = next((layer for layer in layers if layer.departs), None)
        if first is not None:
            lines.append(
                f"first layer that departs in {model.path}: {first.layer} ({first.kind}), off by "
                f"{first.relative:.2g} of its output, more than {LIMITS[model.precision]:g}"
            )
        elif layers:
            worst = max(layers, key=lambda layer: layer.relative)
            lines.append(
                f"no layer departs in {model.path}: {len(layers)} compared, the most is {worst.relative:.2g} "
                f"of its output, in {worst.layer}"
            )
    return lines


def tabulate_layers(report: ParityReport) -> list[list[str]]:
    """Every layer's error beside its output, as rows of a table with a column for each model.

    '-' where the export merged the layer into another; '!' after what departs.
    """
    cells = {
        (found.layer, found.model): f"{found.relative:.1e}{' !' if found.departs else ''}"
        for found in report.layers
    }
    layers = {found.layer: found.kind for found in report.layers}
    paths = [model.path for model in report.models]
    rows = [[name, kind, *(cells.get((name, path), "-") for path in paths)] for name, kind in layers.items()]
    return [["layer", "kind", *(Path(path).name for path in paths)], *rows]


def check_folder(path: str | os.PathLike[str]) -> None:
    """Before the work: is the folder there in which a file is to be written? Raises ExportError."""
    if not is_bucket_location(path) and not Path(path).absolute().parent.is_dir():
        raise ExportError(f"The folder of {os.fspath(path)} does not exist.")


def write_report(report: ParityReport, path: str | os.PathLike[str]) -> None:
    """Write all of a report as JSON. Raises ExportError."""
    try:
        write_file(path, write_record(report.to_dict()).encode())
    except OSError as error:
        raise ExportError(f"{os.fspath(path)} cannot be written: {error.strerror}.") from error
