"""Draw charts as inline SVG, without a library or script; the page's style sheet sets their colours."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape

import numpy as np

from wetread.evaluate.curves import HISTOGRAM_BINS, Bin, Curve

UNIT_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
HALVES = (0.0, 0.5, 1.0)
_LINE = 13  # the height of a tick's label
COLORS = 8  # classes c0 to c7 in report.css
_SURROGATES = re.compile("[\ud800-\udfff]")


def escape_text(text: str) -> str:
    """Escape text for HTML. What is no Unicode in a name, as Linux and Windows allow, becomes U+FFFD."""
    return escape(_SURROGATES.sub("\ufffd", text), quote=True)


@dataclass(frozen=True, kw_only=True)
class Axes:
    """A chart's drawing area and the numeric ranges of its axes."""

    x: tuple[float, float] = (0.0, 1.0)
    y: tuple[float, float] = (0.0, 1.0)
    width: int = 420
    height: int = 320
    left: int = 50
    right: int = 16
    top: int = 14
    bottom: int = 46

    def across(self, value: float) -> float:
        """Return the x coordinate of a number, in units of the drawing."""
        share = (value - self.x[0]) / (self.x[1] - self.x[0])
        return round(self.left + share * (self.width - self.left - self.right), 2)

    def up(self, value: float) -> float:
        """Return the y coordinate of a number."""
        share = (value - self.y[0]) / (self.y[1] - self.y[0])
        return round(self.height - self.bottom - share * (self.height - self.top - self.bottom), 2)


SMALL = Axes(width=160, height=130, left=28, right=10, top=8, bottom=20)


def draw_roc(
    curves: Sequence[Curve], points: Sequence[tuple[float, float, str]], *, small: bool = False
) -> str:
    """Draw ROC curves and operating points (1 - specificity, sensitivity, tooltip).

    `small`: for a row of charts that share the titles of their axes.
    """
    axes = SMALL if small else Axes()
    parts = [_frame_shares(axes, "1 − specificity", "sensitivity"), _line(axes, (0, 1), (0, 1), css="chance")]
    return _svg(axes, [*parts, *_curves(axes, curves), *_points(axes, points)], "ROC curve")


def draw_precision_recall(
    curves: Sequence[Curve], points: Sequence[tuple[float, float, str]], *, small: bool = False
) -> str:
    """Draw precision over recall, and operating points (recall, precision, tooltip)."""
    axes = SMALL if small else Axes()
    parts = [_frame_shares(axes, "recall (sensitivity)", "precision (PPV)"), *_curves(axes, curves)]
    return _svg(axes, [*parts, *_points(axes, points)], "Precision-recall curve")


def draw_reliability(bins: Sequence[Bin], said: str, *, color: int, before: Sequence[Bin] = ()) -> str:
    """Draw the observed share over the predicted probability, with Wilson intervals.

    `before`: the same at temperature 1, drawn as a dotted line.
    """
    axes = Axes()
    parts = [
        _frame_shares(axes, f"probability of {said}", "share of images"),
        _line(axes, (0, 1), (0, 1), css="chance"),
    ]
    if before:
        points = [found.probability for found in before], [found.share for found in before]
        parts.append(_line(axes, *points, css="before", title="at temperature 1"))
    largest = max(found.images for found in bins)
    for found in bins:
        x = axes.across(found.probability)
        low, high = axes.up(found.interval[0]), axes.up(found.interval[1])
        title = (
            f"predicted {found.probability:.3f}, observed {found.share:.3f} of {found.images:,} images "
            f"(95% {found.interval[0]:.3f} to {found.interval[1]:.3f})"
        )
        radius = round(3 + 5 * math.sqrt(found.images / largest), 2)
        parts.append(f'<line class="whisker c{color % COLORS}" x1="{x}" x2="{x}" y1="{low}" y2="{high}"/>')
        place = f'cx="{x}" cy="{axes.up(found.share)}" r="{radius}"'
        parts.append(f'<circle class="dot c{color % COLORS}" {place}>{_title(title)}</circle>')
    joined = [found.probability for found in bins], [found.share for found in bins]
    return _svg(axes, [*parts, _line(axes, *joined, css=f"thin c{color % COLORS}")], "Reliability diagram")


def draw_histogram(
    counts: Sequence[int],
    title: str,
    *,
    color: int,
    threshold: float | None,
    band: tuple[float, float] | None = None,
    small: bool = False,
) -> str:
    """Draw a histogram of probabilities, with counts on a logarithmic scale.

    `threshold` and `band`, the probabilities that count as uncertain, are marked. A small one has no title.
    """
    top = max(1, *counts)
    shape = SMALL if small else Axes(height=170, bottom=42, top=22)
    axes = replace(shape, y=(0.0, math.log10(top + 1)))
    parts = [_frame_shares(axes, "", "images", y_ticks=_choose_count_ticks(axes, top))]
    if band is not None:
        left, right = axes.across(band[0]), axes.across(band[1])
        parts.append(
            f'<rect class="band" x="{left}" y="{axes.top}" width="{right - left:.2f}" '
            f'height="{axes.up(0) - axes.top:.2f}">{_title("uncertain")}</rect>'
        )
    parts += _bars(axes, counts, color)
    if threshold is not None:
        x = axes.across(threshold)
        parts.append(f'<line class="mark" x1="{x}" x2="{x}" y1="{axes.top}" y2="{axes.up(0)}"/>')
    if not small:
        parts.append(_text(axes.left, 14, title, css="caption", anchor="start"))
    return _svg(axes, parts, title)


