"""The report's first part: what was judged, and the metrics."""

from __future__ import annotations

import math

from wetread.evaluate import svg_charts
from wetread.evaluate.evaluation import Evaluation
from wetread.evaluate.metrics import Metrics
from wetread.evaluate.reader_labels import Judgement
from wetread.evaluate.report_html import (
    make_section,
    make_table,
    show_count,
    show_interval,
    show_number,
    show_text,
)
from wetread.evaluate.tables import Value, list_values
from wetread.runtime.wording import pluralize

_HEADLINE_TWO = ("auc", "sensitivity", "specificity", "balanced_accuracy")
_HEADLINE_MANY = ("balanced_accuracy", "accuracy", "auc", "f1")


def show_head(evaluation: Evaluation) -> str:
    """Show the model's name, the images, and how a label is chosen."""
    split = evaluation.options.split
    where = f"Split <b>{show_text(split)}</b>: " if split else ""
    judged = where + _describe_images(evaluation.metrics, evaluation.word)
    rule = evaluation.scores.spec.threshold_rule
    return _make_head("wetread evaluate", evaluation.model, judged, evaluation.metrics, rule)


def show_readers_head(found: Judgement) -> str:
    """Show the model's name, the images that readers labelled, and how a label is chosen."""
    scored = show_count(found.scored, "reviews.scored")
    judged = (
        f"{_describe_images(found.metrics, found.word)} labelled by readers, of {scored} that were scored"
    )
    rule = found.spec.threshold_rule
    return _make_head("wetread evaluate --reviews", found.name, judged, found.metrics, rule)


def _describe_images(metrics: Metrics, word: str) -> str:
    images = show_count(metrics.images, "metrics.images")
    groups = show_count(metrics.patients or 0, "metrics.patients")
    return f"{images} images of {groups} {show_text(pluralize(word))}"


def _make_head(command: str, model: str, judged: str, metrics: Metrics, rule: str) -> str:
    decision = ""
    if metrics.positive is not None:
        threshold = show_number(metrics.threshold, "metrics.threshold", text=f"{metrics.threshold:g}")
        positive = show_text(metrics.positive)
        decision = f" {positive} at a probability of {threshold} or more (rule: {show_text(rule)})."
    return f"<header><p>{command}</p><h1>{show_text(model)}</h1><p>{judged}.{decision}</p></header>"


def show_cards(metrics: Metrics) -> str:
    """Show the four most important values in large print."""
    chosen = _HEADLINE_MANY if metrics.positive is None else _HEADLINE_TWO
    values = {value.name: value for value in list_values(metrics)}
    return f'<div class="cards">{"".join(_card(values[name]) for name in chosen)}</div>'


def _card(value: Value) -> str:
    number = show_number(value.value, f"metrics.{value.name}")
    between = show_interval(value.interval, f"metrics.intervals.{value.name}")
    none = " none" if math.isnan(value.value) else ""
    title = value.title[0].upper() + value.title[1:]
    return (
        f'<div class="card"><div class="name">{title}</div><div class="value{none}">{number}</div>'
        f'<div class="between">{between and f"95%: {between}"}</div></div>'
    )


def show_metrics(metrics: Metrics, word: str, *, plain: Metrics | None = None) -> str:
    """Show every value with its interval.

    `word`: what the images are grouped by. `plain`: the values without weights, where there are some.
    """
    rows = [
        [
            value.title,
            svg_charts.draw_whisker(value.value, value.interval),
            show_number(value.value, f"metrics.{value.name}"),
            show_interval(value.interval, f"metrics.intervals.{value.name}"),
        ]
        for value in list_values(metrics)
    ]
    header = ["metric", "", "value", f"95% interval by {show_text(word)}"]
    if plain is not None:
        header = [*header[:2], "weighted", header[3], "unweighted"]
        for row, value in zip(rows, list_values(plain), strict=True):
            row.append(show_number(value.value, f"unweighted.{value.name}"))
    table = make_table(header, rows, numbers=len(header) - 2)
    return make_section("Metrics", f'<div class="panel metrics">{table}</div>')
