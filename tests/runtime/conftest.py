"""What the tests of the runtime share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.runtime.gcs_server import Server, serve

# What a developer's machine may say about real accounts and networks, and a test must not hear.
_FOREIGN = (
    "API_ENDPOINT_OVERRIDE",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_CLOUD_PROJECT",
    "WETREAD_GCS_READER",
    *(name for name in os.environ if name.lower().endswith("_proxy")),
)


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A loopback Cloud Storage server, which every client of this process (and its children) asks."""
    for name in _FOREIGN:
        monkeypatch.delenv(name, raising=False)
    with serve() as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        yield server
