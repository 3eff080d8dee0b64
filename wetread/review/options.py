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
    """The options of `wetread review`.

    `images`: where the scored folder is now. `names`: show columns that identify a patient. `max_memory`:
    bytes for one picture.
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
    """A decision as the page sends it. Raises UsageError for values that do not fit.

    `identity`: made by the page, so that a decision that is sent twice is written once. `verdict`: 'unsure'
    or 'unusable', or '' with a `label`. `seconds`: how long the picture was shown. `generation`: of the rows
    that the page has; it changes when the scores file is replaced.
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
            raise UsageError(f"A note may have at most {MOST_NOTE:,} letters, and seconds must be 0 or more.")
