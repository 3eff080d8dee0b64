"""How far ONNX files are from Keras, and from their owner, on images that both saw."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from wetread.errors import Status
from wetread.export.flips import BAND, allow_flips, measure_margins
from wetread.export.owner_comparison import Gap, measure_gap
from wetread.export.predictions import BATCHES, Findings, classify
from wetread.export.report import Flip, ModelParity
from wetread.runtime.model.answers import are_probabilities
from wetread.runtime.model.spec import ModelSpec
from wetread.runtime.scoring.classifier import Classifier

_LISTED_FLIPS = 1000


def compare_all(
    classifiers: list[Classifier], *, found: Findings, limits: tuple[float, float]
) -> tuple[ModelParity, ...]:
    """Every model's figures, in the order of the files."""
    keras, count = np.concatenate(found.keras), len(found.names)
    models = []
    for classifier, parts, seconds in zip(classifiers, found.probabilities, found.seconds, strict=True):
        model = _compare(classifier, np.concatenate(parts), keras, found, limits)
        batches = _vary_batches(classifier, found.few)
        models.append(
            dataclasses.replace(model, milliseconds=seconds / count * 1e3, batch_difference=batches)
        )
    return _compare_scopes(models, found.outside, allow_flips(count, limits[1]))


def _compare_scopes(
    models: list[ModelParity], outside: list[list[NDArray[np.bool_]]], most: int
) -> tuple[ModelParity, ...]:
    """Compare what files say is outside with the first file that has a scope: at most `most` may differ."""
    first = next((np.concatenate(parts) for parts in outside if parts), None)
    compared = []
    for model, parts in zip(models, outside, strict=True):
        if first is not None and parts:
            here = np.concatenate(parts)
            flips = int((here != first).sum())
            passed = model.passed and flips <= most
            model = dataclasses.replace(model, outside=int(here.sum()), scope_flips=flips, passed=passed)
        compared.append(model)
    return tuple(compared)


def _compare(
    classifier: Classifier,
    probabilities: NDArray[np.float32],
    keras: NDArray[np.float64],
    found: Findings,
    limits: tuple[float, float],
) -> ModelParity:
    """One model's figures but for its timing. `limits`: the tolerance of float32, the share of flips."""
    spec = classifier.spec
    gap = _measure_owner_gap(probabilities, found, spec, limits[1])
    difference = np.abs(probabilities - keras).max(axis=1)
    flips = _find_flips(spec, probabilities, keras, found)
    near = sum(flip.margin <= BAND and flip.label != Status.NO_ANSWER for flip in flips)
    within = spec.precision != "float32" or float(difference.max()) <= limits[0]
    return ModelParity(
        path=classifier.name,
        digest=classifier.digest,
        precision=spec.precision,
        size=classifier.size,
        threshold=spec.threshold,
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        p999_difference=float(np.quantile(difference, 0.999)),
        flips=len(flips),
        near_flips=near,
        batch_difference=0.0,
        milliseconds=0.0,
        passed=bool(
            within
            and len(flips) - near <= allow_flips(len(keras), limits[1])
            and np.isfinite(difference).all()
            and (gap is None or gap.passed)
        ),
        flipped=tuple(flips[:_LISTED_FLIPS]),
        beside_owner=gap,
    )


def _measure_owner_gap(
    probabilities: NDArray[np.float32], found: Findings, spec: ModelSpec, max_flips: float
) -> Gap | None:
    """How far a model is from the owner's answers, if there are any."""
    if not found.answers:
        return None
    return measure_gap(probabilities, found.answers, spec, max_flips=max_flips)


def _find_flips(
    spec: ModelSpec, probabilities: NDArray[np.float32], keras: NDArray[np.float64], found: Findings
) -> list[Flip]:
    """The images whose label is another than Keras'."""
    before, after = spec.decide(keras.astype(np.float32)), spec.decide(probabilities)
    lost, margins = ~are_probabilities(probabilities), measure_margins(keras, spec)
    return [
        Flip(
            path=found.names[index],
            name=found.below[index],
            keras_label=spec.labels[before[index]],
            label=Status.NO_ANSWER.value if lost[index] else spec.labels[after[index]],
            keras_probability=float(keras[index, after[index]]),
            probability=float(probabilities[index, after[index]]),
            margin=float(margins[index]),
        )
        for index in np.flatnonzero(lost | (before != after))
    ]


def _vary_batches(classifier: Classifier, pixels: NDArray[np.uint8]) -> float:
    """The largest difference of a probability between batch sizes."""
    alone, odd, full = (classify(classifier, pixels, batch) for batch in BATCHES)
    return float(max(np.abs(alone - full).max(), np.abs(odd - full).max()))
