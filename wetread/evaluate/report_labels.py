"""The report's tables of labels, of confused pairs and of mistakes."""

from __future__ import annotations

from collections.abc import Sequence

from wetread.evaluate.judged_images import (
    Confusion,
    JudgedImages,
    Mistake,
    describe_mistake,
    find_mistakes,
)
from wetread.evaluate.metrics import Metrics
from wetread.evaluate.report_confusion import NUMBERED
from wetread.evaluate.report_html import (
    make_section,
    make_table,
    show_count,
    show_name,
    show_number,
    show_path,
    show_text,
)
from wetread.evaluate.tables import TITLES, format_number, sort_labels
from wetread.evaluate.thumbnails import DrawThumbnail

EXAMPLES, PAIRS = 3, 20  # of a confused pair; pairs with examples
_MISTAKES = 24  # shown at most
_OTHERS = 5  # labels that are named as chosen instead of the true one
_VALUES = ("f1", "sensitivity", "ppv", "auc", "average_precision", "specificity", "npv")


def show_labels(metrics: Metrics, confusions: Sequence[Confusion]) -> str:
    """Show each label against the others, the one with the lowest F1 first, and what was chosen instead."""
    numbered = len(metrics.labels) > NUMBERED
    numbers = {
        label: f'<span class="index">{index + 1}</span> ' if numbered else ""
        for index, label in enumerate(metrics.labels)
    }
    instead: dict[str, list[Confusion]] = {label: [] for label in metrics.labels}
    for pair in confusions:
        instead[pair.truth].append(pair)
    rows = [
        (
            numbers[label] + show_name(label),
            _list_others(instead[label]),
            show_count(metrics.per_label[label].images, f"metrics.per_label.{label}.images"),
            *(
                show_number(getattr(metrics.per_label[label], name), f"metrics.per_label.{label}.{name}")
                for name in _VALUES
            ),
        )
        for label in sort_labels(metrics)
    ]
    header = ("label", "chosen instead", "images", *(TITLES[name] for name in _VALUES))
    table = make_table(header, rows, numbers=1 + len(_VALUES), stacked=True)
    said = '<p class="small">Sorted by F1, the lowest first.</p>'
    return make_section("Each label against the others", said, f'<div class="panel labels">{table}</div>')


def _list_others(pairs: Sequence[Confusion]) -> str:
    """Name the labels that images of one label got instead, with their number."""
    shown = pairs if len(pairs) == _OTHERS + 1 else pairs[:_OTHERS]
    named = [f"{show_name(pair.chosen)}&nbsp;{pair.images:,}" for pair in shown]
    rest = pairs[len(shown) :]
    if rest:
        named.append(f"{len(rest):,} more labels&nbsp;{sum(pair.images for pair in rest):,}")
    return ", ".join(named) or "–"


def show_pairs(judged: JudgedImages, confusions: Sequence[Confusion], draw: DrawThumbnail | None) -> str:
    """Show the most confused pairs of labels with examples, as pictures where `draw` draws them."""
    if not confusions:
        return ""
    rows = [
        (
            show_text(pair.truth),
            show_text(pair.chosen),
            "".join(_show_example(describe_mistake(judged, place), draw) for place in pair.examples),
            f"{pair.images:,}",
            f"{pair.share:.1%}",
        )
        for pair in confusions[:PAIRS]
    ]
    header = ("truth", "chosen", "examples, the most certain first", "images", "of the true label")
    table = make_table(header, rows, numbers=2, stacked=True)
    more = len(confusions) - len(rows)
    said = f'<p class="small">{more:,} more pairs are rarer.</p>' if more > 0 else ""
    return make_section("Most confused pairs", f'<div class="panel pairs">{table}{said}</div>')


def _show_example(mistake: Mistake, draw: DrawThumbnail | None) -> str:
    name = show_path(mistake.name)
    uri = draw(mistake.name) if draw is not None else ""
    picture = f'<img src="{uri}" alt="" width="224" height="224">' if uri else ""
    return (
        f'<div class="example">{picture}<span>{name} {format_number(mistake.chosen_probability)}</span></div>'
    )


def show_mistakes(judged: JudgedImages, word: str, draw: DrawThumbnail | None) -> str:
    """Show the images whose true label got the lowest probability. `word`: what they are grouped by."""
    worst = find_mistakes(judged, count=_MISTAKES)
    if not worst:
        return make_section("Worst mistakes", "<p>None: every image got its true label.</p>")
    wrong = int((judged.truth != judged.chosen).sum())
    said = (
        f'<p class="small">{wrong:,} images in all; shown: {len(worst)}, sorted by the probability of the '
        "true label.</p>"
    )
    if draw is not None:
        pictures = "".join(_picture_mistake(mistake, draw) for mistake in worst)
        return make_section("Worst mistakes", said, f'<div class="mistakes">{pictures}</div>')
    rows = [
        (
            show_path(mistake.name),
            show_text(mistake.group),
            show_text(mistake.truth),
            show_text(mistake.chosen),
            format_number(mistake.chosen_probability),
        )
        for mistake in worst
    ]
    header = ("image", show_text(word), "truth", "chosen", "its probability")
    table = make_table(header, rows, numbers=1, stacked=True)
    return make_section("Worst mistakes", said, f'<div class="panel worst">{table}</div>')


def _picture_mistake(mistake: Mistake, draw: DrawThumbnail) -> str:
    name, uri = show_text(mistake.name), draw(mistake.name)
    picture = f'<img src="{uri}" alt="{name}" width="224" height="224">' if uri else ""
    return (
        f"<figure>{picture}<figcaption><b>{show_name(mistake.truth)}</b>, predicted "
        f"{show_name(mistake.chosen)} {mistake.chosen_probability:.4f}<br>{show_path(mistake.name)}"
        "</figcaption></figure>"
    )
