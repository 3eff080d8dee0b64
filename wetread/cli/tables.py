"""Plain tables on standard output, which can be pasted into a mail and parsed by a script.

A label or a name of a file cannot break a line or move the cursor: such characters are printed as escapes.
"""

from __future__ import annotations

from collections.abc import Sequence


def print_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Print rows of a name and a value."""
    from wetread.runtime.wording import make_printable, measure_width

    cells = [(make_printable(name), make_printable(value)) for name, value in rows]
    width = max(measure_width(name) for name, _ in cells)
    for name, value in cells:
        print(f"{name}{' ' * (width - measure_width(name))}  {value}")


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: the first column to the left, the others to the right."""
    from wetread.runtime.wording import make_printable, measure_width

    cells = [[make_printable(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(measure_width, column)) for column in zip(*cells, strict=True)]
    for first, *others in cells:
        parts = [first + " " * (widths[0] - measure_width(first))]
        parts += [" " * (w - measure_width(cell)) + cell for cell, w in zip(others, widths[1:], strict=True)]
        print("  ".join(parts).rstrip())


def print_note(note: str) -> None:
    """Print a caution about what was printed."""
    from wetread.runtime.wording import make_printable

    print(f"note: {make_printable(note)}")
