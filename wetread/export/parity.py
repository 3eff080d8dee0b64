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
from wetread.export.beside import Gap, measure_gap
from wetread.export.byparts import compare_layers
from wetread.export.expectations import Expectations
from wetread.export.images import read_chunks
from wetread.export.owners import Answers, Owner, Reference, open_owner
from wetread.export.report import Flip, ModelParity, ParityReport, describe_report
from wetread.export.terms import agree_terms
from wetread.export.tolerance import TOLERANCE
from wetread.export.verdict import Evidence, Question, judge_terms
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
    keras: str | os.PathLike[str],
    *,
    models: Sequence[str | os.PathLike[str]],
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    tolerance: float = TOLERANCE,
    max_flips: float = MAX_FLIPS,
    by_layer: bool = False,
    reference: Reference | None = None,
    expected_labels: Sequence[str] | None = None,
    expected_scale: float | Sequence[float] | None = None,
    expected_resize: str | None = None,
) -> ParityReport:
    """Compare Keras with ONNX files on images from files, folders, globs or buckets.

    `keras`: a RUN directory, whose spec.json the models must keep to but for temperature and threshold; or a
    `.keras` file, which says nothing of labels and pixels: what the models say is believed, unless it is
    expected or the owner's own code is asked. float32 models must stay within `tolerance` of Keras'
    probabilities; others may flip at most the share `max_flips` of its labels.

    `reference`: the owner's way from a path to probabilities: a function that returns one for each label (or
    the second's alone, or a mapping by label), its name 'module:function', or a loader, after which Keras
    answers: 'keras:load_img,nearest', 'keras:dataset,crop', ... (`export.pipelines`). `expected_labels`, in
    order; `expected_scale`, of pixels from 0 to 255; `expected_resize`: stretch, fit, crop, a kernel or a
    loader.

    Raises ExportError where the models are not of this network, or say otherwise than its RUN, or there are
    no images, or the reference does not answer, and ModelError for a file that does not load.
    """
    if not models:
        raise ExportError("Expected one or more ONNX files. Received none.")
    file = find_network(keras)
    classifiers = [Classifier(model, device="cpu") for model in models]
    terms, spec = agree_terms(keras, classifiers), classifiers[0].spec
    expected = _read_expectations(expected_labels, expected_scale, expected_resize)
    model = network.load_network(file)
    wrapped = network.wrap_network(model, spec.pixels.shape)
    owner = None if reference is None else open_owner(reference, wrapped=wrapped, spec=spec)
    found = _collect(wrapped, classifiers, images, owner)
    compared = _compare_all(classifiers, found, (tolerance, max_flips))
    layers = compare_layers(wrapped, classifiers, found.few[:8], spec) if by_layer else ()
    verdict = judge_terms(Question(model, wrapped, spec, terms, expected, owner), found.gather())
    return ParityReport(
        reference=os.fspath(keras),
        reference_sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        images=len(found.names),
        failures=tuple(found.failures),
        listing_sha256=found.listing.hexdigest(),
        terms=terms,
        tolerance=tolerance,
        max_flips=max_flips,
        keras_milliseconds=found.keras_seconds / len(found.names) * 1e3,
        keras_size=file.stat().st_size,
        models=compared,
        layers=layers,
        machine=f"{classifiers[0].provider} on {describe_processor(read_processor())}",
        versions=versions() | network.keras_versions(),
        owner=verdict.owner,
        contradictions=verdict.contradictions,
        doubts=verdict.doubts,
        trusted=verdict.trusted,
    )


def _read_expectations(
    labels: Sequence[str] | None, scale: float | Sequence[float] | None, resize: str | None
) -> Expectations:
    numbers = (scale,) if isinstance(scale, int | float) else scale
    return Expectations(
        labels=None if labels is None else tuple(labels),
        scale=None if numbers is None else tuple(map(float, numbers)),
        resize=resize,
    )


def find_network(reference: str | os.PathLike[str]) -> Path:
    """The `.keras` file of a RUN directory, or the file itself."""
    path = Path(reference)
    return path / "model.keras" if path.is_dir() else path


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
        self.answers: list[Answers] = []

    def gather(self) -> Evidence:
        """What terms are judged by."""
        return Evidence(self.names, self.below, np.concatenate(self.keras), self.answers, self.few)


def _collect(
    wrapped: Any,
    classifiers: list[Classifier],
    images: str | os.PathLike[str] | Sequence[Any],
    owner: Owner | None,
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
        if owner is not None:
            found.answers.append(owner.answer(chunk.names, chunk.pixels))
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
    gap = _measure_owner_gap(probabilities, found, spec, limits[1])
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
        passed=bool(
            within
            and len(flips) <= limits[1] * len(keras)
            and np.isfinite(difference).all()
            and (gap is None or gap.passed)
        ),
        flipped=tuple(flips[:_LISTED_FLIPS]),
        beside_owner=gap,
    )


def _measure_owner_gap(
    probabilities: NDArray[np.float32], found: _Findings, spec: ModelSpec, max_flips: float
) -> Gap | None:
    """How far a model is from the owner's answers, if there are any."""
    if not found.answers:
        return None
    owner = np.concatenate([one.probabilities for one in found.answers])
    return measure_gap(probabilities, owner, spec, max_flips=max_flips)


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
    keras: str | os.PathLike[str],
    models: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    tolerance: float = TOLERANCE,
    max_flips: float = MAX_FLIPS,
    record: Callable[[str, Any], None] | None = None,
    reference: Reference | None = None,
    expected_labels: Sequence[str] | None = None,
    expected_scale: float | Sequence[float] | None = None,
    expected_resize: str | None = None,
) -> ParityReport:
    """Fail a test where ONNX files depart from Keras, or from its owner's way; as `measure_parity`.

    `record`: pytest's `record_testsuite_property` or `record_property`, for the JUnit report. Returns the
    report, whose `trusted` says what nothing but the files themselves says.
    Raises AssertionError with the table, the images whose labels flip, and the first layer that departs.
    """
    report = measure_parity(
        keras,
        models=[models] if isinstance(models, str | os.PathLike) else models,
        images=images,
        tolerance=tolerance,
        max_flips=max_flips,
        by_layer=True,
        reference=reference,
        expected_labels=expected_labels,
        expected_scale=expected_scale,
        expected_resize=expected_resize,
    )
    if record is not None:
        for model in report.models:
            for name in ("max_difference", "mean_difference", "p999_difference", "flips", "milliseconds"):
                record(f"{Path(model.path).name} {name}", getattr(model, name))
    if not report.passed:
        raise AssertionError(describe_report(report))
    return report
