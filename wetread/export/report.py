"""What a comparison of ONNX files with Keras found, as data, as a table and as text."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from wetread.export.byparts import LayerDifference


@dataclass(frozen=True)
class Flip:
    """One image that a model labels otherwise than Keras does. `margin`: how near Keras was to that."""

    path: str
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
    """

    path: str
    digest: str
    precision: str
    size: int
    max_difference: float
    mean_difference: float
    p999_difference: float
    flips: int
    near_flips: int
    batch_difference: float
    milliseconds: float
    passed: bool
    flipped: tuple[Flip, ...] = ()


@dataclass(frozen=True)
class ParityReport:
    """What `measure_parity` found: the reference, the images, and one ModelParity for each ONNX file."""

    reference: str
    reference_sha256: str
    images: int
    failures: tuple[str, ...]
    listing_sha256: str
    tolerance: float
    max_flips: float
    keras_milliseconds: float
    keras_size: int
    models: tuple[ModelParity, ...]
    layers: tuple[LayerDifference, ...]
    machine: str
    versions: dict[str, str]

    @property
    def passed(self) -> bool:
        """Whether every model holds its tolerance."""
        return all(model.passed for model in self.models)

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON takes it."""
        return {**dataclasses.asdict(self), "passed": self.passed}


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
        f"float32, at most {report.max_flips:.2%} flips; {report.machine}"
    )
    for model in report.models:
        lines += [
            f"flip in {model.path}: {flip.path}: {flip.keras_label} -> {flip.label} "
            f"({flip.keras_probability:.4f} -> {flip.probability:.4f})"
            for flip in model.flipped
        ]
    departing = {layer.model: layer for layer in reversed(report.layers) if layer.departs}
    lines += [f"first layer that departs in {name}: {layer.layer}" for name, layer in departing.items()]
    return "\n".join(lines)
