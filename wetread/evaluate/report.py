"""Write report.html: one self-contained file, without scripts and without requests.

The page's Content-Security-Policy forbids the browser to load anything, whatever the page contains.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from wetread.evaluate import report_charts
from wetread.evaluate.calibration import describe_doubt, describe_temperature, undo_temperature
from wetread.evaluate.evaluation import Evaluation
from wetread.evaluate.judged_images import JudgedImages, find_confusions, select_judged
from wetread.evaluate.metrics import Metrics
from wetread.evaluate.reader_labels import Judgement
from wetread.evaluate.report_confusion import show_confusion
from wetread.evaluate.report_data import (
    show_comparison,
    show_configuration,
    show_data,
    show_readers_configuration,
    show_reviews,
    show_training,
)
from wetread.evaluate.report_html import make_section, show_text
from wetread.evaluate.report_labels import EXAMPLES, PAIRS, show_labels, show_mistakes, show_pairs
from wetread.evaluate.report_summary import show_cards, show_head, show_metrics, show_readers_head
from wetread.evaluate.thumbnails import DrawThumbnail, make_drawer

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

    Without `thumbnails` it contains no pixels of any image; with it, examples, the worst mistakes and, if a
    RUN was given, its augmented samples. The same evaluation gives the same page.
    """
    judged, metrics = select_judged(evaluation.scores), evaluation.metrics
    calibration = describe_temperature(evaluation.scores)
    probabilities = report_charts.show_probabilities(
        judged,
        metrics,
        doubt=describe_doubt(evaluation.scores),
        before=None if calibration is None else (calibration, undo_temperature(evaluation.scores)),
    )
    draw = make_drawer(evaluation) if thumbnails else None
    sections = [
        show_head(evaluation),
        *_show_notes(evaluation.notes),
        show_cards(metrics),
        show_metrics(metrics, evaluation.word),
        *_show_answers(judged, metrics, probabilities, draw),
        show_comparison(evaluation),
        show_mistakes(judged, evaluation.word, draw),
        show_data(evaluation),
        show_training(evaluation, thumbnails=thumbnails),
        show_configuration(evaluation),
    ]
    return _fill_page(f"{evaluation.model}: wetread evaluate", sections)


def render_readers_report(found: Judgement) -> str:
    """Write the report of a model that readers judged as one page of HTML, without pictures."""
    judged, metrics = found.images, found.metrics
    sections = [
        show_readers_head(found),
        *_show_notes(found.notes),
        show_cards(metrics),
        show_metrics(metrics, found.word, plain=found.plain),
        *_show_answers(judged, metrics, report_charts.show_probabilities(judged, metrics), None),
        show_mistakes(judged, found.word, None),
        show_reviews(found),
        show_readers_configuration(found),
    ]
    return _fill_page(f"{found.name}: wetread evaluate --reviews", sections)


def _show_answers(
    judged: JudgedImages, metrics: Metrics, probabilities: str, draw: DrawThumbnail | None
) -> list[str]:
    """What the model answers: confusions, curves, probabilities, labels, and pairs of labels."""
    confusions = find_confusions(judged, examples=EXAMPLES, pairs=PAIRS)
    return [
        show_confusion(metrics, confusions, weighted=judged.weights is not None),
        show_labels(metrics, confusions),
        show_pairs(judged, confusions, draw),
        make_section("Ranking", report_charts.show_ranking(judged, metrics)),
        make_section("Probabilities", probabilities),
    ]


def _show_notes(notes: Sequence[str]) -> list[str]:
    return [f'<p class="note">{show_text(note)}</p>' for note in notes]


def _fill_page(title: str, sections: Sequence[str]) -> str:
    return _SKELETON.format(
        policy=_POLICY,
        title=show_text(title),
        style=files("wetread.evaluate").joinpath("report.css").read_text(encoding="utf-8"),
        body="\n".join(section for section in sections if section),
    )
