"""Score as `wetread score` does, in worker processes from the first image on.

    python -m tests.runtime.scoring.process_run score FOLDER --output FILE --workers 2 ...

An image of which the name begins with `kills` ends the worker process that reads it; `WETREAD_TEST_SLOW` says
how many seconds each takes.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from wetread.errors import SlowImageWarning, SourceError
from wetread.runtime.entries import Entry
from wetread.runtime.files.reading import read_entry
from wetread.runtime.scoring import chunk_scorer, processes
from wetread.runtime.sources.opening import Chain


def read_here(entry: Entry) -> bytes:
    """Read as a worker process does."""
    time.sleep(float(os.environ.get("WETREAD_TEST_SLOW", "0")))
    name = os.path.basename(entry.name)
    if name.startswith("kills"):
        os._exit(9)
    if name.startswith("outage"):
        raise SourceError("The disk is gone.")
    if name.startswith("slow"):
        import warnings

        warnings.warn(f"{name} is slow.", SlowImageWarning, stacklevel=2)
    return read_entry(entry)


@contextmanager
def only_processes() -> Iterator[list[int]]:
    """Let every run use processes, and nothing but them. Yields their process ids, once it is over."""
    started: list[int] = []

    class Ready(processes.Processes):
        def __init__(
            self, opening: processes.Opening, *, count: int, otherwise: processes.DoWork, **how: Any
        ) -> None:
            super().__init__(opening, count=count, otherwise=otherwise, **how)
            self.begin()
            self._starter.join()
            started.extend(process._process.pid for process in self._all)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a thread scored")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "LONG_SECONDS", 0.0)
        patch.setattr(processes, "count_processors", lambda: 64)
        patch.setattr(processes, "PATIENCE_SECONDS", 0.0)
        patch.setattr(processes, "Processes", Ready)
        patch.setattr(chunk_scorer.ChunkScorer, "score", refuse)
        patch.setattr(chunk_scorer.ChunkDecoder, "decode", refuse)
        patch.setattr(Chain, "read_file", property(lambda _: read_here))
        yield started


if __name__ == "__main__":
    from tests.runtime.scoring import process_run
    from wetread.cli import main

    sys.argv[0] = "wetread"
    with process_run.only_processes():
        main()
