"""The report's confusion matrix, for 2 labels to 120.

A matrix is as wide as the page, whatever that is. What does not fit is left out: first the shares, then the
names of the columns, then the counts; the colours stay. A large matrix is followed by a small one of the
labels that are confused most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wetread.evaluate.judged_images import Confusion
from wetread.evaluate.metrics import Metrics
from wetread.evaluate.report_html import make_section, shorten_text, show_count, show_name, show_text

FULL = 12  # labels of a matrix in which every cell shows its count and share
LARGEST = 120  # labels of the largest matrix that is drawn
NUMBERED = 6  # up to so many labels, the columns' names fit above them, and no numbers are needed
_WIDE = 40  # labels above which a matrix may be wider than the text
_NAME = 26  # letters of a name in a large matrix; the table of labels has them all
_TICK = 5  # every fifth column keeps its number on a narrow page
# Widths in pixels: of a name on its side, a number, a share; of a digit in the smallest print and the space.
_TURNED, _NUMBER, _SHARE = 11.5, 9.0, 56.0
_DIGITS = {"screen": (5.3, 3.0), "print": (3.75, 1.3)}
_LEGEND = (
    '<p class="small">A row for each true label, a column for each chosen one. <span class="swatch right">'
    '</span> right, <span class="swatch wrong"></span> wrong: the darker, the larger the share of the true '
    "label's images.{plain}</p>"
)


def show_confusion(metrics: Metrics, confusions: Sequence[Confusion], *, weighted: bool = False) -> str:
    """Show how many images of each true label got each label.

    `confusions`: the most frequent first. `weighted`: whether the metrics weight images; the counts do not.
    """
    count = len(metrics.labels)
    whole = _Matrix(metrics, tuple(range(count)), "all")
    legend = _LEGEND.format(plain=" Counts are without weights." if weighted else "")
    if count <= FULL:
        return make_section("Confusion", f'<div class="panel">{legend}{whole.draw()}</div>')
    if count <= LARGEST:
        css = "panel wide" if whole.wide else "panel"
        panel = f'<div class="{css}">{legend}{whole.draw()}</div>'
        parts = [make_section(f"Confusion of all {count} labels", panel, css="landscape")]
    else:
        said = f'<p class="small">{count:,} labels are too many for one matrix: see metrics.json.</p>'
        parts = [make_section("Confusion", said)]
    if worst := _choose_worst(metrics, confusions):
        panel = f'<div class="panel">{_Matrix(metrics, worst, "few").draw()}{legend}</div>'
        parts.append(make_section(f"The {len(worst)} labels that are confused most", panel))
    return "".join(parts)


def _choose_worst(metrics: Metrics, confusions: Sequence[Confusion]) -> tuple[int, ...]:
    """The labels of the most frequent confusions, in the model's order, at most `FULL`."""
    chosen: set[str] = set()
    for pair in confusions:
        if len(chosen | {pair.truth, pair.chosen}) > FULL:
            break
        chosen |= {pair.truth, pair.chosen}
    return tuple(index for index, label in enumerate(metrics.labels) if label in chosen)


@dataclass(frozen=True)
class _Matrix:
    """The rows and columns of some labels. `name`: the matrix's own in the style sheet."""

    metrics: Metrics
    shown: tuple[int, ...]
    name: str

    @property
    def large(self) -> bool:
        """Whether cells hold no more than a count."""
        return len(self.shown) > FULL

    @property
    def wide(self) -> bool:
        """Whether it may be wider than the text, and has less room for names on paper."""
        return len(self.shown) > _WIDE

    @property
    def numbered(self) -> bool:
        """Whether labels have numbers."""
        return len(self.metrics.labels) > NUMBERED

    def draw(self) -> str:
        """Draw it, with the rules for narrow pages."""
        cells = (self.metrics.confusion[down][across] for down in self.shown for across in self.shown)
        digits = max(len(f"{count:,}") for count in cells)
        rows = (
            f"<tr>{self._head_row(down)}{''.join(self._cell(down, across) for across in self.shown)}</tr>"
            for down in self.shown
        )
        size, css = f"--labels: {len(self.shown)}; --digits: {digits}", " large" if self.large else ""
        heads = "".join(map(self._head_column, self.shown))
        return (
            f'<style>\n{self._style(digits)}</style><div class="matrix-box" style="{size}">'
            f'<table class="matrix {self.name}{css}"><colgroup><col class="head">'
            f'<col span="{len(self.shown)}"></colgroup><thead><tr><td class="corner">truth ↓ chosen →</td>'
            f"{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        )

    def _style(self, digits: int) -> str:
        """Leave out what does not fit: the page must have some width for counts, shares, names, numbers."""
        least = {".share": _SHARE} if not self.large else {}
        if self.numbered:
            least["thead .label"] = _TURNED if self.large else _SHARE
            least["thead th:not(.tick) .index"] = _NUMBER
        rules = [self._hide(place, width, "screen") for place, width in least.items()]
        rules += [self._hide(place, width, "print") for place, width in least.items()]
        rules += [
            self._hide(".count", digits * digit + space, medium) for medium, (digit, space) in _DIGITS.items()
        ]
        return "".join(rules)

    def _hide(self, place: str, width: float, medium: str) -> str:
        """Hide something where a column has less than this width, in pixels. See report.css for the rest."""
        cells = len(self.shown) * width
        least = (
            min(cells / 0.75, cells + 240) if medium == "screen" else cells / (0.88 if self.wide else 0.79)
        )
        rule = f"@container matrix (max-width: {least:.0f}px) {{ .{self.name} {place} {{ display: none; }} }}"
        return f"@media {medium} {{ {rule} }}\n"

    def _head_column(self, index: int) -> str:
        tick = ' class="tick"' if (index + 1) % _TICK == 0 else ""
        return f'<th scope="col"{tick}><span>{self._name(index)}</span></th>'

    def _head_row(self, index: int) -> str:
        total = sum(self.metrics.confusion[index])
        images = "" if self.large else f'<span class="of">{total:,} images</span>'
        return f'<th scope="row">{self._name(index)}{images}</th>'

    def _name(self, index: int) -> str:
        label = self.metrics.labels[index]
        name = f'<span class="label">{show_name(shorten_text(label, _NAME) if self.large else label)}</span>'
        return f'<span class="index">{index + 1}</span> {name}' if self.numbered else name

    def _cell(self, down: int, across: int) -> str:
        labels, row = self.metrics.labels, self.metrics.confusion[down]
        count, part = row[across], row[across] / max(1, sum(row))
        if self.large and not count:
            return "<td></td>"
        tone = 0.08 + 0.5 * part**0.5 if count else 0.03
        said = show_text(f"{labels[down]}, chosen {labels[across]}: {count:,} ({part:.1%})")
        share = f'<span class="share">{part:.1%}</span>' if count and not self.large else ""
        number = show_count(count, f"metrics.confusion.{down}.{across}")
        return (
            f'<td class="{"right" if down == across else "wrong"}" style="--tone: {tone:.2f}" title="{said}">'
            f'<b class="count{"" if count else " zero"}">{number}</b>{share}</td>'
        )
