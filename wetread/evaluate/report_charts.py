"""The report's figures: charts with legend and caption."""

from __future__ import annotations

from typing import Any

from wetread.evaluate import svg_charts
from wetread.evaluate.calibration import describe_doubt, describe_temperature, undo_temperature
from wetread.evaluate.curves import (
    Bin,
    bin_reliability,
    count_probabilities,
    trace_precision_recall,
    trace_roc,
)
from wetread.evaluate.evaluation import Evaluation
from wetread.evaluate.report_html import make_figure, make_legend, show_count, show_number, show_text
from wetread.evaluate.runs import Run
from wetread.evaluate.scores import Scores
from wetread.evaluate.tables import format_number

_PANELS = (
    ("Loss", ("loss", "val_loss")),
    ("Validation", ("val_accuracy", "val_balanced_accuracy", "val_auc")),
    ("Sensitivity and specificity", ("val_sensitivity", "val_specificity")),
)


def show_ranking(evaluation: Evaluation) -> str:
    """Show ROC and precision-recall curves of the positive label, or of each label against the others."""
    scores, metrics = evaluation.scores, evaluation.metrics
    truth, probabilities = scores.truth(scores.scored), scores.probabilities(scores.scored)
    positive = scores.spec.positive_index
    columns = range(len(metrics.labels)) if positive is None else [positive]
    labels = [(column, metrics.labels[column]) for column in columns]
    roc = [trace_roc(probabilities, truth, column=column, label=label) for column, label in labels]
    recall = [
        trace_precision_recall(probabilities, truth, column=column, label=label) for column, label in labels
    ]
    rates = [metrics.per_label[label] for _, label in labels]
    said = [
        f"{label}: sensitivity {format_number(rate.sensitivity)}, specificity "
        f"{format_number(rate.specificity)}, PPV {format_number(rate.ppv)}"
        for rate, (_, label) in zip(rates, labels, strict=True)
    ]
    points = [(1 - rate.specificity, rate.sensitivity, text) for rate, text in zip(rates, said, strict=True)]
    precise = [(rate.sensitivity, rate.ppv, text) for rate, text in zip(rates, said, strict=True)]
    ring = f"threshold {metrics.threshold:g}" if positive is not None else "where the largest wins"
    legend = make_legend(labels, ring=ring)
    area = show_number(metrics.auc, "metrics.auc")
    average = show_number(metrics.average_precision, "metrics.average_precision")
    mean = "" if positive is not None else "Mean over the labels: "
    figures = (
        make_figure(
            svg_charts.draw_roc(roc, points),
            f"<b>ROC.</b> {mean}AUC {area}. The dashed line is chance.",
            legend=legend,
        ),
        make_figure(
            svg_charts.draw_precision_recall(recall, precise),
            f"<b>Precision and recall.</b> {mean}AP {average}.",
            legend=legend,
        ),
    )
    return f'<div class="pair">{"".join(figures)}</div>'


def show_probabilities(evaluation: Evaluation) -> str:
    """Show the reliability diagram and the histogram of probabilities by true label."""
    scores, metrics = evaluation.scores, evaluation.metrics
    truth, probabilities = scores.truth(scores.scored), scores.probabilities(scores.scored)
    positive = scores.spec.positive_index
    bins = bin_reliability(probabilities, truth, scores.spec)
    said = metrics.positive or "the chosen label"
    before, was = _show_before(scores)
    reliability = make_figure(
        svg_charts.draw_reliability(bins, said, color=positive or 0, before=before),
        f"<b>Reliability.</b> On the dashed line, predicted and observed are equal. Calibration error "
        f"{show_number(metrics.ece, 'metrics.ece')}; bars are 95% Wilson intervals by image, dots grow with "
        f"the number of images.{was}",
    )
    doubt = describe_doubt(scores)
    threshold = metrics.threshold if positive is not None else None
    shown = probabilities.max(axis=1) if positive is None else probabilities[:, positive]
    histograms = "".join(
        svg_charts.draw_histogram(
            count_probabilities(shown[truth == column]).tolist(),
            f"truth {label}: {int((truth == column).sum()):,} images",
            color=column,
            threshold=threshold,
            band=None if doubt is None else (doubt["low"], doubt["high"]),
        )
        for column, label in enumerate(metrics.labels)
    )
    what = f"of {show_text(said)}" if positive is not None else "of the largest"
    line = " The dashed line is the threshold." if threshold is not None else ""
    line += _show_doubt(doubt)
    histogram = make_figure(histograms, f"<b>Probability {what}</b>, counts on a logarithmic scale.{line}")
    return f'<div class="pair">{reliability}{histogram}</div>'


def _show_before(scores: Scores) -> tuple[list[Bin], str]:
    """Return the reliability at temperature 1 and a sentence about it; empty if that is the temperature."""
    found = describe_temperature(scores)
    if found is None:
        return [], ""
    error = show_number(found["at_temperature_1"]["ece"], "calibration.at_temperature_1.ece")
    temperature = show_number(found["temperature"], "calibration.temperature")
    said = f" Dotted: the same at temperature 1, calibration error {error}; the model has {temperature}."
    return bin_reliability(undo_temperature(scores), scores.truth(scores.scored), scores.spec), said


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
