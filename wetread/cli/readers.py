"""`wetread evaluate --reviews`: a model judged by readers' labels."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wetread.evaluate.readers import Judgement, ReadersOptions

METRICS, PREDICTIONS = "metrics.json", "predictions.csv"


def evaluate_by_readers(options: ReadersOptions, *, output: str | None, overwrite: bool) -> int:
    """Judge, print, and write metrics.json and predictions.csv into a folder; return the exit code."""
    from dataclasses import replace
    from tempfile import TemporaryDirectory

    from wetread.evaluate.outputs import check_output, write_tables
    from wetread.evaluate.readers import encode_rows, judge_by_readers
    from wetread.runtime.entries import is_bucket_location
    from wetread.runtime.gcs.mirror import stage_folder
    from wetread.runtime.scoring.scores_file import stage_scores

    with (
        stage_folder(output or "", names=(METRICS, PREDICTIONS)) as place,
        TemporaryDirectory(prefix="wetread-") as folder,
    ):
        if output is not None:
            check_output(place.folder, overwrite=overwrite)
        if is_bucket_location(options.scores):
            options = replace(options, scores=stage_scores(options.scores, folder))
        found = judge_by_readers(options)
        if output is not None:
            metrics = (json.dumps(found.to_dict(), indent=2, allow_nan=False) + "\n").encode()
            write_tables({PREDICTIONS: encode_rows(found), METRICS: metrics}, place.folder)
            place.publish()
    _print_judgement(found)
    if output is not None:
        print(f"\nwritten: {output}/{METRICS}, {PREDICTIONS}")
    return 3 if found.unscored else 0


def _print_judgement(found: Judgement) -> None:
    from wetread.cli.tables import print_rows, print_table
    from wetread.evaluate import tables

    spec, model, number = found.spec, found.model, tables.format_number
    rows = [
        ("model", f"{model.name or 'unknown'} ({spec.precision}, {model.digest[:12]})"),
        ("reviews", ", ".join(f"{count:,} {word}" for word, count in found.verdicts.items())),
        ("judged", f"{found.metrics.images:,} images of {found.metrics.patients:,} patients"),
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
    print_table(["", "weighted", "95% by patient", "unweighted"], values)
    print()
    print_table(*tables.tabulate_confusion(found.metrics))
    print()
    parts = [[f"{s.low:g} to {s.high:g}", f"{s.scored:,}", f"{s.labelled:,}"] for s in found.strata]
    print_table([spec.positive or "probability", "scored", "labelled by readers"], parts)
    print()
    for note in found.notes:
        print(f"note: {note}")
