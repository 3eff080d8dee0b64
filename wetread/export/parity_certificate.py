"""A parity report that can be filed: what was compared, where, with what, and what came of it.

Its statement depends on the files and the machine alone, so that who repeats the comparison gets the same
statement, to the byte, and the same hash of it; date and timing stand beside it.
"""

from __future__ import annotations

import hashlib
import html
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wetread.errors import ExportError
from wetread.export.report import ParityReport, check_folder
from wetread.runtime.files.atomic import write_file
from wetread.runtime.machine import read_system

FORMAT = "wetread parity certificate 2"
_TIMING = ("milliseconds",)


def make_certificate(report: ParityReport) -> dict[str, Any]:
    """Turn a report into a certificate: `statement`, its SHA-256, and `circumstances`."""
    models = [
        {key: value for key, value in model.items() if key not in (*_TIMING, "path")}
        | {"file": Path(model["path"]).name}
        for model in report.to_dict()["models"]
    ]
    for model in models:
        model["flipped"] = [
            {key: value for key, value in flip.items() if key != "path"} for flip in model["flipped"]
        ]
    statement = {
        "format": FORMAT,
        "passed": report.passed,
        "reference": {"file": Path(report.reference).name, "sha256": report.reference_sha256},
        "data": {
            "images": report.images,
            "without_pixels": len(report.failures),
            "listing_sha256": report.listing_sha256,
        },
        "terms": report.to_dict()["terms"],
        "limits": {"tolerance_float32": report.tolerance, "max_flips": report.max_flips},
        "models": models,
        "owner": _name_owner(report),
        "contradictions": list(report.contradictions),
        "doubts": list(report.doubts),
        "taken_on_trust": list(report.trusted),
        "machine": report.machine,
        "versions": report.versions,
    }
    return {
        "statement": statement,
        "statement_sha256": hash_statement(statement),
        "circumstances": {
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "system": read_system(),
            "milliseconds_per_image": {
                "keras": round(report.keras_milliseconds, 4),
                **{Path(model.path).name: round(model.milliseconds, 4) for model in report.models},
            },
        },
    }


def _name_owner(report: ParityReport) -> dict[str, Any] | None:
    """What the owner's code answered, without the paths of files."""
    owner: dict[str, Any] | None = report.to_dict()["owner"]
    if owner is not None:
        del owner["other_pixels"]
    return owner


def hash_statement(statement: dict[str, Any]) -> str:
    """SHA-256 of a statement as compact JSON with sorted keys: 64 hex characters."""
    text = json.dumps(statement, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_certificate(report: ParityReport, path: str | os.PathLike[str]) -> None:
    """Write a certificate as `.json`, `.txt` or `.html`, by the name. Raises ExportError."""
    check_name(path)
    path = Path(path)
    writer = {".json": _to_json, ".txt": _to_text, ".html": _to_html}[path.suffix]
    try:
        text = writer(make_certificate(report))
        write_file(path, text.encode(errors="backslashreplace"))  # names need not be UTF-8
    except OSError as error:
        raise ExportError(f"{path} cannot be written: {error.strerror}.") from error


def check_name(path: str | os.PathLike[str]) -> None:
    """Before the work: can a certificate have this name, in this folder? Raises ExportError."""
    if Path(path).suffix not in (".json", ".txt", ".html"):
        raise ExportError(f"A certificate's name must end in .json, .txt or .html, unlike {os.fspath(path)}.")
    check_folder(path)


def _to_json(certificate: dict[str, Any]) -> str:
    return json.dumps(certificate, indent=2, sort_keys=True) + "\n"


def _flatten(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Nested JSON as rows of dotted name and value."""
    if isinstance(value, dict):
        rows = [_flatten(value[key], f"{name}.{key}" if name else key) for key in sorted(value)]
        return [row for part in rows for row in part]
    if isinstance(value, list | tuple):
        rows = [_flatten(one, f"{name}[{index}]") for index, one in enumerate(value)]
        return [row for part in rows for row in part]
    return [(name, json.dumps(value) if not isinstance(value, str) else value)]


def _to_text(certificate: dict[str, Any]) -> str:
    rows = _flatten(certificate)
    width = max(len(name) for name, _ in rows)
    return "\n".join([FORMAT, "", *(f"{name.ljust(width)}  {value}" for name, value in rows)]) + "\n"


def _to_html(certificate: dict[str, Any]) -> str:
    rows = "\n".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
        for name, value in _flatten(certificate)
    )
    verdict = "agree" if certificate["statement"]["passed"] else "DO NOT AGREE"
    return (
        f"<!doctype html>\n<meta charset='utf-8'><title>{FORMAT}</title>\n"
        "<style>body{font:14px/1.4 sans-serif;margin:2em}th{text-align:left;font-weight:normal;color:#555;"
        "padding-right:2em;vertical-align:top}td{font-family:monospace;word-break:break-all}</style>\n"
        f"<h1>{FORMAT}: the models {verdict}</h1>\n<table>\n{rows}\n</table>\n"
    )
