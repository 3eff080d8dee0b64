"""Write report.html: one self-contained file, without scripts and without requests.

The page's Content-Security-Policy forbids the browser to load anything, whatever the page contains.
"""

from __future__ import annotations

from collections import Counter
from importlib.resources import files

import cv2
import numpy as np

from wetread.errors import Status
from wetread.evaluate import report_charts, svg_charts
from wetread.evaluate.evaluation import Evaluation
from wetread.evaluate.metrics import Metrics
from wetread.evaluate.mistakes import Mistake, draw_thumbnail, encode_picture, find_mistakes
from wetread.evaluate.report_html import (
    make_legend,
    make_section,
    make_table,
    show_count,
    show_interval,
    show_number,
    show_text,
)
from wetread.evaluate.tables import (
    TITLES,
    Value,
    describe_comparison,
    format_number,
    format_sign,
    list_values,
)
from wetread.runtime.model.description import describe_spec
from wetread.runtime.sources.opening import open_source

_MISTAKES = 24
_FAILURES = 200  # listed on the page at most; predictions.csv has all
_HEADLINE_TWO = ("auc", "sensitivity", "specificity", "balanced_accuracy")
_HEADLINE_MANY = ("balanced_accuracy", "accuracy", "auc", "f1")
_SAMPLES_WIDTH = 1100
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_SKELETON = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body><main>
{body}
</main></body>
</html>
"""


def render_report(evaluation: Evaluation, *, thumbnails: bool = False) -> str:
    """Write the report as one page of HTML.

    Without `thumbnails` it contains no pixels of any image; with it, the worst mistakes and, if a RUN was
    given, its augmented samples. The same evaluation gives the same page.
    """
    sections = [
        _head(evaluation),
        *(f'<p class="note">{show_text(note)}</p>' for note in evaluation.notes),
        _cards(evaluation.metrics),
        _metrics(evaluation.metrics),
        _confusion(evaluation.metrics),
        make_section("Ranking", report_charts.show_ranking(evaluation)),
        make_section("Probabilities", report_charts.show_probabilities(evaluation)),
        _labels(evaluation.metrics),
        _comparison(evaluation),
        _mistakes(evaluation, thumbnails=thumbnails),
        _data(evaluation),
        _training(evaluation, thumbnails=thumbnails),
        _configuration(evaluation),
    ]
    return _SKELETON.format(
        policy=_POLICY,
        title=show_text(f"{evaluation.model}: wetread evaluate"),
        style=files("wetread.evaluate").joinpath("report.css").read_text(encoding="utf-8"),
        body="\n".join(section for section in sections if section),
    )


def _head(evaluation: Evaluation) -> str:
    metrics, split = evaluation.metrics, evaluation.options.split
    where = f"Split <b>{show_text(split)}</b>: " if split else ""
    images, patients = (
        show_count(metrics.images, "metrics.images"),
        show_count(metrics.patients or 0, "metrics.patients"),
    )
    decision = ""
    if metrics.positive is not None:
        threshold = show_number(metrics.threshold, "metrics.threshold", text=f"{metrics.threshold:g}")
        rule = show_text(evaluation.scores.spec.threshold_rule)
        decision = f" {show_text(metrics.positive)} at a probability of {threshold} or more (rule: {rule})."
    return (
        f"<header><p>wetread evaluate</p><h1>{show_text(evaluation.model)}</h1>"
        f"<p>{where}{images} images of {patients} patients.{decision}</p></header>"
    )


def _cards(metrics: Metrics) -> str:
    chosen = _HEADLINE_MANY if metrics.positive is None else _HEADLINE_TWO
    values = {value.name: value for value in list_values(metrics)}
    return f'<div class="cards">{"".join(_card(values[name]) for name in chosen)}</div>'


def _card(value: Value) -> str:
    number = show_number(value.value, f"metrics.{value.name}")
    between = show_interval(value.interval, f"metrics.intervals.{value.name}")
    none = " none" if np.isnan(value.value) else ""
    title = value.title[0].upper() + value.title[1:]
    return (
        f'<div class="card"><div class="name">{title}</div><div class="value{none}">{number}</div>'
        f'<div class="between">{between and f"95%: {between}"}</div></div>'
    )


def _metrics(metrics: Metrics) -> str:
    rows = [
        (
            value.title,
            svg_charts.draw_whisker(value.value, value.interval),
            show_number(value.value, f"metrics.{value.name}"),
            show_interval(value.interval, f"metrics.intervals.{value.name}"),
        )
        for value in list_values(metrics)
    ]
    table = make_table(("metric", "0 to 1", "value", "95% interval by patient"), rows, numbers=2)
    return make_section("Metrics", f'<div class="panel">{table}</div>')


def _confusion(metrics: Metrics) -> str:
    head = "".join(f'<th scope="col">{show_text(label)}</th>' for label in metrics.labels)
    rows = []
    for down, (label, counts) in enumerate(zip(metrics.labels, metrics.confusion, strict=True)):
        total = max(1, sum(counts))
        cells = "".join(
            f'<td style="--share: {0.06 + 0.5 * count / total:.3f}"><b>'
            f"{show_count(count, f'metrics.confusion.{down}.{across}')}</b>"
            f"<span>{count / total:.1%}</span></td>"
            for across, count in enumerate(counts)
        )
        rows.append(f'<tr><th scope="row">{show_text(label)}</th>{cells}</tr>')
    table = (
        '<div class="scroll"><table class="confusion">'
        f"<thead><tr><th>truth ↓ · chosen →</th>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
    return make_section(
        "Confusion", f'<div class="panel">{table}<p class="small">Shares are of the true label.</p></div>'
    )


def _labels(metrics: Metrics) -> str:
    """Each label against the others; empty for two labels, because the other tables show the same."""
    names = ("sensitivity", "specificity", "ppv", "npv", "f1", "auc", "average_precision")
    rows = [
        (
            show_text(label),
            show_count(found.images, f"metrics.per_label.{label}.images"),
            *(show_number(getattr(found, name), f"metrics.per_label.{label}.{name}") for name in names),
        )
        for label, found in metrics.per_label.items()
    ]
    table = make_table(("label", "images", *(TITLES[name] for name in names)), rows, numbers=8)
    return make_section("Each label against the others", f'<div class="panel">{table}</div>')


def _comparison(evaluation: Evaluation) -> str:
    found = evaluation.comparison
    if found is None:
        return ""
    said = "".join(
        f"<p><b>{show_text(name)}</b>: {show_text(value)}</p>" for name, value in describe_comparison(found)
    )
    rows = [
        (
            TITLES[name],
            show_number(
                found.differences[name][0],
                f"comparison.differences.{name}.0",
                text=format_sign(found.differences[name][0]),
            ),
            show_interval(found.differences[name][1:], f"comparison.differences.{name}", signed=True),
        )
        for name in TITLES
        if name in found.differences
    ]
    header = (f"{show_text(found.first)} minus {show_text(found.second)}", "difference", "95% by patient")
    return make_section("Two models", f'<div class="panel">{said}{make_table(header, rows, numbers=2)}</div>')


def _mistakes(evaluation: Evaluation, *, thumbnails: bool) -> str:
    worst = find_mistakes(evaluation.scores, count=_MISTAKES)
    wrong = evaluation.metrics.images - sum(row[i] for i, row in enumerate(evaluation.metrics.confusion))
    if not worst:
        return make_section("Worst mistakes", "<p>None: every image got its true label.</p>")
    said = (
        f'<p class="small">{wrong:,} images in all; shown: {len(worst)}, sorted by the probability of the '
        "true label.</p>"
    )
    if thumbnails:
        return make_section("Worst mistakes", said, _picture_mistakes(evaluation, worst))
    rows = [
        (
            f'<span class="name">{show_text(mistake.image.name)}</span>',
            show_text(mistake.patient),
            show_text(mistake.image.label),
            show_text(mistake.chosen),
            format_number(mistake.chosen_probability),
        )
        for mistake in worst
    ]
    table = make_table(("image", "patient", "truth", "chosen", "its probability"), rows, numbers=1)
    return make_section("Worst mistakes", said, f'<div class="panel">{table}</div>')


def _picture_mistakes(evaluation: Evaluation, worst: list[Mistake]) -> str:
    source, recipe = open_source(evaluation.options.data), evaluation.scores.spec.pixels
    pictures = []
    for mistake in worst:
        name = show_text(mistake.image.name)
        uri = draw_thumbnail(mistake.image, source, recipe)
        picture = f'<img src="{uri}" alt="{name}" width="224" height="224">' if uri else ""
        pictures.append(
            f"<figure>{picture}<figcaption><b>{show_text(mistake.image.label)}</b>, predicted "
            f"{show_text(mistake.chosen)} {mistake.chosen_probability:.4f}<br>{name}</figcaption></figure>"
        )
    return f'<div class="mistakes">{"".join(pictures)}</div>'


def _data(evaluation: Evaluation) -> str:
    scores = evaluation.scores
    counts = Counter(image.label for image in scores.images)
    balance = [(label, counts[label]) for label in scores.spec.labels]
    total = max(1, len(scores.images))
    rows = [
        (show_text(label), show_count(count, f"data.labels.{label}"), f"{count / total:.1%}")
        for label, count in balance
    ]
    parts = [
        svg_charts.draw_balance(balance),
        make_legend(list(enumerate(scores.spec.labels))),
        make_table(("label", "images", "share"), rows, numbers=2),
        f'<p class="small">Fingerprint of names and contents: <code>{scores.fingerprint()}</code></p>',
    ]
    if evaluation.strays:
        parts.append(f'<p class="small">{len(evaluation.strays):,} files are in no label\'s folder.</p>')
    failed = [found for found in scores.predictions if found.status != Status.OK]
    if failed:
        listed = [(show_text(f.path), show_text(f.status), show_text(f.error)) for f in failed[:_FAILURES]]
        parts.append(f"<h3>{len(failed):,} images without a score, left out of the metrics</h3>")
        parts.append(make_table(("image", "status", "what was wrong"), listed))
    return make_section("Class balance and data", f'<div class="panel">{"".join(parts)}</div>')


def _training(evaluation: Evaluation, *, thumbnails: bool) -> str:
    if evaluation.run is None:
        return ""
    parts = [report_charts.show_history(evaluation.run)]
    samples = evaluation.run.read_samples() if thumbnails else None
    if samples is not None:
        parts.append(_samples(samples))
    return make_section("Training", *parts) if any(parts) else ""


def _samples(data: bytes) -> str:
    """The run's contact sheet, reduced for a page."""
    sheet = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if sheet is None:
        return ""
    share = min(1.0, _SAMPLES_WIDTH / sheet.shape[1])
    sheet = cv2.resize(sheet, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    return (
        f'<figure class="panel"><img class="samples" src="{encode_picture(sheet)}" '
        'alt="Augmented training images"><figcaption>Training images: the original first, then augmented '
        "ones.</figcaption></figure>"
    )


def _configuration(evaluation: Evaluation) -> str:
    rows = [(show_text(name), f"<code>{show_text(value)}</code>") for name, value in _describe(evaluation)]
    table = make_table(("", "value"), rows)
    return make_section("Configuration", f'<div class="panel">{table}</div>')


def _describe(evaluation: Evaluation) -> list[tuple[str, str]]:
    options = evaluation.options
    rows = [*describe_spec(evaluation.scores.spec), ("execution provider", evaluation.provider)]
    rows.append(("bootstrap", f"{options.resamples:,} samples of patients, seed {options.seed}, percentiles"))
    if evaluation.run is not None:
        hidden = ("data", "output", "cache")  # paths on the machine that trained it
        known = {name: value for name, value in evaluation.run.config.items() if name not in hidden}
        rows += [(f"run {name}".replace("_", " "), str(value)) for name, value in known.items()]
    return rows
