"""What every peer's process shares: its arguments, the files, its answers, its last line."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

NOT_RUN = 9

# onnxruntime reads it once, when it is imported: so each peer imports this module first.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"


def parse_arguments(description: str | None) -> argparse.Namespace:
    """Read what the benchmark passes to each peer."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", required=True, help="the ONNX file; for Keras the .keras file")
    parser.add_argument("--folder", required=True)
    parser.add_argument("--output", help="a CSV of path and label")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--precision", default="f32", help="what OpenVINO computes in; '': as it likes")
    return parser.parse_args()


def list_files(folder: str) -> list[str]:
    """Every file below a folder, in order."""
    return sorted(str(path) for path in Path(folder).rglob("*") if path.is_file())


def chunks(files: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Cut a list into batches."""
    for start in range(0, len(files), size):
        yield files[start : start + size]


def finish(
    arguments: argparse.Namespace, files: Sequence[str], labels: Iterable[int], seconds: float
) -> None:
    """Write the answers, and print what the benchmark reads: images, and seconds from first to last."""
    if arguments.output:
        with open(arguments.output, "w", newline="") as stream:
            csv.writer(stream).writerows(
                [os.path.relpath(f, arguments.folder), int(label)]
                for f, label in zip(files, labels, strict=True)
            )
    print(json.dumps({"images": len(files), "seconds": seconds}))


def give_up(error: Exception) -> Any:
    """Say why this peer cannot run here, and leave."""
    print(f"{type(error).__name__}: {error}".splitlines()[0])
    sys.exit(NOT_RUN)
