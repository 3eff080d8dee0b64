"""`wetread evaluate --reviews`: what it prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wetread.evaluate.reader_labels import Judgement


def print_judgement(found: Judgement, output: str | None) -> None:
    """Print metrics, confusion matrix, the labelled share of each tenth, notes, and what was written."""
    from wetread.cli.tables import print_note, print_rows, print_table
    from wetread.evaluate import tables
    from wetread.evaluate.interface import READERS_FILES

    spec, model, number = found.spec, found.model, tables.format_number
    rows = [
        ("model", f"{model.name or 'unknown'} ({spec.precision}, {model.digest[:12]})"),
        ("reviews", ", ".join(f"{count:,} {word}" for word, count in found.verdicts.items())),
        ("judged", tables.describe_images(found.metrics, found.word)),
    ]
    if found.unscored:
        rows.append(("without a score", f"{found.unscored:,} reviewed images"))
    if spec.positive is not None:
        rows.append(("decision", f"{spec.positive} at >= {spec.threshold:g} (rule: {spec.threshold_rule})"))
    print_rows(rows)
    print()
    plain = {value.name: value.value for value in tables.list_values(found.plain)}
    values = [
        [v.title, number(v.value), tables.format_interval(v.interval), number(plain[v.name])]
        for v in tables.list_values(found.metrics)
    ]
    print_table(["", "weighted", f"95% by {found.word}", "unweighted"], values)
    print()
    print_table(*tables.tabulate_confusion(found.metrics))
    print()
    parts = [[f"{s.low:g} to {s.high:g}", f"{s.scored:,}", f"{s.labelled:,}"] for s in found.strata]
    print_table([spec.positive or "probability", "scored", "labelled by readers"], parts)
    print()
    for note in found.notes:
        print_note(note)
    if output is not None:
        print(f"\nwritten: {output}/{', '.join(READERS_FILES)}")
