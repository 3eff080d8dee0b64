"""What the tests of training share."""

from __future__ import annotations

from tests.runtime.conftest import cloud

__all__ = ["cloud"]
