"""What every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def xray_data() -> Path:
    """The folder of real X-rays ($WETREAD_DATA, or ../shared/data beside the checkout)."""
    folder = Path(os.environ.get("WETREAD_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "chest-xray-224").is_dir():
        pytest.skip(f"no real X-rays: neither $WETREAD_DATA nor {folder} holds chest-xray-224")
    return folder
