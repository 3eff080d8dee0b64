"""Keras and ONNX side by side, from image files, through the decoder that ships: do they agree?"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from wetread.errors import ExportError
from wetread.export import network
from wetread.export.assumption_checks import Question, judge_terms
from wetread.export.assumptions import agree_terms, is_run
from wetread.export.comparison import compare_all
from wetread.export.expectations import Expectations
from wetread.export.forms.network_files import NetworkSource
from wetread.export.forms.opening import open_network
from wetread.export.layer_by_layer import LayerDifference, compare_layers
from wetread.export.owner_pipeline import Reference, open_owner
from wetread.export.predictions import Findings, collect
from wetread.export.report import ParityReport, describe_report
from wetread.export.tolerance import TOLERANCE
from wetread.runtime.machine import read_processor
from wetread.runtime.model.verify import describe_processor
from wetread.runtime.scoring.classifier import Classifier
from wetread.runtime.scoring.run import versions

__all__ = ["assert_parity", "describe_report", "measure_parity"]

MAX_FLIPS = 0.005


def measure_parity(
    keras: str | os.PathLike[str] | NetworkSource,
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
    on_progress: Callable[[int], object] | None = None,
) -> ParityReport:
    """Compare Keras with ONNX files on images from files, folders, globs or buckets.

    `keras`: a RUN directory, whose spec.json the models must keep to but for temperature and threshold; or a
    network alone, in any form that `wetread.export.forms` opens, which says nothing of labels and pixels:
    what the models say is believed, unless it is expected or the owner's own code is asked. float32 models
    must stay within `tolerance` of Keras' probabilities; others may flip at most the share `max_flips` of its
    labels.

    `reference`: the owner's way from a path to probabilities: a function that returns one for each label (or
    the second's alone, or a mapping by label), its name 'module:function', or a loader, after which Keras
    answers: 'keras:load_img,nearest', 'keras:dataset,crop', ... (`export.pipelines`). `expected_labels`, in
    order; `expected_scale`, of pixels from 0 to 255; `expected_resize`: stretch, fit, crop, a kernel or a
    loader. `on_progress` is called with the number of images compared so far.

    Raises ExportError where the models are not of this network, or say otherwise than its RUN, or there are
    no images, or the reference does not answer, and ModelError for a file that does not load.
    """
    if not models:
        raise ExportError("Give one or more ONNX files to compare.")
    classifiers = [Classifier(model, device="cpu") for model in models]
    expected = _read_expectations(expected_labels, expected_scale, expected_resize)
    question = _ask(keras, classifiers, expected, reference)
    found = collect(
        question.wrapped,
        classifiers=classifiers,
        images=images,
        owner=question.owner,
        on_progress=on_progress,
    )
    few = found.few[:8]
    layers = compare_layers(question.wrapped, classifiers, few, question.spec) if by_layer else ()
    return _make_report(
        question,
        keras=keras,
        classifiers=classifiers,
        found=found,
        limits=(tolerance, max_flips),
        layers=layers,
    )


def _ask(
    keras: str | os.PathLike[str] | NetworkSource,
    classifiers: list[Classifier],
    expected: Expectations,
    reference: Reference | None,
) -> Question:
    """Load the network, and open its owner's code if there is one."""
    terms, spec = agree_terms(keras, classifiers), classifiers[0].spec
    opened = open_network(find_network(keras), size=(spec.pixels.height, spec.pixels.width))
    model = opened.model
    wrapped = network.wrap_network(model, spec.pixels.shape)
    owner = None if reference is None else open_owner(reference, wrapped=wrapped, spec=spec)
    return Question(model, wrapped, spec, terms, expected, owner)


def _make_report(
    question: Question,
    *,
    keras: str | os.PathLike[str] | NetworkSource,
    classifiers: list[Classifier],
    found: Findings,
    limits: tuple[float, float],
    layers: tuple[LayerDifference, ...],
) -> ParityReport:
    """Judge what was found. `limits`: the tolerance of float32, the share of flips."""
    source = find_network(keras)
    verdict = judge_terms(question, found.gather())
    return ParityReport(
        reference=os.fspath(keras),
        reference_sha256=source.digest(),
        images=len(found.names),
        failures=tuple(found.failures),
        listing_sha256=found.listing.hexdigest(),
        terms=question.terms,
        tolerance=limits[0],
        max_flips=limits[1],
        keras_milliseconds=found.keras_seconds / len(found.names) * 1e3,
        keras_size=source.measure(),
        models=compare_all(classifiers, found=found, limits=limits),
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


def find_network(reference: str | os.PathLike[str] | NetworkSource) -> NetworkSource:
    """The `.keras` file of a RUN directory, or the network itself, in whatever form."""
    if isinstance(reference, NetworkSource):
        return reference
    path = Path(reference)
    return NetworkSource(path=path / "model.keras" if is_run(path) else path)


def assert_parity(
    keras: str | os.PathLike[str] | NetworkSource,
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
