"""The report's last part: the comparison, the data, the training, and the configuration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import cv2
import numpy as np

from wetread.errors import Status
from wetread.evaluate import report_charts, svg_charts
from wetread.evaluate.evaluation import Evaluation
from wetread.evaluate.reader_labels import Judgement
from wetread.evaluate.report_html import (
    make_legend,
    make_section,
    make_table,
    show_count,
    show_interval,
    show_name,
    show_number,
    show_text,
)
from wetread.evaluate.tables import TITLES, describe_comparison, format_sign
from wetread.evaluate.thumbnails import encode_picture
from wetread.runtime.model.description import describe_spec
from wetread.runtime.wording import pluralize

_FAILURES = 200  # listed on the page at most; predictions.csv has all
_SAMPLES_WIDTH = 1100


def show_comparison(evaluation: Evaluation) -> str:
    """Show the comparison with a second model; '' without one."""
    found, word = evaluation.comparison, evaluation.word
    if found is None:
        return ""
    said = [(show_text(name), show_text(value)) for name, value in describe_comparison(found, word)]
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
    names = f"{show_text(found.first)} minus {show_text(found.second)}"
    differences = make_table((names, "difference", f"95% by {show_text(word)}"), rows, numbers=2)
    tests = make_table(("test", "result"), said)
    return make_section(
        "Two models", f'<div class="panel">{tests}</div><div class="panel">{differences}</div>'
    )


def show_data(evaluation: Evaluation) -> str:
    """Show how many images each label has, the fingerprint of the data, and what has no score."""
    scores = evaluation.scores
    counts = Counter(image.label for image in scores.images)
    parts = [
        _show_balance([(label, counts[label]) for label in scores.spec.labels]),
        f'<p class="small">Fingerprint of names and contents: <code>{scores.fingerprint()}</code></p>',
    ]
    if evaluation.strays:
        parts.append(f'<p class="small">{len(evaluation.strays):,} files are in no label\'s folder.</p>')
    failed = [found for found in scores.predictions if found.status != Status.OK]
    if failed:
        listed = [(show_text(f.path), show_text(f.status), show_text(f.error)) for f in failed[:_FAILURES]]
        parts.append(f"<h3>{len(failed):,} images without a score, left out of the metrics</h3>")
        parts.append(make_table(("image", "status", "what was wrong"), listed, stacked=True))
    return make_section("Class balance and data", f'<div class="panel">{"".join(parts)}</div>')


def _show_balance(balance: Sequence[tuple[str, int]]) -> str:
    """One bar and a table, or a list with a bar each, where there are more labels than colours."""
    total = max(1, sum(count for _, count in balance))
    if len(balance) <= svg_charts.COLORS:
        rows = [
            (show_text(label), show_count(count, f"data.labels.{label}"), f"{count / total:.1%}")
            for label, count in balance
        ]
        legend = make_legend([(index, label) for index, (label, _) in enumerate(balance)])
        table = make_table(("label", "images", "share"), rows, numbers=2)
        return svg_charts.draw_balance(balance) + legend + table
    most = max(1, *(count for _, count in balance))
    items = (
        f"<li>{show_name(label)}{svg_charts.draw_share(count / most)}"
        f"<span>{show_count(count, f'data.labels.{label}')} ({count / total:.1%})</span></li>"
        for label, count in balance
    )
    return f'<ul class="balances">{"".join(items)}</ul>'


def show_reviews(found: Judgement) -> str:
    """Show what readers said, and how many of the images of each probability they labelled."""
    verdicts = [
        (show_text(verdict), show_count(count, f"reviews.verdicts.{verdict}"))
        for verdict, count in found.verdicts.items()
    ]
    strata = [
        (
            f"{part.low:g} to {part.high:g}",
            show_count(part.scored, f"strata.{index}.scored"),
            show_count(part.labelled, f"strata.{index}.labelled"),
        )
        for index, part in enumerate(found.strata)
    ]
    name = show_text(found.spec.positive or "the chosen label")
    reviews = make_table(("verdict", "reviews"), verdicts, numbers=1)
    parts = make_table((f"probability of {name}", "scored", "labelled by readers"), strata, numbers=2)
    unscored = show_count(found.unscored, "reviews.unscored")
    said = f'<p class="small">{unscored} reviewed images have no score.</p>'
    return make_section(
        "Reviews", f'<div class="panel">{reviews}{said}</div><div class="panel">{parts}</div>'
    )


def show_training(evaluation: Evaluation, *, thumbnails: bool) -> str:
    """Show the curves of the run, and with `thumbnails` its augmented samples; '' without a run."""
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


def show_configuration(evaluation: Evaluation) -> str:
    """Show the model's spec, the bootstrap, and the run's options."""
    options, word = evaluation.options, evaluation.word
    rows = [*describe_spec(evaluation.scores.spec), ("execution provider", evaluation.provider)]
    rows.append(_describe_bootstrap(options.resamples, options.seed, word))
    if evaluation.run is not None:
        hidden = ("data", "output", "cache")  # paths on the machine that trained it
        known = {name: value for name, value in evaluation.run.config.items() if name not in hidden}
        rows += [(f"run {name}".replace("_", " "), str(value)) for name, value in known.items()]
    return _tabulate(rows)


def show_readers_configuration(found: Judgement) -> str:
    """Show the model's spec and the bootstrap."""
    bootstrap = _describe_bootstrap(found.options.resamples, found.options.seed, found.word)
    return _tabulate([*describe_spec(found.spec), bootstrap])


def _describe_bootstrap(resamples: int, seed: int, word: str) -> tuple[str, str]:
    return "bootstrap", f"{resamples:,} samples of {pluralize(word)}, seed {seed}, percentiles"


def _tabulate(rows: Sequence[tuple[str, str]]) -> str:
    table = make_table(
        ("", "value"), [(show_text(name), f"<code>{show_text(value)}</code>") for name, value in rows]
    )
    return make_section("Configuration", f'<div class="panel">{table}</div>')
