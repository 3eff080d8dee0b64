"""Labels that stand in a file beside a network, as Teachable Machine writes them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_NUMBERED = re.compile(r"(\d+)\s+(.+)")


@dataclass(frozen=True)
class LabelFile:
    """The labels of a file, in the order of the network's outputs."""

    path: Path
    labels: tuple[str, ...]


def read_labels(network: str | os.PathLike[str]) -> LabelFile | None:
    """Read labels.txt beside a network, or in the folder that it is; None where there is none.

    Each line is a label, or its number from 0 on and the label ("0 NORMAL").
    """
    place = Path(network)
    path = (place if place.is_dir() else place.parent) / "labels.txt"
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        return None
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    if lines and all(match and int(match[1]) == index for index, match in enumerate(numbered)):
        return LabelFile(path, tuple(match[2] for match in numbered if match))
    return LabelFile(path, tuple(lines)) if lines else None
