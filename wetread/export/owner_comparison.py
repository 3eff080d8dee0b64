"""A model file beside its owner's own way: how far apart they are, and what remains on trust."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wetread.export.assumptions import RUN, Terms
from wetread.export.expectations import Expectations
from wetread.export.owner_pipeline import Answers, Owner
from wetread.runtime.model.spec import ModelSpec

TOLERANCE, LARGEST, MAX_FLIPS = 1e-3, 0.02, 0.001
# A model's pixels are whole levels, TensorFlow's are any number, at most 0.53 apart: where that is all, it
# alone moves the probabilities of a small network so far (docs/guides/parity.md).
ROUNDED, ROUNDING = 2e-3, 0.531
# Levels of 255, the mean over one image: rounding to whole ones makes 0.25.
PIXELS_OFF = 0.6
_LISTED = 5


@dataclass(frozen=True)
class Gap:
    """How far probabilities are from the owner's, by the largest of each image, and how many labels differ.

    `flips` are of images further apart than 0.001; labels of nearer ones differ by rounding (`near_flips`).
    """

    max_difference: float
    p99_difference: float
    flips: int
    near_flips: int
    passed: bool


@dataclass(frozen=True)
class OwnerReport:
    """What the owner's code answered, beside Keras on the model file's own terms.

    `mean_off`, `largest_off`: how far its pixels are from the file's, at most, as a mean over an image and in
    one place; None where it shows none. `other_pixels`: some files whose pixels are others.
    """

    name: str
    gap: Gap
    mean_off: float | None
    largest_off: float | None
    other_count: int
    other_pixels: tuple[str, ...]
    passed: bool


def measure_gap(
    found: NDArray[np.floating], answers: Sequence[Answers], spec: ModelSpec, *, max_flips: float
) -> Gap:
    """Compare probabilities (N, K) with the owner's. int8 and float16 are judged by their flips alone."""
    owner = np.concatenate([one.probabilities for one in answers])
    difference = np.abs(found - owner).max(axis=1)
    other = spec.decide(found.astype(np.float32)) != spec.decide(owner.astype(np.float32))
    far = difference > TOLERANCE
    flips, near = int((other & far).sum()), int((other & ~far).sum())
    largest, p99 = float(difference.max()), float(np.quantile(difference, 0.99))
    tolerance = ROUNDED if _are_rounded(answers) else TOLERANCE
    close = spec.precision != "float32" or (p99 <= tolerance and largest <= LARGEST)
    return Gap(largest, p99, flips, near, passed=bool(close and flips <= max_flips * len(owner)))


def _are_rounded(answers: Sequence[Answers]) -> bool:
    """Whether the model's pixels are the owner's, which are no whole levels, rounded."""
    found = [one.largest for one in answers if one.largest is not None]
    return len(found) == len(answers) and 0 < max(float(one.max()) for one in found) <= ROUNDING


def report_owner(
    owner: Owner,
    answers: Sequence[Answers],
    keras: NDArray[np.float64],
    names: Sequence[str],
    spec: ModelSpec,
) -> OwnerReport:
    """Judge the owner's answers beside Keras' own on the file's terms, and its pixels beside the file's."""
    exact = replace(spec, precision="float32")
    gap = measure_gap(keras, answers, exact, max_flips=MAX_FLIPS)
    if answers[0].mean is None:
        return OwnerReport(owner.name, gap, None, None, 0, (), gap.passed)
    mean = np.concatenate([one.mean for one in answers if one.mean is not None])
    largest = np.concatenate([one.largest for one in answers if one.largest is not None])
    others = np.flatnonzero(mean > PIXELS_OFF)
    return OwnerReport(
        name=owner.name,
        gap=gap,
        mean_off=float(mean.max()),
        largest_off=float(largest.max()),
        other_count=len(others),
        other_pixels=tuple(names[index] for index in others[:_LISTED]),
        passed=gap.passed and not len(others),
    )


def list_trusted(
    terms: Terms, expected: Expectations, owner: Owner | None, *, labels_checked: bool, head_checked: bool
) -> tuple[str, ...]:
    """What of a model file nothing but the file itself says: a passing comparison does not prove it."""
    if terms.source == RUN:
        return ()
    parts = terms.describe_parts()
    trusted = []
    if not (labels_checked or expected.labels):
        trusted.append(parts["labels"])
    if owner is None and expected.resize is None:
        trusted.append(parts["pixels"])
    elif owner is None and ":" not in (expected.resize or ""):  # a loader's name says all of it
        trusted.append("all of the pixels but their resizing")
    if not (owner is not None and owner.scales):
        trusted.append(parts["scale"] if expected.scale is None else "the offset of the pixels")
        if terms.pixels.channels == 3:
            trusted.append(f"the order of colors, {terms.pixels.color}")
    if not (head_checked or (owner is not None and owner.whole)):
        trusted.append(parts["head"])
    return tuple(trusted)


def describe_owner(report: OwnerReport) -> list[str]:
    """What the owner's code answered, as lines of text."""
    gap = report.gap
    lines = [
        f"beside {report.name}, the owner's way, Keras on the file's terms is off by "
        f"{gap.p99_difference:.1e} for 99% of the images, {gap.max_difference:.1e} at most; {gap.flips} "
        f"labels differ, {gap.near_flips} more by rounding: {'holds' if gap.passed else 'DOES NOT HOLD'}"
    ]
    if report.mean_off is not None:
        lines.append(
            f"its pixels are off by {report.mean_off:.2f} of 255 in the mean of an image, "
            f"{report.largest_off:.2f} at most: {'holds' if not report.other_count else 'OTHER PIXELS'}"
        )
    if report.other_count:
        more = f" and {report.other_count - len(report.other_pixels)} more"
        shown = ", ".join(report.other_pixels)
        lines.append(f"other pixels in {shown}{more if report.other_count > _LISTED else ''}")
    return lines
