"""The protocol of an acceptance: JSON for programs, and an HTML page to print, sign and file."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from traceback import extract_tb
from typing import Any

from wetread.bundle.acceptance.steps import STEPS, AcceptOptions, Found, Result, Step
from wetread.errors import OutputError, WetreadError
from wetread.packages import RESULT_PACKAGES, find_versions
from wetread.runtime.files.atomic import write_file
from wetread.runtime.machine import read_processor, read_system
from wetread.runtime.model.file_reading import read_model
from wetread.runtime.model.spec import check_digest

FORMAT = "wetread acceptance 1"
NOTICE = "Not a medical device; not for diagnosis."
_STYLE = (
    "body{font:14px/1.4 sans-serif;margin:2em;max-width:60em}table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;vertical-align:top;padding:.3em .8em .3em 0;border-bottom:1px solid #ccc}"
    "th,.number,.result{white-space:nowrap}.facts th,.sign th{width:6em}"
    "td{overflow-wrap:break-word}.found,.facts td{overflow-wrap:anywhere}"
    ".FAILED{font-weight:bold}.sign td{height:2.5em;border-bottom:1px solid #000}"
)


@dataclass(frozen=True)
class Line:
    """One step that was run."""

    number: str
    do: str
    expect: str
    found: str
    result: Result
    seconds: float


def run_steps(
    options: AcceptOptions, *, steps: tuple[Step, ...] = STEPS, report: Callable[[str], None] | None = None
) -> list[Line]:
    """Run the steps in a temporary folder; a step that raises has failed. `report` is called with each."""
    lines = []
    with TemporaryDirectory(prefix="wetread-accept-") as folder:
        for step in steps:
            started = monotonic()
            try:
                found = step.run(options, Path(folder))
            except (WetreadError, OSError) as error:
                found = Found(Result.FAILED, str(error))
            except Exception as error:  # noqa: BLE001 - told below
                # Whatever it is, the protocol is written. Not its message: it may name a picture.
                last = extract_tb(error.__traceback__)[-1]
                where = f"{Path(last.filename).name}:{last.lineno}"
                found = Found(Result.FAILED, f"ended by an unforeseen {type(error).__name__} at {where}")
            text = " ".join(found.text.replace(folder, "...").split())
            seconds = round(monotonic() - started, 1)
            lines.append(Line(step.number, step.do, step.expect, text, found.result, seconds))
            if report is not None:
                report(f"{step.number:3} {found.result:8} {step.do}: {text}")
    return lines


def identify_model(options: AcceptOptions) -> dict[str, str]:
    """Return the model's file name and digest. Raises ModelError, TamperedModelError for a changed one."""
    data, name = read_model(options.model)
    return {"file": Path(name).name, "sha256": check_digest(data, name=name)}


def make_protocol(model: dict[str, str], lines: list[Line]) -> dict[str, Any]:
    """Describe an acceptance: the verdict, the steps, the model, the machine, and what is installed.

    `model`: what `identify_model` returned before the first step.
    """
    system, processor = read_system(), read_processor()
    return {
        "format": FORMAT,
        "accepted": not any(line.result == Result.FAILED for line in lines),
        "open": [line.number for line in lines if line.result in (Result.BY_HAND, Result.NOT_RUN)],
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": model,
        "machine": {**system, "architecture": processor.architecture, "features": list(processor.features)},
        "versions": find_versions(RESULT_PACKAGES),
        "steps": [asdict(line) for line in lines],
        "notice": NOTICE,
    }


def write_protocol(protocol: dict[str, Any], path: Path) -> Path:
    """Write a protocol as HTML, and as JSON beside it; return the name of the second. Raises OutputError."""
    beside = path.with_suffix(".json")
    try:
        write_file(beside, (json.dumps(protocol, indent=2) + "\n").encode())
        write_file(path, _to_html(protocol).encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise OutputError(f"{str(path)!r} cannot be written: {error.strerror or error}.") from error
    return beside


def summarize(protocol: dict[str, Any]) -> str:
    """Say in one sentence what came of it."""
    if not protocol["accepted"]:
        failed = [step["number"] for step in protocol["steps"] if step["result"] == Result.FAILED]
        return f"not accepted: step {', '.join(failed)} failed"
    still = f"; still to be done: step {', '.join(protocol['open'])}" if protocol["open"] else ""
    return f"accepted{still}"


def _to_html(protocol: dict[str, Any]) -> str:
    model, versions = protocol["model"], protocol["versions"]
    machine = ", ".join(
        value if isinstance(value, str) else " ".join(value) for value in protocol["machine"].values()
    )
    facts = [
        ("result", summarize(protocol)),
        ("made", protocol["made"]),
        ("model", f"{model['file']}, SHA-256 {model['sha256']}"),
        ("machine", machine),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("notice", protocol["notice"]),
    ]
    steps = "\n".join(_rows(protocol))
    signed = "".join(_fact(name, "") for name in ("name", "date", "signature"))
    verdict = _escape(summarize(protocol))
    return (
        f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>{FORMAT}</title>"
        f"<style>{_STYLE}</style></head><body>\n<h1>Acceptance of wetread: {verdict}</h1>\n"
        f"<table class='facts'>{''.join(_fact(*fact) for fact in facts)}</table>\n"
        "<h2>Steps</h2>\n<table><thead><tr><th scope='col'></th><th scope='col'>do</th>"
        "<th scope='col'>expect</th><th scope='col'>found</th><th scope='col'>result</th></tr></thead>"
        f"<tbody>\n{steps}\n</tbody></table>\n"
        f"<h2>Filed by</h2>\n<table class='sign'>{signed}</table>\n</body></html>\n"
    )


def _fact(name: str, value: str) -> str:
    return f"<tr><th scope='row'>{_escape(name)}</th><td>{_escape(value)}</td></tr>"


def _rows(protocol: dict[str, Any]) -> Iterator[str]:
    for step in protocol["steps"]:
        names = ("number", "do", "expect", "found")
        cells = "".join(f"<td class='{name}'>{_escape(step[name])}</td>" for name in names)
        result = step["result"]
        yield f"<tr>{cells}<td class='result {result.split()[0]}'>{_escape(result)}</td></tr>"


def _escape(text: object) -> str:
    return html.escape(str(text))
