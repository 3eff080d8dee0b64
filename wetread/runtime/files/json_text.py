"""Records as JSON text that every reader takes."""

from __future__ import annotations

import json
import math
from typing import Any


def write_record(values: Any) -> str:
    """Write values as indented JSON, with a line end. `null` stands for NaN and infinity.

    JSON has neither (RFC 8259, 6): what Python's `json` writes for them other readers refuse.
    """
    return json.dumps(replace_no_numbers(values), indent=2, allow_nan=False) + "\n"


def replace_no_numbers(value: Any) -> Any:
    """Return a value of dicts, lists and tuples with None in place of NaN and infinity."""
    if isinstance(value, dict):
        return {key: replace_no_numbers(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([replace_no_numbers(each) for each in value])
    return None if isinstance(value, float) and not math.isfinite(value) else value
