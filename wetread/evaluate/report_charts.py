"""The report's figures: charts with legend and caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wetread.evaluate import svg_charts
from wetread.evaluate.curves import (
    Curve,
    bin_reliability,
    count_probabilities,
    thin_curve,
    trace_precision_recall,
    trace_roc,
)
from wetread.evaluate.judged_images import JudgedImages
from wetread.evaluate.metrics import LabelMetrics, Metrics
from wetread.evaluate.report_html import (
    make_figure,
    make_legend,
    shorten_text,
    show_count,
    show_name,
    show_number,
    show_text,
)
from wetread.evaluate.runs import Run
from wetread.evaluate.tables import format_number

_PANELS = (
    ("Loss", ("loss", "val_loss")),
    ("Validation", ("val_accuracy", "val_balanced_accuracy", "val_auc")),
    ("Sensitivity and specificity", ("val_sensitivity", "val_specificity")),
)
_SMALL_CHARTS = 24  # at most, of the labels with the lowest values
_SMALL_POINTS = 80  # of a curve in a small chart
_NAME = 30  # letters of a label in a chart


def show_ranking(judged: JudgedImages, metrics: Metrics) -> str:
    """Show ROC and precision-recall curves of the positive label, or of each label against the others.

    More labels than there are colours get a small chart each.
    """
    if len(metrics.labels) > svg_charts.COLORS:
        return _show_small_curves(judged, metrics)
    positive = judged.spec.positive_index
    columns = range(len(metrics.labels)) if positive is None else [positive]
    labels = [(column, metrics.labels[column]) for column in columns]
    roc = [_trace_roc(judged, column) for column in columns]
    recall = [_trace_recall(judged, column) for column in columns]
    rates = [(label, metrics.per_label[label]) for _, label in labels]
    ring = f"threshold {metrics.threshold:g}" if positive is not None else "where the largest wins"
    legend = make_legend(labels, ring=ring)
    area = show_number(metrics.auc, "metrics.auc")
    average = show_number(metrics.average_precision, "metrics.average_precision")
    mean = "" if positive is not None else "Mean over the labels: "
    figures = (
        make_figure(
            svg_charts.draw_roc(roc, [_place_on_roc(*rate) for rate in rates]),
            f"<b>ROC.</b> {mean}AUC {area}. The dashed line is chance.",
            legend=legend,
        ),
        make_figure(
            svg_charts.draw_precision_recall(recall, [_place_on_recall(*rate) for rate in rates]),
            f"<b>Precision and recall.</b> {mean}AP {average}.",
            legend=legend,
        ),
    )
    return f'<div class="pair">{"".join(figures)}</div>'


def _trace_roc(judged: JudgedImages, column: int) -> Curve:
    label = judged.spec.labels[column]
    return trace_roc(judged.probabilities, judged.truth, column=column, label=label, weights=judged.weights)


def _trace_recall(judged: JudgedImages, column: int) -> Curve:
    label, weights = judged.spec.labels[column], judged.weights
    return trace_precision_recall(
        judged.probabilities, judged.truth, column=column, label=label, weights=weights
    )


def _place_on_roc(label: str, rate: LabelMetrics) -> tuple[float, float, str]:
    return 1 - rate.specificity, rate.sensitivity, _describe_rate(label, rate)


def _place_on_recall(label: str, rate: LabelMetrics) -> tuple[float, float, str]:
    return rate.sensitivity, rate.ppv, _describe_rate(label, rate)


def _describe_rate(label: str, rate: LabelMetrics) -> str:
    return (
        f"{label}: sensitivity {format_number(rate.sensitivity)}, specificity "
        f"{format_number(rate.specificity)}, PPV {format_number(rate.ppv)}"
    )


def _show_small_curves(judged: JudgedImages, metrics: Metrics) -> str:
    area = show_number(metrics.auc, "metrics.auc")
    average = show_number(metrics.average_precision, "metrics.average_precision")
    roc, recall = [], []
    for column in _choose_lowest(metrics, "auc"):
        label = metrics.labels[column]
        curve = _make_small_curve(_trace_roc(judged, column))
        chart = svg_charts.draw_roc([curve], [_place_on_roc(label, metrics.per_label[label])], small=True)
        roc.append(_make_small(chart, metrics, column, "AUC", metrics.per_label[label].auc))
    for column in _choose_lowest(metrics, "average_precision"):
        label = metrics.labels[column]
        curve = _make_small_curve(_trace_recall(judged, column))
        points = [_place_on_recall(label, metrics.per_label[label])]
        chart = svg_charts.draw_precision_recall([curve], points, small=True)
        recall.append(_make_small(chart, metrics, column, "AP", metrics.per_label[label].average_precision))
    return (
        f'<h3>ROC</h3><p class="small">Mean AUC over the labels: {area}. Sensitivity over 1 − specificity; '
        f"{_describe_choice(metrics, 'AUC')}</p>{_make_multiples(roc)}"
        f'<h3>Precision and recall</h3><p class="small">Mean AP over the labels: {average}. Precision over '
        f"recall; {_describe_choice(metrics, 'AP')}</p>{_make_multiples(recall)}"
    )


def _make_small_curve(curve: Curve) -> Curve:
    """A curve for a chart of its own: fewer points, and the one colour of all such charts."""
    return replace(thin_curve(curve, points=_SMALL_POINTS), column=0)


def _choose_lowest(metrics: Metrics, name: str) -> list[int]:
    """The columns of the labels whose value is the lowest; without those that have none."""
    values = np.array([getattr(metrics.per_label[label], name) for label in metrics.labels])
    order = np.argsort(values, kind="stable").tolist()
    return [column for column in order if not np.isnan(values[column])][:_SMALL_CHARTS]


def _describe_choice(metrics: Metrics, name: str) -> str:
    count = len(metrics.labels)
    which = f"the {_SMALL_CHARTS} lowest of {count}" if count > _SMALL_CHARTS else "the lowest"
    return f"{which} {name} first. The ring is where the label has the largest probability."


def _make_small(chart: str, metrics: Metrics, column: int, name: str, value: float) -> str:
    label = show_name(metrics.labels[column])
    return f"<figure>{chart}<figcaption>{label}<br>{name} {format_number(value)}</figcaption></figure>"


def _make_multiples(figures: Sequence[str]) -> str:
    return f'<div class="panel multiples">{"".join(figures)}</div>'


def show_probabilities(
    judged: JudgedImages,
    metrics: Metrics,
    *,
    doubt: dict[str, Any] | None = None,
    before: tuple[dict[str, Any], NDArray[np.floating]] | None = None,
) -> str:
    """Show the reliability diagram and the histogram of probabilities by true label.

    `doubt`: the uncertain images, as `describe_doubt` returns them. `before`: the calibration at temperature
    1, as `describe_temperature` returns it, and the probabilities there.
    """
    positive = judged.spec.positive_index
    what = f"of {show_text(metrics.positive)}" if metrics.positive else "of the largest"
    line = " The dashed line is the threshold." if positive is not None else ""
    said = f"<b>Probability {what}</b>, counts on a logarithmic scale.{line}{_show_doubt(doubt)}"
    reliability = _show_reliability(judged, metrics, before)
    if positive is not None:
        charts = "".join(_draw_histogram(judged, column, doubt) for column in (0, 1))
        return f'<div class="pair">{reliability}{make_figure(charts, said)}</div>'
    lowest = _choose_lowest(metrics, "sensitivity")
    columns = sorted(lowest) if len(metrics.labels) <= _SMALL_CHARTS else lowest
    if len(metrics.labels) > _SMALL_CHARTS:
        said += f" The {_SMALL_CHARTS} labels with the lowest sensitivity."
    figures = [
        f"<figure>{_draw_histogram(judged, column, doubt)}<figcaption>{show_name(metrics.labels[column])}<br>"
        f"{int((judged.truth == column).sum()):,} images</figcaption></figure>"
        for column in columns
    ]
    return (
        f'<div class="pair">{reliability}</div><h3>By true label</h3><p class="small">{said}</p>'
        f"{_make_multiples(figures)}"
    )


def _show_reliability(
    judged: JudgedImages, metrics: Metrics, before: tuple[dict[str, Any], NDArray[np.floating]] | None
) -> str:
    # Weights do not matter here: they are equal for all images of one bin.
    bins = bin_reliability(judged.probabilities, judged.truth, judged.spec)
    earlier = [] if before is None else bin_reliability(before[1], judged.truth, judged.spec)
    said = shorten_text(metrics.positive or "the chosen label", _NAME)
    return make_figure(
        svg_charts.draw_reliability(bins, said, color=judged.spec.positive_index or 0, before=earlier),
        f"<b>Reliability.</b> On the dashed line, predicted and observed are equal. Calibration error "
        f"{show_number(metrics.ece, 'metrics.ece')}; bars are 95% Wilson intervals by image, dots grow with "
        f"the number of images.{_show_before(before)}",
    )


def _show_before(before: tuple[dict[str, Any], NDArray[np.floating]] | None) -> str:
    """Return a sentence about the calibration at temperature 1; '' if that is the temperature."""
    if before is None:
        return ""
    error = show_number(before[0]["at_temperature_1"]["ece"], "calibration.at_temperature_1.ece")
    temperature = show_number(before[0]["temperature"], "calibration.temperature")
    return f" Dotted: the same at temperature 1, calibration error {error}; the model has {temperature}."


def _draw_histogram(judged: JudgedImages, column: int, doubt: dict[str, Any] | None) -> str:
    """Draw the images of one true label by the positive label's probability, or by the largest one."""
    positive, label = judged.spec.positive_index, judged.spec.labels[column]
    probabilities = judged.probabilities[judged.truth == column]
    shown = probabilities.max(axis=1) if positive is None else probabilities[:, positive]
    return svg_charts.draw_histogram(
        count_probabilities(shown).tolist(),
        f"truth {shorten_text(label, _NAME)}: {len(shown):,} images",
        color=0 if positive is None else column,
        threshold=judged.spec.threshold if positive is not None else None,
        band=None if doubt is None else (doubt["low"], doubt["high"]),
        small=positive is None,
    )


def _show_doubt(found: dict[str, Any] | None) -> str:
    """Return a sentence about the images in the uncertainty band; '' without a band."""
    if found is None:
        return ""
    images, errors, every = (
        show_count(found[name], f"uncertain.{name}") for name in ("images", "errors", "all_errors")
    )
    return f" The uncertain results are shaded: {images} images, {errors} of {every} errors."


def show_history(run: Run) -> str:
    """Show a run's curves over its epochs; '' if it has none."""
    if not run.history:
        return ""
    figures = []
    for title, wanted in _PANELS:
        names = [name for name in wanted if any(name in row for row in run.history)]
        if names:
            chart = svg_charts.draw_history(run.history, names)
            figures.append(make_figure(chart, f"<b>{title}</b>", legend=make_legend(list(enumerate(names)))))
    return f'<div class="pair">{"".join(figures)}</div>'
