"""What `wetread export` prints of a file and of the forms that were tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wetread.cli.tables import print_rows, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wetread.export.judging import Candidate
    from wetread.export.options import ExportResult


def print_candidates(candidates: Sequence[Candidate]) -> None:
    """Print the forms that were tried, a row for each."""
    header = ("form", "flips", "change of AUC", "mean |dp|", "kB", "images/s", "speed", "safe", "holds")
    rows = [
        (
            f"{'* ' if found.chosen else '  '}{found.name}",
            f"{found.flips} of {found.images}",
            "-" if found.auc_change is None else f"{found.auc_change:+.4f}",
            f"{found.mean_difference:.1e}",
            f"{found.size / 1e3:.0f}",
            f"{found.speed:,.0f}" if found.speed else "-",
            f"{found.speedup:.2f} x" if found.speedup else "-",
            "yes" if found.safe else "NO",
            "yes" if found.holds else "NO",
        )
        for found in candidates
    ]
    print_table(header, rows)


def describe_difference(result: ExportResult) -> list[tuple[str, str]]:
    """The difference between the written form and Keras, and that of the float32 form it was made from."""
    text = f"max |dp| {result.difference:.1e} from Keras over {result.compared:,} images"
    chosen = next((candidate for candidate in result.candidates if candidate.chosen), None)
    if chosen is None:
        return [("conversion", text)]
    own = (
        f"max |dp| {chosen.max_difference:.1e} from Keras, {chosen.flips:,} labels flip, over "
        f"{chosen.images:,} held-out images"
    )
    return [(result.spec.precision, own), ("float32", f"{text} (not written)")]


def print_result(result: ExportResult) -> None:
    """Print where the file is, how it compares, and what its user should know."""
    from wetread.runtime.model.description import describe_spec

    if result.candidates:
        print_candidates(result.candidates)
        print()
    shown = {"decision", "uncertain", "temperature"}
    shown |= set() if result.spec.scope is None else {"scope", "scope unlike"}
    rows = [
        ("model", f"{result.path} ({result.size:,} bytes, {result.spec.precision})"),
        *describe_difference(result),
        *(row for row in describe_spec(result.spec) if row[0] in shown),
        ("digest", result.spec.digest),
    ]
    if result.report:
        rows.append(("candidates", str(result.report)))
    if result.signature:
        rows.append(("signature", str(result.signature)))
    rows += [("note", note) for note in result.notes]
    print_rows(rows)
