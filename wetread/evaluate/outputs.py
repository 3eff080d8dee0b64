"""Write the results of an evaluation: metrics.json, predictions.csv and report.html, each atomically."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from wetread.errors import OutputError
from wetread.evaluate.evaluation import Evaluation
from wetread.evaluate.reader_labels import Judgement, encode_rows
from wetread.evaluate.scores import Scores
from wetread.runtime.files.atomic import write_file
from wetread.runtime.scoring.rows import SCOPE, SCOPE_REASON, columns, encode_csv

METRICS, PREDICTIONS, OTHER_PREDICTIONS = "metrics.json", "predictions.csv", "predictions.compared.csv"
REPORT = "report.html"
FILES = (METRICS, PREDICTIONS, OTHER_PREDICTIONS, REPORT)


def check_output(folder: str, *, overwrite: bool) -> None:
    """Check, before anything is scored, that the files can be written to a folder. Raises OutputError."""
    place = Path(folder)
    there = [name for name in FILES if (place / name).exists()]
    if there and not overwrite:
        raise OutputError(
            f"--output {folder} already holds {', '.join(there)}. Replace them with --overwrite, or choose "
            "another folder."
        )
    try:
        place.mkdir(parents=True, exist_ok=True)
        with (place / f".{METRICS}.tmp").open("wb"):
            pass
        (place / f".{METRICS}.tmp").unlink()
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written: {error.strerror}. Choose another --output."
        ) from error


def write_outputs(evaluation: Evaluation, folder: str, *, thumbnails: bool = False) -> None:
    """Write every file into an existing folder; metrics.json last, which marks the results as complete.

    `thumbnails` puts images into the report. Raises OutputError.
    """
    from wetread.evaluate.report import render_report

    files = {
        PREDICTIONS: encode_predictions(evaluation.scores),
        REPORT: render_report(evaluation, thumbnails=thumbnails).encode(),
    }
    if evaluation.other is not None:
        files[OTHER_PREDICTIONS] = encode_predictions(evaluation.other)
    files[METRICS] = _encode(evaluation.to_dict())
    _write_files(files, folder)


def write_judgement(found: Judgement, folder: str) -> None:
    """Write the results of judging by readers into an existing folder, as `write_outputs` does.

    Raises OutputError.
    """
    from wetread.evaluate.report import render_readers_report

    files = {
        PREDICTIONS: encode_rows(found),
        REPORT: render_readers_report(found).encode(),
        METRICS: _encode(found.to_dict()),
    }
    _write_files(files, folder)


def _encode(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=2, allow_nan=False) + "\n").encode()


def _write_files(files: dict[str, bytes], folder: str) -> None:
    """Write files into a folder, in order, each of them whole; an earlier report's go first."""
    for name in FILES:
        (Path(folder) / name).unlink(missing_ok=True)
    for name, data in files.items():
        _replace(Path(folder) / name, data)


def _replace(path: Path, data: bytes) -> None:
    try:
        write_file(path, data)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from error


def encode_predictions(scores: Scores) -> bytes:
    """Write a row for each image: the columns of `wetread score`, the truth, the patient, and the scope's."""
    labels = scores.spec.labels
    scope = () if scores.spec.scope is None else (SCOPE, SCOPE_REASON)
    rows: list[list[Any]] = [[*columns(labels), "truth", "patient", *scope]]
    for image, found, group in zip(scores.images, scores.predictions, scores.groups, strict=True):
        values: Iterable[Any] = found.probabilities or [""] * len(labels)
        rows.append(
            [
                found.path,
                found.status,
                found.label,
                found.probability,
                *values,
                found.error,
                image.label,
                group,
                *(found.optional.get(name) for name in scope),
            ]
        )
    return encode_csv(rows)
