"""A network that was opened, and what its user should know of how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A network of Keras 3. `notes`: sentences on how it was read. `is_graph`: it has no layers of its "
    "own."""

    model: Any
    notes: tuple[str, ...] = ()
    is_graph: bool = False
