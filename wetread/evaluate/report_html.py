"""HTML elements of the report: escaped text, numbers, tables, figures.

A number from metrics.json carries its key there (`data-key`) and its full value (`data-value`), so that a
test can compare the page with the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from unicodedata import east_asian_width

from wetread.evaluate.svg_charts import COLORS, escape_text
from wetread.evaluate.tables import format_number, format_sign


def show_text(text: str) -> str:
    """Escape text for HTML, as `escape_text` does."""
    return escape_text(text)


def show_name(name: str) -> str:
    """Escape a name that stands beside other text; its direction of writing stays its own."""
    return f"<bdi>{show_text(name)}</bdi>"


def show_path(path: str) -> str:
    """Escape a path, which is written from left to right whatever it names."""
    return f'<bdi dir="ltr">{show_text(path)}</bdi>'


def shorten_text(text: str, width: int) -> str:
    """Shorten text for a place of so many narrow letters; a Chinese character takes two."""
    taken = 0
    for index, letter in enumerate(text):
        taken += 2 if east_asian_width(letter) in "WF" else 1
        if taken > width:
            return text[: max(1, index - 1)].rstrip() + "…"
    return text


def show_number(value: float, key: str, *, text: str | None = None) -> str:
    """Show a number with its key in metrics.json and its full value: four decimals, or `text`."""
    shown = format_number(value) if text is None else text
    full = "null" if math.isnan(value) else repr(value)
    return f'<span data-key="{show_text(key)}" data-value="{full}">{show_text(shown)}</span>'


def show_count(value: int, key: str) -> str:
    """Show a count with its key in metrics.json."""
    return show_number(value, key, text=f"{value:,}")


def show_interval(interval: tuple[float, ...] | None, key: str, *, signed: bool = False) -> str:
    """Show an interval, both ends with their keys; '' without one."""
    if interval is None or math.isnan(interval[0]):
        return ""
    texts = [format_sign(end) if signed else None for end in interval]
    low, high = (
        show_number(end, f"{key}.{index}", text=text)
        for (index, end), text in zip(enumerate(interval, start=int(signed)), texts, strict=True)
    )
    return f"{low} to {high}"


def make_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: int = 0, stacked: bool = False
) -> str:
    """Make a table of cells that are already HTML, the last `numbers` columns right-aligned.

    `stacked`: on a narrow page each row becomes a block, in which every value has its column's title.
    """
    first, titles = len(header) - numbers, header if stacked else ()
    head = "".join(f'<th scope="col"{_number_class(i >= first)}>{cell}</th>' for i, cell in enumerate(header))
    body = "".join(f"<tr>{_cells(row, first, titles)}</tr>" for row in rows)
    css = ' class="stacked"' if stacked else ""
    return (
        f'<div class="fitted"><table{css}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _cells(row: Sequence[str], first: int, titles: Sequence[str]) -> str:
    named = [f' data-title="{title}"' for title in titles] or [""] * len(row)
    cells = (f"<td{_number_class(i >= first)}{named[i]}>{cell}</td>" for i, cell in enumerate(row) if i)
    return f'<th scope="row">{row[0]}</th>{"".join(cells)}'


def _number_class(number: bool) -> str:
    return ' class="number"' if number else ""


def make_figure(chart: str, caption: str, *, legend: str = "") -> str:
    """Make a panel of a chart, its legend and its caption (already HTML)."""
    return f'<figure class="panel">{chart}{legend}<figcaption>{caption}</figcaption></figure>'


def make_legend(names: Sequence[tuple[int, str]], *, ring: str = "") -> str:
    """Make a legend: each name with the number of its colour; `ring` names the operating point."""
    items = [f'<li class="c{i % COLORS}">{show_name(name)}</li>' for i, name in names]
    if ring:
        items.append(f'<li class="ring">{show_text(ring)}</li>')
    return f'<ul class="legend">{"".join(items)}</ul>'


def make_section(title: str, *parts: str, css: str = "") -> str:
    """Make a section with a heading. `css`: a class of its own."""
    kind = f' class="{css}"' if css else ""
    return f"<section{kind}><h2>{show_text(title)}</h2>{''.join(parts)}</section>"
