"""`store/.wetread-store`, by which a node knows its store, and keeps other nodes from it."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import BinaryIO

from wetread.errors import OutputError
from wetread.runtime.files.atomic import write_file
from wetread.runtime.files.locks import lock_file

MARKER = ".wetread-store"


class StoreMarker:
    """The marker of one folder; the empty folder that is left where a disk is not mounted has none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: BinaryIO | None = None

    @property
    def exists(self) -> bool:
        """Whether the folder is a store."""
        return (self._folder / MARKER).exists()

    def write(self, *, mode: int) -> None:
        """Make the folder a store. Raises OSError."""
        write_file(self._folder / MARKER, b"", mode=mode)

    def check(self) -> None:
        """Raise OSError where the folder is not the store, but what is left where its disk is not mounted."""
        if not self.exists:
            raise OSError(
                errno.ENODEV,
                f"the store is not there, {MARKER} is missing in it: mount its disk, or start the node again",
            )

    def take(self) -> None:
        """Lock the store until `close`: a node with another output would delete what this one has to send.

        Raises OutputError where another node has it, and OSError.
        """
        self._held = (self._folder / MARKER).open("r+b")
        if not lock_file(self._held):
            raise OutputError(
                f"Another node uses the store {str(self._folder)!r}. Stop that one, or choose another store."
            )

    def close(self) -> None:
        """Let other nodes use the store."""
        if self._held is not None:
            self._held.close()