def _bars(axes: Axes, counts: Sequence[int], color: int) -> list[str]:
    parts = []
    for index, count in enumerate(counts):
        low, high = index / HISTOGRAM_BINS, (index + 1) / HISTOGRAM_BINS
        left, right, top = axes.across(low), axes.across(high), axes.up(math.log10(count + 1))
        parts.append(
            f'<rect class="bar c{color % COLORS}" x="{left + 1:g}" y="{top:g}" '
            f'width="{max(0.5, right - left - 2):.2f}" height="{axes.up(0) - top:.2f}">'
            f"{_title(f'{low:.2f} to {high:.2f}: {count:,} images')}</rect>"
        )
    return parts


def _choose_count_ticks(axes: Axes, top: int) -> list[tuple[float, str]]:
    """Powers of ten and 0 on a logarithmic axis, without those whose labels would touch."""
    ticks: list[tuple[float, str]] = []
    for count in (*(10**k for k in reversed(range(len(str(top))))), 0):
        place = math.log10(count + 1)
        if all(abs(axes.up(place) - axes.up(other)) >= _LINE for other, _ in ticks) or not count:
            ticks.append((place, f"{count:,}"))
    return ticks


def draw_history(rows: Sequence[dict[str, float]], names: Sequence[str]) -> str:
    """Draw columns of a run's history over its epochs."""
    epochs = [row["epoch"] for row in rows]
    known = [row[name] for row in rows for name in names if name in row]
    low, high = min(known), max(known)
    ticks = choose_ticks(low, high)
    axes = Axes(
        x=(min(epochs), max(epochs) if len(epochs) > 1 else min(epochs) + 1),
        y=(min(ticks[0], low), max(ticks[-1], high)),
        height=260,
    )
    whole = sorted({int(tick) for tick in choose_ticks(*axes.x) if axes.x[0] <= tick <= axes.x[1]})
    parts = [
        _frame(
            axes,
            "epoch",
            "",
            x_ticks=[(tick, f"{tick}") for tick in whole],
            y_ticks=[(tick, f"{tick:g}") for tick in ticks],
        )
    ]
    for color, name in enumerate(names):
        pairs = [(row["epoch"], row[name]) for row in rows if name in row]
        xs, ys = [x for x, _ in pairs], [y for _, y in pairs]
        parts.append(_line(axes, xs, ys, css=f"curve c{color % COLORS}"))
        parts += [
            f'<circle class="dot c{color % COLORS}" cx="{axes.across(x)}" cy="{axes.up(y)}" r="2.5">'
            f"{_title(f'epoch {x:g}: {name} {y:.4f}')}</circle>"
            for x, y in pairs
        ]
    return _svg(axes, parts, "Training: " + ", ".join(names))


def choose_ticks(low: float, high: float) -> list[float]:
    """Return four to eight round numbers that span low to high."""
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    span = high - low
    step = 10.0 ** math.floor(math.log10(span / 4))
    step *= next(times for times in (1, 2, 5, 10) if span / (step * times) <= 6)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(index * step, 10) for index in range(first, last + 1)]


def draw_whisker(value: float, interval: tuple[float, float] | None) -> str:
    """Draw one value as a dot on a line, with its interval.

    The line is from 0 to 1, or longer at either end if the value or its interval is beyond; both ends are
    labelled. NaN: no dot.
    """
    known = [v for v in (value, *(interval or ())) if math.isfinite(v)]
    low, high = math.floor(min([0.0, *known])), math.ceil(max([1.0, *known]))
    axes = Axes(x=(low, high), width=200, height=18, left=22, right=22, top=0, bottom=0)
    parts = [
        f'<line class="grid" x1="{axes.across(low)}" x2="{axes.across(high)}" y1="9" y2="9"/>',
        _text(axes.left - 6, 13, f"{low:,}".replace("-", "−"), anchor="end"),
        _text(axes.width - axes.right + 6, 13, f"{high:,}", anchor="start"),
    ]
    if interval is not None and math.isfinite(interval[0]):
        parts.append(
            f'<line class="span c0" x1="{axes.across(interval[0])}" x2="{axes.across(interval[1])}" y1="9" '
            'y2="9"/>'
        )
    if math.isfinite(value):
        parts.append(f'<circle class="dot c0" cx="{axes.across(value)}" cy="9" r="4"/>')
    return f'<svg class="whiskers" viewBox="0 0 200 18" aria-hidden="true">{"".join(parts)}</svg>'


