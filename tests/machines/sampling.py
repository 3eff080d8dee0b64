"""A plugin of pytest: one test in so many, by the checksum of its name, and for so many seconds.

`-p tests.machines.sampling --every 20 --budget 300`. The same tests on every machine and every day.
"""

from __future__ import annotations

import math
import time
import zlib

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the two options."""
    parser.addoption("--every", type=int, default=1, help="run one test in so many")
    parser.addoption("--budget", type=float, default=math.inf, help="begin no test after so many seconds")


def is_chosen(name: str, every: int) -> bool:
    """Whether a test is in the sample of one in `every`; what stands before tests/ does not count."""
    slashed = name.replace("\\", "/")
    return zlib.crc32(slashed[max(slashed.find("tests/"), 0) :].encode()) % every == 0


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not in the sample."""
    left_out = [item for item in items if not is_chosen(item.nodeid, config.getoption("--every"))]
    if left_out:
        items[:] = [item for item in items if item not in set(left_out)]
        config.hook.pytest_deselected(items=left_out)


class Budget:
    """Ends the session once the time is used up."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Ask for the end after a test."""
        if time.monotonic() > self.end:
            self.session.shouldstop = "the time is used up"

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Keep the session."""
        self.session = session


def pytest_configure(config: pytest.Config) -> None:
    """Start the clock."""
    if math.isfinite(config.getoption("--budget")):
        config.pluginmanager.register(Budget(config.getoption("--budget")), "wetread-budget")
