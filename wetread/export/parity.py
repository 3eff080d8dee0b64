"""Keras and ONNX side by side, from image files, through the decoder that ships: do they agree?"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ExportError
from wetread.export import network
from wetread.export.byparts import compare_layers
from wetread.export.forms.opening import open_network
from wetread.export.forms.source import NetworkSource
from wetread.export.images import read_chunks
from wetread.export.report import Flip, ModelParity, ParityReport, describe_report
from wetread.export.terms import agree_terms, is_run
from wetread.export.tolerance import TOLERANCE
from wetread.runtime.machine import read_processor
from wetread.runtime.model.spec import ModelSpec
from wetread.runtime.model.verify import describe_processor
from wetread.runtime.scoring.classifier import Classifier
from wetread.runtime.scoring.run import versions
from wetread.runtime.sources.opening import open_sources

__all__ = ["assert_parity", "describe_report", "measure_parity"]

MAX_FLIPS = 0.005
# A label flips easily where Keras itself is this near to deciding the other way.
BAND = 0.02
_BATCHES = (1, 7, 65)
_LISTED_FLIPS = 1000


def measure_parity(
    reference: str | os.PathLike[str] | NetworkSource,
    *,
    models: Sequence[str | os.PathLike[str]],
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    tolerance: float = TOLERANCE,
    max_flips: float = MAX_FLIPS,
    by_layer: bool = False,
) -> ParityReport:
    """Compare Keras with ONNX files on images from files, folders, globs or buckets.

    `reference`: a RUN directory, whose spec.json the models must keep to but for temperature and threshold;
    or a network alone, in any form that `wetread.export.forms` opens, which says nothing of labels and
    pixels: what the models say is believed. float32 models must stay within `tolerance` of Keras'
    probabilities; others may flip at most the share `max_flips` of its labels. Raises ExportError where the
    models are not of this network, or say otherwise than its RUN, or there are no images, and ModelError for
    a file that does not load.
    """
    if not models:
        raise ExportError("Expected one or more ONNX files. Received none.")
    source = find_network(reference)
    classifiers = [Classifier(model, device="cpu") for model in models]
    terms, spec = agree_terms(reference, classifiers), classifiers[0].spec
    opened = open_network(source, size=(spec.pixels.height, spec.pixels.width))
    wrapped = network.wrap_network(opened.model, spec.pixels.shape)
    found = _collect(wrapped, classifiers, images)
    compared = _compare_all(classifiers, found, (tolerance, max_flips))
    layers = compare_layers(wrapped, classifiers, found.few[:8], spec) if by_layer else ()
    return ParityReport(
        reference=os.fspath(reference),
        reference_sha256=source.digest(),
        images=len(found.names),
        failures=tuple(found.failures),
        listing_sha256=found.listing.hexdigest(),
        terms=terms,
        tolerance=tolerance,
        max_flips=max_flips,
        keras_milliseconds=found.keras_seconds / len(found.names) * 1e3,
        keras_size=source.measure(),
        models=compared,
        layers=layers,
        machine=f"{classifiers[0].provider} on {describe_processor(read_processor())}",
        versions=versions() | network.keras_versions(),
    )


def find_network(reference: str | os.PathLike[str] | NetworkSource) -> NetworkSource:
    """The `.keras` file of a RUN directory, or the network itself, in whatever form."""
    if isinstance(reference, NetworkSource):
        return reference
    path = Path(reference)
    return NetworkSource(path=path / "model.keras" if is_run(path) else path)


class _Findings:
    """What all models said of all images, and how long they took; pixels only of the first few images."""

    def __init__(self, count: int) -> None:
        self.names: list[str] = []
        self.below: list[str] = []
        self.failures: list[str] = []
        self.listing = hashlib.sha256()
        self.keras: list[NDArray[np.float64]] = []
        self.keras_seconds = 0.0
        self.probabilities: list[list[NDArray[np.float32]]] = [[] for _ in range(count)]
        self.seconds = [0.0] * count
        self.few: NDArray[np.uint8] = np.empty(0, np.uint8)


def _collect(
    wrapped: Any, classifiers: list[Classifier], images: str | os.PathLike[str] | Sequence[Any]
) -> _Findings:
    locations = [images] if isinstance(images, str | os.PathLike) else list(images)
    source, spec = open_sources(locations), classifiers[0].spec
    found = _Findings(len(classifiers))
    for chunk in read_chunks(source.read_ahead(source.entries()), spec.pixels, read=source.read):
        found.failures += chunk.failures
        if not chunk.names:
            continue
        if not found.names:
            found.few = chunk.pixels[: _BATCHES[-1]]
            network.predict_network(wrapped, chunk.pixels[:32], spec)  # traces the graph: not to be timed
        for name, digest in zip(chunk.names, chunk.digests, strict=True):
            found.below.append(_below(name, locations))
            found.listing.update(f"{digest} {found.below[-1]}\n".encode("utf-8", "surrogateescape"))
        found.names += chunk.names
        start = time.perf_counter()
        found.keras.append(network.predict_network(wrapped, chunk.pixels, spec))
        found.keras_seconds += time.perf_counter() - start
        for index, classifier in enumerate(classifiers):
            start = time.perf_counter()
            found.probabilities[index].append(_classify(classifier, chunk.pixels, 32))
            found.seconds[index] += time.perf_counter() - start
    if not found.names:
        raise ExportError(f"Expected images in {', '.join(map(str, locations))}. Received none that decode.")
    return found


def _below(name: str, locations: list[Any]) -> str:
    """A name without the folder that was given: the same data set elsewhere has the same listing."""
    for location in map(os.fspath, locations):
        if name.startswith(location):
            return name[len(location) :].lstrip("/") or Path(name).name
    return name


def _classify(classifier: Classifier, pixels: NDArray[np.uint8], batch: int) -> NDArray[np.float32]:
    parts = [classifier.classify(pixels[start : start + batch]) for start in range(0, len(pixels), batch)]
    return np.concatenate(parts)


def _vary_batches(classifier: Classifier, pixels: NDArray[np.uint8]) -> float:
    """The largest difference of a probability between batch sizes."""
    alone, odd, full = (_classify(classifier, pixels, batch) for batch in _BATCHES)
    return float(max(np.abs(alone - full).max(), np.abs(odd - full).max()))


def _compare_all(
    classifiers: list[Classifier], found: _Findings, limits: tuple[float, float]
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
    return tuple(models)


def _compare(
    classifier: Classifier,
    probabilities: NDArray[np.float32],
    keras: NDArray[np.float64],
    found: _Findings,
    limits: tuple[float, float],
) -> ModelParity:
    """One model's figures but for its timing. `limits`: the tolerance of float32, the share of flips."""
    spec = classifier.spec
    difference = np.abs(probabilities - keras).max(axis=1)
    flips = _find_flips(spec, probabilities, keras, found)
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
        near_flips=sum(flip.margin <= BAND for flip in flips),
        batch_difference=0.0,
        milliseconds=0.0,
        passed=bool(within and len(flips) <= limits[1] * len(keras) and np.isfinite(difference).all()),
        flipped=tuple(flips[:_LISTED_FLIPS]),
    )


