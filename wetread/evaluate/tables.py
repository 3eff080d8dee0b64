"""An evaluation's numbers as tables of text, for the terminal and for the report."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from wetread.errors import Status
from wetread.evaluate.calibration import describe_doubt, describe_temperature
from wetread.evaluate.comparison import Comparison, DeLong
from wetread.evaluate.evaluation import Evaluation
from wetread.evaluate.metrics import Metrics
from wetread.evaluate.scores import Scores
from wetread.runtime.wording import pluralize

# In the order of the report: decisions, ranking, calibration.
TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "f1": "F1",
    "mcc": "MCC",
    "auc": "AUC",
    "average_precision": "average precision",
    "brier": "Brier score",
    "ece": "calibration error",
    "log_loss": "log loss",
}
_FAILURES = 20  # listed one by one at most
_PAIRS = 20  # most frequent confusions in a terminal
_MATRIX_LABELS = 12  # more labels than these do not fit a terminal as a matrix
Table = tuple[list[str], list[list[str]]]


@dataclass(frozen=True)
class Value:
    """One number of Metrics: its field, title, value (NaN: not defined) and interval, if any."""

    name: str
    title: str
    value: float
    interval: tuple[float, float] | None


def list_values(metrics: Metrics) -> list[Value]:
    """List the numbers of Metrics, without those that need two labels if there are more."""
    names = [n for n in TITLES if metrics.positive or n not in ("sensitivity", "specificity", "ppv", "npv")]
    return [Value(n, TITLES[n], getattr(metrics, n), metrics.intervals.get(n)) for n in names]


def format_number(value: float) -> str:
    """Format with four decimals; 'not defined' for NaN."""
    return "not defined" if math.isnan(value) else f"{value:.4f}"


def format_interval(interval: tuple[float, float] | None) -> str:
    """Format as 'low to high', four decimals each; '' without an interval."""
    if interval is None or math.isnan(interval[0]):
        return ""
    return f"{interval[0]:.4f} to {interval[1]:.4f}"


def format_p(value: float) -> str:
    """Format a p-value: three significant digits, or '< 0.0001'."""
    if math.isnan(value):
        return "not defined"
    return "< 0.0001" if value < 1e-4 else f"{value:.3g}"


def describe_data(evaluation: Evaluation) -> list[tuple[str, str]]:
    """List the model, the images and the decision rule of an evaluation."""
    scores, spec = evaluation.scores, evaluation.scores.spec
    counts = Counter(image.label for image in scores.images)
    rows = [
        ("model", f"{evaluation.model} ({spec.precision}, {spec.digest[:12]}, {evaluation.provider})"),
        ("images", ", ".join(f"{label} {counts[label]:,}" for label in spec.labels)),
        ("judged", describe_images(evaluation.metrics, evaluation.word)),
    ]
    if evaluation.options.split is not None:
        rows.insert(1, ("split", evaluation.options.split))
    if scores.failures:
        found = ", ".join(f"{count:,} {status}" for status, count in sorted(scores.failures.items()))
        rows.append(("without a score", found))
        rows += _list_failures(scores)
    if evaluation.strays:
        more = ", ..." if len(evaluation.strays) > 3 else ""
        rows.append(("in no label's folder", ", ".join(evaluation.strays[:3]) + more))
    if spec.positive is not None:
        rows.append(("decision", f"{spec.positive} at >= {spec.threshold:g} (rule: {spec.threshold_rule})"))
    return [*rows, *_describe_certainty(scores)]


def describe_images(metrics: Metrics, word: str) -> str:
    """Say how many images of how many groups were judged."""
    return f"{metrics.images:,} images of {metrics.patients:,} {pluralize(word)}"


def _describe_certainty(scores: Scores) -> list[tuple[str, str]]:
    """Describe the uncertainty band and the temperature, if the model has them."""
    rows, band, before = [], describe_doubt(scores), describe_temperature(scores)
    if band is not None:
        rows.append(
            (
                "uncertain",
                f"{band['low']:.4f} to {band['high']:.4f} (rule: {band['rule']}): {band['images']:,} images, "
                f"{band['errors']:,} of {band['all_errors']:,} errors",
            )
        )
    if before is not None:
        was = format_number(before["at_temperature_1"]["ece"])
        rows.append(
            ("temperature", f"{before['temperature']:g}; the calibration error was {was} at temperature 1")
        )
    return rows


def _list_failures(scores: Scores) -> list[tuple[str, str]]:
    failed = [found for found in scores.predictions if found.status != Status.OK]
    rows = [("", f"{found.path}: {found.error}") for found in failed[:_FAILURES]]
    more = len(failed) - _FAILURES
    return [*rows, ("", f"and {more:,} more, all of them in predictions.csv")] if more > 0 else rows


def tabulate_metrics(metrics: Metrics, word: str) -> Table:
    """Tabulate every value with its 95% interval. `word`: what the images are grouped by."""
    rows = [[v.title, format_number(v.value), format_interval(v.interval)] for v in list_values(metrics)]
    return ["", "value", f"95% by {word}"], rows


def tabulate_confusion(metrics: Metrics) -> Table:
    """Tabulate true labels (rows) by chosen ones (columns); of many labels, the most confused pairs."""
    if len(metrics.labels) > _MATRIX_LABELS:
        return _tabulate_pairs(metrics)
    rows = [
        [label, *(f"{count:,}" for count in row)]
        for label, row in zip(metrics.labels, metrics.confusion, strict=True)
    ]
    return ["truth \\ chosen", *metrics.labels], rows


def _tabulate_pairs(metrics: Metrics) -> Table:
    labels = metrics.labels
    pairs = [
        (count, down, across)
        for down, row in enumerate(metrics.confusion)
        for across, count in enumerate(row)
        if count and down != across
    ]
    pairs.sort(key=lambda pair: (-pair[0], *pair[1:]))
    rows = [[labels[down], labels[across], f"{count:,}"] for count, down, across in pairs[:_PAIRS]]
    if len(pairs) > _PAIRS:
        rest = sum(count for count, *_ in pairs[_PAIRS:])
        rows.append([f"{len(pairs) - _PAIRS:,} more pairs", "", f"{rest:,}"])
    return ["truth", "chosen", "images"], rows


def sort_labels(metrics: Metrics) -> list[str]:
    """Sort labels by F1, the lowest first; those without an image last."""
    found = metrics.per_label

    def rank(label: str) -> tuple[bool, float]:
        return not found[label].images, 0.0 if math.isnan(found[label].f1) else found[label].f1

    return sorted(metrics.labels, key=rank)


def tabulate_labels(metrics: Metrics) -> Table:
    """Tabulate each label against all the others, the one with the lowest F1 first."""
    names = ("sensitivity", "specificity", "ppv", "npv", "f1", "auc", "average_precision")
    rows = [
        [label, f"{found.images:,}", *(format_number(getattr(found, name)) for name in names)]
        for label, found in ((label, metrics.per_label[label]) for label in sort_labels(metrics))
    ]
    return ["label", "images", *(TITLES[name] for name in names)], rows


def describe_comparison(found: Comparison, word: str) -> list[tuple[str, str]]:
    """Describe the tests of two models. `word`: what the images are grouped by."""
    mcnemar = found.mcnemar
    rows = [
        (
            "compared with",
            f"{found.second}, on {found.images:,} images of {found.patients:,} {pluralize(word)}",
        ),
        (
            f"McNemar ({mcnemar.test})",
            f"right alone: {mcnemar.only_first:,} and {mcnemar.only_second:,}, p {format_p(mcnemar.p_value)}",
        ),
        *((f"DeLong, AUC of {test.label}", _describe_delong(test)) for test in found.delong),
    ]
    if found.repeated:
        rows.append(
            (
                f"{pluralize(word)} repeat",
                f"{found.repeated:,} images have the {word} of another image here; both tests assume "
                f"independent images, so trust the intervals by {word} below",
            )
        )
    return rows


def _describe_delong(test: DeLong) -> str:
    areas = f"{format_number(test.first)} and {format_number(test.second)}"
    if math.isnan(test.p_value):
        return f"{areas}, nothing to test"
    return f"{areas}, z {test.z:.2f}, p {format_p(test.p_value)}"


def tabulate_differences(found: Comparison, word: str) -> Table:
    """Tabulate the first model's values minus the second's, with intervals. `word`: as above."""
    rows = [
        [TITLES[name], format_sign(found.differences[name][0]), _between(found.differences[name][1:])]
        for name in TITLES
        if name in found.differences
    ]
    return ["difference", "value", f"95% by {word}"], rows


def _between(interval: tuple[float, ...]) -> str:
    return "" if math.isnan(interval[0]) else f"{format_sign(interval[0])} to {format_sign(interval[1])}"


def format_sign(value: float) -> str:
    """Format with four decimals and a sign; without a sign if all decimals are 0."""
    return f"{value:+.4f}" if abs(value) >= 5e-5 else "0.0000"
