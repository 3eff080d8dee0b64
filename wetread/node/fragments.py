"""The fragments in which messages come: each message must be whole before the next one begins.

pynetdicom joins what comes. Where a sender broke off one object and began the next, the command of the second
would stand before the beginning of the first and the end of the second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# The first byte of a fragment (PS3.8, E.2): of a command, else of a data set; and whether it is the last one.
_COMMAND, _LAST = 0x01, 0x02


class Fragments:
    """Passes on the fragments of one association that follow one another as PS3.7 and PS3.8 have it."""

    def __init__(self, receive: Callable[[Any], None]) -> None:
        self._receive = receive
        self._unfinished: tuple[int, int] | None = None  # context and kind of what the next must go on with

    def receive(self, primitive: Any) -> None:
        """Pass on a P-DATA primitive. Raises ValueError for a fragment that belongs to another message."""
        for context, data in primitive.presentation_data_value_list:
            control = data[0]
            kind = (context, control & _COMMAND)
            if self._unfinished not in (None, kind):
                raise ValueError("a message begins before another one is whole")
            self._unfinished = None if control & _LAST else kind
        self._receive(primitive)
