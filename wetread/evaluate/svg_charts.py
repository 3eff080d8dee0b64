"""Draw charts as inline SVG, without a library or script; the page's style sheet sets their colours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from wetread.evaluate.curves import HISTOGRAM_BINS, Bin, Curve

UNIT_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
COLORS = 8  # classes c0 to c7 in report.css


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


def draw_roc(curves: Sequence[Curve], points: Sequence[tuple[float, float, str]]) -> str:
    """Draw ROC curves and operating points (1 - specificity, sensitivity, tooltip)."""
    axes = Axes()
    chance = _line(axes, (0, 1), (0, 1), css="chance")
    body = [_frame(axes, "1 − specificity", "sensitivity"), chance, *_curves(axes, curves)]
    return _svg(axes, [*body, *_points(axes, points)], "ROC curve")


def draw_precision_recall(curves: Sequence[Curve], points: Sequence[tuple[float, float, str]]) -> str:
    """Draw precision over recall, and operating points (recall, precision, tooltip)."""
    axes = Axes()
    body = [_frame(axes, "recall (sensitivity)", "precision (PPV)"), *_curves(axes, curves)]
    return _svg(axes, [*body, *_points(axes, points)], "Precision-recall curve")


def draw_reliability(bins: Sequence[Bin], said: str, *, color: int, before: Sequence[Bin] = ()) -> str:
    """Draw the observed share over the predicted probability, with Wilson intervals.

    `before`: the same at temperature 1, drawn as a dotted line.
    """
    axes = Axes()
    parts = [
        _frame(axes, f"probability of {said}", "share of images"),
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
) -> str:
    """Draw a histogram of probabilities, with counts on a logarithmic scale.

    `threshold` and `band`, the probabilities that count as uncertain, are marked.
    """
    top = max(1, *counts)
    axes = Axes(y=(0.0, math.log10(top + 1)), height=170, bottom=42, top=22)
    ticks = [(math.log10(n + 1), f"{n:,}") for n in (0, *(10**k for k in range(len(str(top)))))]
    parts = [_frame(axes, "", "images", y_ticks=ticks)]
    if band is not None:
        left, right = axes.across(band[0]), axes.across(band[1])
        parts.append(
            f'<rect class="band" x="{left}" y="{axes.top}" width="{right - left:.2f}" '
            f'height="{axes.up(0) - axes.top:.2f}">{_title("uncertain")}</rect>'
        )
    for index, count in enumerate(counts):
        left, right = axes.across(index / HISTOGRAM_BINS), axes.across((index + 1) / HISTOGRAM_BINS)
        high = axes.up(math.log10(count + 1))
        said = f"{index / HISTOGRAM_BINS:.2f} to {(index + 1) / HISTOGRAM_BINS:.2f}: {count:,} images"
        parts.append(
            f'<rect class="bar c{color % COLORS}" x="{left + 1}" y="{high}" width="{right - left - 2:.2f}" '
            f'height="{axes.up(0) - high:.2f}">{_title(said)}</rect>'
        )
    if threshold is not None:
        x = axes.across(threshold)
        parts.append(f'<line class="mark" x1="{x}" x2="{x}" y1="{axes.top}" y2="{axes.up(0)}"/>')
    parts.append(_text(axes.left, 14, title, css="caption", anchor="start"))
    return _svg(axes, parts, title)


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
    """Draw one value from 0 to 1 as a dot on a line, with its interval."""
    axes = Axes(width=180, height=18, left=6, right=6, top=0, bottom=0)
    parts = [f'<line class="grid" x1="{axes.across(0)}" x2="{axes.across(1)}" y1="9" y2="9"/>']
    if interval is not None:
        low, high = axes.across(max(0.0, interval[0])), axes.across(min(1.0, interval[1]))
        parts.append(f'<line class="span c0" x1="{low}" x2="{high}" y1="9" y2="9"/>')
    if 0 <= value <= 1:
        parts.append(f'<circle class="dot c0" cx="{axes.across(value)}" cy="9" r="4"/>')
    return f'<svg class="whiskers" viewBox="0 0 180 18" aria-hidden="true">{"".join(parts)}</svg>'


def draw_balance(counts: Sequence[tuple[str, int]]) -> str:
    """Draw one bar, a piece for each label."""
    total, left, parts = max(1, sum(count for _, count in counts)), 0.0, []
    for color, (label, count) in enumerate(counts):
        width = 1000 * count / total
        said = f"{label}: {count:,} images, {count / total:.1%}"
        parts.append(
            f'<rect class="bar c{color % COLORS}" x="{left:.2f}" y="0" width="{max(0.0, width - 3):.2f}" '
            f'height="22" rx="3">{_title(said)}</rect>'
        )
        left += width
    return (
        '<svg class="balance" viewBox="0 0 1000 22" preserveAspectRatio="none" role="img" '
        f'aria-label="Class balance">{"".join(parts)}</svg>'
    )


def _frame(
    axes: Axes,
    x_title: str,
    y_title: str,
    *,
    x_ticks: Iterable[tuple[float, str]] | None = None,
    y_ticks: Iterable[tuple[float, str]] | None = None,
) -> str:
    """Grid lines, tick labels and titles of both axes."""
    unit = [(tick, f"{tick:g}") for tick in UNIT_TICKS]
    bottom, right = axes.height - axes.bottom, axes.width - axes.right
    parts = []
    for value, label in unit if x_ticks is None else x_ticks:
        x = axes.across(value)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{axes.top}" y2="{bottom}"/>')
        parts.append(_text(x, bottom + 16, label))
    for value, label in unit if y_ticks is None else y_ticks:
        y = axes.up(value)
        parts.append(f'<line class="grid" x1="{axes.left}" x2="{right}" y1="{y}" y2="{y}"/>')
        parts.append(_text(axes.left - 7, y + 4, label, anchor="end"))
    parts.append(_text((axes.left + right) / 2, axes.height - 8, x_title, css="title"))
    middle = (axes.top + bottom) / 2
    parts.append(
        f'<text class="title" text-anchor="middle" transform="translate(13 {middle}) rotate(-90)">'
        f"{escape(y_title)}</text>"
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
    return f'<text class="{css}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>"


def _svg(axes: Axes, parts: Iterable[str], label: str) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {axes.width} {axes.height}" role="img" '
        f'aria-label="{escape(label, quote=True)}">{"".join(parts)}</svg>'
    )
