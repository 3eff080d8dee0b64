"""Make a folder to score, as it arrives at a workstation: new images, and broken files among them."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2

from wetread.demo.phantoms import draw_dataset, draw_phantom
from wetread.errors import OutputError

# Another seed draws other patients: none of the training images.
_SEED_OFFSET = 1_000_003


@dataclass(frozen=True, kw_only=True)
class Inbox:
    """What to score: `arguments` of `wetread score`, and the expected result for each file.

    `labels`: path to the label that was drawn (for the user's images, the folder's). `broken`: path to the
    status that its row must have.
    """

    arguments: tuple[str, ...]
    labels: Mapping[str, str]
    broken: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The check of the scores: `agreed` of `pictures` labels are correct; `statuses` counts all rows."""

    rows: int
    pictures: int
    agreed: int
    statuses: Mapping[str, int]


def fill_inbox(folder: Path, *, count: int, seed: int) -> Inbox:
    """Draw `count` new phantoms without labels into `folder`, with broken files among them."""
    drawn = draw_dataset(folder, count=count, seed=seed + _SEED_OFFSET, labelled=False)
    return Inbox(
        arguments=(str(folder),),
        labels={str(one.path): one.label for one in drawn},
        broken=write_broken_files(folder),
    )


def list_inbox(folder: Path, *, run: Path, data: Path, count: int) -> Inbox:
    """List up to `count` validation images of a RUN (nothing is copied), with broken files after them."""
    labels = list_split(run, data=data, split="val")
    step = max(1, len(labels) // count)
    labels = dict(list(labels.items())[::step][:count])
    broken = write_broken_files(folder)
    names = folder.with_suffix(".txt")
    text = "".join(f"{name}\n" for name in (*labels, *broken))
    names.write_text(text, encoding="utf-8", errors="surrogateescape")
    return Inbox(arguments=("--from-file", str(names)), labels=labels, broken=broken)


def list_split(run: Path, *, data: Path, split: str) -> dict[str, str]:
    """Map path to label for the images of a RUN's split, 'train' or 'val'."""
    with (run / "splits.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
        rows = list(csv.DictReader(stream))
    return {str(data / row["name"]): row["label"] for row in rows if row["split"] == split}


def write_broken_files(folder: Path) -> dict[str, str]:
    """Write a cut JPEG, one with an end marker appended, an empty file and a text; return their statuses."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = cv2.imencode(".jpeg", draw_phantom("NORMAL", size=(400, 400)))[1].tobytes()
    cut = whole[: len(whole) // 2]
    files = {
        "upload-cut.jpeg": (cut, "truncated"),
        "upload-cut-and-repaired.jpeg": (cut + b"\xff\xd9", "truncated"),
        "upload-empty.jpeg": (b"", "empty"),
        "upload-report.txt": (b"No acute findings.\n", "not_an_image"),
    }
    for name, (data, _) in files.items():
        (folder / name).write_bytes(data)
    return {str(folder / name): status for name, (_, status) in files.items()}


def check_scores(scores: Path, inbox: Inbox) -> Scored:
    """Compare the rows of a CSV of scores with the expected results.

    Raises OutputError if a file has no row, or a broken one has the wrong status.
    """
    with scores.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
        rows = {row["path"]: row for row in csv.DictReader(stream)}
    expected = dict.fromkeys(inbox.labels, "ok") | dict(inbox.broken)
    received = {path: row["status"] for path, row in rows.items()}
    if received != expected:
        wrong = sorted(set(received.items()) ^ set(expected.items()))[:3]
        raise OutputError(f"{scores} must have one row for each file, with its status. Wrong: {wrong}.")
    return Scored(
        rows=len(rows),
        pictures=len(inbox.labels),
        agreed=sum(rows[path]["label"] == label for path, label in inbox.labels.items()),
        statuses=Counter(received.values()),
    )
