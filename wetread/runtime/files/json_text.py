"""Records as JSON text that every reader takes."""

from __future__ import annotations

import json
import math
from typing import Any


def write_record(values: Any) -> str:
    """Write values as indented JSON, with a line end. `null` stands for NaN and infinity.

    JSON has neither (RFC 8259, 6): what Python's `json` writes for them other readers refuse.
    """
    return json.dumps(make_plain(values), indent=2, allow_nan=False) + "\n"


def make_plain(value: Any) -> Any:
    """Return a value as JSON holds it: None in place of NaN and infinity, lists in place of tuples."""
    if isinstance(value, dict):
        return {key: make_plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [make_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