def draw_balance(counts: Sequence[tuple[str, int]]) -> str:
    """Draw one bar, a piece for each label, of up to `COLORS` labels."""
    total, left, parts = max(1, sum(count for _, count in counts)), 0.0, []
    for color, (label, count) in enumerate(counts):
        width = 1000 * count / total
        said = f"{label}: {count:,} images, {count / total:.1%}"
        parts.append(
            f'<rect class="bar c{color}" x="{left:.2f}" y="0" width="{max(0.0, width - 3):.2f}" '
            f'height="22" rx="3">{_title(said)}</rect>'
        )
        left += width
    return _wrap_bar("balance", 22, parts, "Class balance")


def draw_share(share: float) -> str:
    """Draw a share of 0 to 1 as a bar."""
    rest = '<rect class="rest" x="0" y="0" width="1000" height="8" rx="3"/>'
    bar = f'<rect class="bar c0" x="0" y="0" width="{1000 * share:.1f}" height="8" rx="3"/>'
    return _wrap_bar("fraction", 8, [rest, bar], "")


def _wrap_bar(css: str, height: int, parts: Sequence[str], said: str) -> str:
    spoken = f'role="img" aria-label="{said}"' if said else 'aria-hidden="true"'
    return (
        f'<svg class="{css}" viewBox="0 0 1000 {height}" preserveAspectRatio="none" {spoken}>'
        f"{''.join(parts)}</svg>"
    )


def _frame_shares(
    axes: Axes, x_title: str, y_title: str, *, y_ticks: Iterable[tuple[float, str]] | None = None
) -> str:
    """A frame for shares from 0 to 1; without titles and with three ticks in a small chart."""
    small = axes.width == SMALL.width
    ticks = [(tick, f"{tick:g}") for tick in (HALVES if small else UNIT_TICKS)]
    titles = ("", "") if small else (x_title, y_title)
    return _frame(axes, *titles, x_ticks=ticks, y_ticks=ticks if y_ticks is None else y_ticks)


def _frame(
    axes: Axes,
    x_title: str,
    y_title: str,
    *,
    x_ticks: Iterable[tuple[float, str]],
    y_ticks: Iterable[tuple[float, str]],
) -> str:
    """Grid lines, tick labels and titles ('': none) of both axes."""
    bottom, right = axes.height - axes.bottom, axes.width - axes.right
    parts = []
    for value, label in x_ticks:
        x = axes.across(value)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{axes.top}" y2="{bottom}"/>')
        parts.append(_text(x, bottom + 14, label))
    for value, label in y_ticks:
        y = axes.up(value)
        parts.append(f'<line class="grid" x1="{axes.left}" x2="{right}" y1="{y}" y2="{y}"/>')
        parts.append(_text(axes.left - 7, y + 4, label, anchor="end"))
    if x_title:
        parts.append(_text((axes.left + right) / 2, axes.height - 8, x_title, css="title"))
    if y_title:
        middle = (axes.top + bottom) / 2
        parts.append(
            f'<text class="title" text-anchor="middle" transform="translate(13 {middle}) rotate(-90)">'
            f"{escape_text(y_title)}</text>"
        )
    return "".join(parts)


def _curves(axes: Axes, curves: Sequence[Curve]) -> list[str]:
    return [
        _line(axes, curve.x, curve.y, css=f"curve c{curve.column % COLORS}", title=curve.label)
        for curve in curves
        if len(curve.x)
    ]


def _points(axes: Axes, points: Sequence[tuple[float, float, str]]) -> list[str]:
    return [
        f'<circle class="point" cx="{axes.across(x)}" cy="{axes.up(y)}" r="6">{_title(said)}</circle>'
        for x, y, said in points
        if not (math.isnan(x) or math.isnan(y))
    ]


def _line(
    axes: Axes,
    xs: Sequence[float] | np.ndarray,
    ys: Sequence[float] | np.ndarray,
    *,
    css: str,
    title: str = "",
) -> str:
    pairs = zip(xs, ys, strict=True)
    points = " ".join(f"{axes.across(float(x)):g},{axes.up(float(y)):g}" for x, y in pairs)
    return f'<polyline class="{css}" points="{points}">{_title(title) if title else ""}</polyline>'


def _text(x: float, y: float, text: str, *, css: str = "tick", anchor: str = "middle") -> str:
    return f'<text class="{css}" x="{x}" y="{y}" text-anchor="{anchor}">{escape_text(text)}</text>'


def _title(text: str) -> str:
    return f"<title>{escape_text(text)}</title>"


def _svg(axes: Axes, parts: Iterable[str], label: str) -> str:
    css = "chart mini" if axes.width == SMALL.width else "chart"
    return (
        f'<svg class="{css}" viewBox="0 0 {axes.width} {axes.height}" role="img" '
        f'aria-label="{escape_text(label)}">{"".join(parts)}</svg>'
    )
