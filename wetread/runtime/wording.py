"""Text for people: plurals, and characters that a terminal shows.

>>> pluralize("study"), make_printable("a\\nb.png")
('studies', 'a\\\\nb.png')
"""

from __future__ import annotations

import re
from unicodedata import combining, east_asian_width

_JOINERS = "\u200c\u200d"  # without a width: Persian, Hindi and some emoji need them


def pluralize(word: str) -> str:
    """Return the plural of an English noun: patients, studies, biopsies, boxes; 'series' stays."""
    if re.search(r"[^aeiou]y$", word):
        return f"{word[:-1]}ies"
    if re.search(r"(ss|us|x|z|ch|sh)$", word):
        return f"{word}es"
    return word if word.endswith("s") else f"{word}s"


def make_printable(text: str) -> str:
    """Write characters that cannot be printed as escapes: a line stays one line, and controls do nothing."""
    return "".join(
        letter if letter.isprintable() or letter in _JOINERS else letter.encode("unicode_escape").decode()
        for letter in text
    )


def measure_width(text: str) -> int:
    """Count the columns that a text takes in a terminal: a Chinese character takes two, an accent none."""
    return sum(0 if combining(c) or c in _JOINERS else 2 if east_asian_width(c) in "WF" else 1 for c in text)
