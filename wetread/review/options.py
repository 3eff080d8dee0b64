"""The options of a reading room, and the decisions that its page sends."""

from __future__ import annotations

import re
from dataclasses import dataclass

from wetread.errors import UsageError
from wetread.evaluate.reviews import Verdict
from wetread.runtime.images.limits import MAX_MEMORY

MOST_NOTE = 2000


@dataclass(frozen=True, kw_only=True)
class RoomOptions:
    """What is looked at, and by whom.

    `images`: the folder that was scored, where it is now. `names`: show columns that tell who a patient is.
    """

    scores: str
    output: str
    reader: str
    images: str | None = None
    model: str | None = None
    device: str = "auto"
    blind: bool = False
    seed: int = 0
    names: bool = False
    group_regex: str | None = None
    max_memory: int = MAX_MEMORY
    project: str | None = None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What the page sends. `identity` is its own, so that what is sent twice is written once.

    `verdict`: '' for a label. `seconds`: how long the picture was in view. `generation`: of the rows that
    the page knows.
    """

    identity: str
    number: int
    generation: int
    verdict: str = ""
    label: str = ""
    note: str = ""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9A-Za-z-]{8,64}", self.identity):
            raise UsageError("The identity must be 8 to 64 letters and digits.")
        known = self.verdict in ("", Verdict.UNSURE, Verdict.UNUSABLE)
        if not known or bool(self.label) == bool(self.verdict):
            raise UsageError("Give either a label or the verdict unsure or unusable.")
        if len(self.note) > MOST_NOTE or not 0 <= self.seconds < 1e6:
            raise UsageError(f"A note may have {MOST_NOTE:,} letters at most, and seconds must be 0 or more.")
