"""End a watch hard while files arrive, start it again, and see whether every file has its one row."""

from __future__ import annotations

import csv
import subprocess
import time
from collections import Counter
from pathlib import Path

from wetread.bundle.acceptance.commands import name_wetread
from wetread.bundle.selftest import draw_pictures

_FILES, _KILLS = 12, 3
_SECONDS = 120.0


def watch_with_kills(model: str, folder: Path) -> tuple[str, str]:
    """Return what is wrong ('' if nothing is), and what was seen."""
    inbox, output = folder / "in", folder / "scores.csv"
    inbox.mkdir(parents=True)
    picture = draw_pictures(with_dicom=False)["1.jpg"]
    process, kills = _start(model, inbox, output), 0
    try:
        for number in range(_FILES):
            _deliver(inbox, number, picture)
            if number % (_FILES // _KILLS) == 1:
                problem = _wait_for(output, 1 + number // 2, process) or _find_end(process)
                if problem:
                    return problem, ""
                process.kill()
                process.wait()
                process, kills = _start(model, inbox, output), kills + 1
        problem = _wait_for(output, _FILES, process)
        time.sleep(1)  # a second row of a file would come now
        problem = problem or _find_end(process)
    finally:
        process.kill()
        process.wait()
    return problem or _judge(output), f"{kills} times ended hard, {_FILES} files, {_FILES} rows, each once"


def _start(model: str, inbox: Path, output: Path) -> subprocess.Popen[bytes]:
    line = ["watch", str(inbox), "--output", str(output), "--model", model, "--quiet"]
    quick = ["--poll", "0.1", "--settle", "0.2", "--patience", "1"]
    return subprocess.Popen(
        [*name_wetread(), *line, *quick], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _deliver(inbox: Path, number: int, picture: bytes) -> None:
    """Write a file as senders do: in two parts under its name, or under another name that is renamed."""
    path = inbox / f"{number}.jpg"
    if number % 2:
        staged = inbox / f"{number}.jpg.part"
        staged.write_bytes(picture)
        staged.rename(path)
        return
    with path.open("wb") as file:
        file.write(picture[:100])
        file.flush()
        file.write(picture[100:])


def _read(output: Path) -> list[dict[str, str]]:
    if not output.exists():
        return []
    with output.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _wait_for(output: Path, count: int, process: subprocess.Popen[bytes]) -> str:
    """Wait for rows; return what is wrong if they do not come."""
    end = time.monotonic() + _SECONDS
    while len(_read(output)) < count:
        if ended := _find_end(process):
            return ended
        if time.monotonic() > end:
            return f"{len(_read(output))} rows after {_SECONDS:.0f} s, in place of {count}"
        time.sleep(0.1)
    return ""


def _find_end(process: subprocess.Popen[bytes]) -> str:
    """Return what is wrong with a watch that ended without being asked to; '' if it runs."""
    if process.poll() is None:
        return ""
    return f"wetread watch ended by itself, with exit code {process.returncode}"


def _judge(output: Path) -> str:
    rows = _read(output)
    counts = Counter(Path(row["path"]).name for row in rows)
    if counts != Counter(f"{number}.jpg" for number in range(_FILES)):
        return f"{len(rows)} rows of {len(counts)} files, in place of one for each of {_FILES}"
    answers = {(row["status"], *(row[name] for name in row if name.startswith("p_"))) for row in rows}
    if len(answers) != 1 or {row["status"] for row in rows} != {"ok"}:
        return f"the same picture has {len(answers)} different rows"
    return ""
