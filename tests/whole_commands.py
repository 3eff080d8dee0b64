"""Whole command lines that tests run as a user does, and what they need; {out} is a fresh folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from time import sleep

from tests.conftest import draw_image
from tests.runtime.images.dicom.drawing import draw_xray, write_dicom

STUDY = {"StudyInstanceUID": "1.2.3.0", "SeriesInstanceUID": "1.2.3.0.1"}

# What they need is made by `make_place`, and for the slow ones by `make_trained`.
QUICK = {
    "score": "score {images} --model {model} --output {out}/s.csv",
    "score jsonl": "score {broken} --model {model} --output {out}/s.jsonl",
    "manifest": "manifest {images} --output {out}/m.jsonl",
    "shard": "score --from-manifest {manifest} --shard 0/1 --model {model} --output {out}/shards",
    "merge": "merge {shards} --output {out}/merged.csv",
    "predict": "predict {image} {broken}/cut.jpg --model {model}",
    "explain": "explain {image} --model {model} --output {out}/e.png",
    "verify": "verify {model}",
    "inspect": "inspect {model}",
    "doctor": "doctor",
    "evaluate": "evaluate {labelled} --model {model} --output {out}/report",
    "watch": "watch {images} --model {model} --output {out}/w.csv --poll 0.1 --settle 0.1",
    "node": "node --host 127.0.0.1 --port 0 --allow *@* --model {model} --output {out}/n.csv",
    "report": "report {dicom} --model {model} --format sr --output {out}/r.dcm",
    "review": "review {scores} --images {images} --no-browser --reader Kim --output {out}/reviews.csv",
    "agreement": "agreement {kim} {lee} --output {out}/differences.csv",
    "usage": "score --no-such-option",
    "no model": "inspect {out}/none.onnx",
    "accept": "accept --model {model} --certificate {out}/none.html --output {out}/a.html",
    "bundle": "bundle {out}/none.onnx --output {out}/b.zip --platform win_amd64",
    "help": "--help",
    "version": "--version",
}
SLOW = {
    "train": "train {labelled} --output {out}/run --epochs 1 --size 32 --architecture model-1",
    "pretrain": "pretrain {labelled} --output {out}/body --epochs 1 --size 32",
    "tune": "tune {labelled} --output {out}/tuned --trials 1 --epochs 1 --size 32",
    "export": "export {run} --output {out}/m.onnx",
    "convert": "convert {run}/model.keras --output {out}/converted.keras",
    "parity": "parity {run} {exported} --images {images} --json {out}/p.json",
    "demo": "demo --data {labelled} --output {out}/demo",
}


# Commands that end when they are stopped: what is added to the output's name, and the lines waited for there.
STOPPED = {"watch": ("", 4), "node": ("", 1), "review": (".journal", 1)}


def run(line: str, closing: str = "") -> int:
    """Run a command in a shell and return its exit code; one of `STOPPED` is stopped at its rows."""
    command = f"set -f; exec {sys.executable} -m wetread {line} {closing}"
    process = subprocess.Popen(["sh", "-c", command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if (name := line.split()[0]) in STOPPED:
        wait_for_rows(line, name, process)
        process.terminate()
    return process.wait(600)


def wait_for_rows(line: str, name: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a command of `STOPPED` has written its lines, or has ended."""
    suffix, count = STOPPED[name]
    rows = Path(line.partition("--output ")[2].split()[0] + suffix)
    for _ in range(600):
        if process.poll() is not None or (rows.exists() and len(rows.read_bytes().splitlines()) >= count):
            sleep(0.5)  # the line is there, and the command has not taken note of it yet
            return
        sleep(0.1)


def make_place(root: Path, toy_model: Path) -> dict[str, Path]:
    """Make what the quick commands read, by the names that they hold."""
    for index in range(24):
        label = ("NORMAL", "PNEUMONIA")[index % 2]
        (root / "labelled" / label).mkdir(parents=True, exist_ok=True)
        (root / "labelled" / label / f"{index:02d}.jpg").write_bytes(draw_image(index))
    images, broken = root / "images", root / "broken"
    for folder in (images, broken):
        folder.mkdir()
        for index in range(3):
            (folder / f"{index}.jpg").write_bytes(draw_image(index))
    (broken / "cut.jpg").write_bytes(draw_image(1)[:900])
    (root / "image.dcm").write_bytes(write_dicom(draw_xray(8), bits=8, extra=STUDY))
    found = {"model": toy_model, "images": images, "broken": broken, "image": images / "0.jpg"}
    found["dicom"] = root / "image.dcm"
    found |= {"labelled": root / "labelled", "manifest": root / "m.jsonl", "shards": root / "shards"}
    for reader, label in (("kim", "NORMAL"), ("lee", "PNEUMONIA")):
        found[reader] = root / f"{reader}.csv"
        found[reader].write_text(f"path,label\n{images}/0.jpg,{label}\n{images}/1.jpg,NORMAL\n")
    found["scores"] = root / "scores.csv"
    score = QUICK["score"].replace("{out}/s.csv", "{scores}")
    for line in (
        score,
        "manifest {images} --output {manifest}",
        QUICK["shard"].replace("{out}/shards", "{shards}"),
    ):
        assert run(line.format(**found)) == 0
    return found


def make_trained(place: dict[str, Path]) -> dict[str, Path]:
    """Add a run and a model exported from it."""
    root = place["labelled"].parent
    found = place | {"run": root / "run", "exported": root / "exported.onnx"}
    assert run(SLOW["train"].replace("{out}/run", "{run}").format(**found)) == 0
    assert run(SLOW["export"].replace("{out}/m.onnx", "{exported}").format(**found)) == 0
    return found