def _find_flips(
    spec: ModelSpec, probabilities: NDArray[np.float32], keras: NDArray[np.float64], found: _Findings
) -> list[Flip]:
    """The images whose label is another than Keras'."""
    before, after = spec.decide(keras.astype(np.float32)), spec.decide(probabilities)
    margins = measure_margins(keras, spec)
    return [
        Flip(
            path=found.names[index],
            name=found.below[index],
            keras_label=spec.labels[before[index]],
            label=spec.labels[after[index]],
            keras_probability=float(keras[index, after[index]]),
            probability=float(probabilities[index, after[index]]),
            margin=float(margins[index]),
        )
        for index in np.flatnonzero(before != after)
    ]


def measure_margins(probabilities: NDArray[np.float64], spec: ModelSpec) -> NDArray[np.float64]:
    """How far each row is from another label: from the threshold, or from the runner-up. float64 (N,)."""
    if spec.positive_index is not None:
        return np.abs(probabilities[:, spec.positive_index] - spec.threshold)
    ordered = np.sort(probabilities, axis=1)
    margins: NDArray[np.float64] = ordered[:, -1] - ordered[:, -2]
    return margins


def assert_parity(
    reference: str | os.PathLike[str] | NetworkSource,
    *,
    models: Sequence[str | os.PathLike[str]],
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    tolerance: float = TOLERANCE,
    max_flips: float = MAX_FLIPS,
    record: Callable[[str, Any], None] | None = None,
) -> ParityReport:
    """Fail a test where ONNX files depart from Keras; arguments as in `measure_parity`.

    `record`: pytest's `record_testsuite_property` or `record_property`, for the JUnit report. Returns the
    report.
    Raises AssertionError with the table, the images whose labels flip, and the first layer that departs.
    """
    report = measure_parity(
        reference, models=models, images=images, tolerance=tolerance, max_flips=max_flips, by_layer=True
    )
    if record is not None:
        for model in report.models:
            for name in ("max_difference", "mean_difference", "p999_difference", "flips", "milliseconds"):
                record(f"{Path(model.path).name} {name}", getattr(model, name))
    if not report.passed:
        raise AssertionError(describe_report(report))
    return report
