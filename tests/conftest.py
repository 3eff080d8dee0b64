"""What every test may use."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import cv2
import hypothesis
import numpy as np
import pytest

from tests.models import build_model, toy_spec

# A busy machine is not a failure: speed is measured in benchmarks/, never here.
# An emulated one draws fewer examples (tests/machines).
_EXAMPLES = int(os.environ.get("WETREAD_TEST_EXAMPLES", "100"))
hypothesis.settings.register_profile("wetread", deadline=None, max_examples=_EXAMPLES)
hypothesis.settings.load_profile("wetread")

# A shell starts what runs in the background (`make test &`) with Ctrl-C ignored, and so would be the commands
# that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def xray_data() -> Path:
    """The folder of real X-rays ($WETREAD_DATA, or ../shared/data beside the checkout)."""
    folder = Path(os.environ.get("WETREAD_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "chest-xray-224").is_dir():
        pytest.skip(f"no real X-rays: neither $WETREAD_DATA nor {folder} holds chest-xray-224")
    return folder


@pytest.fixture(scope="session")
def known_cases() -> Callable[[str], Path]:
    """Find a folder of files on which an earlier version was wrong (../shared/cases beside the checkout)."""

    def find(name: str) -> Path:
        folder = Path(__file__).parents[2] / "shared" / "cases" / name
        if not folder.is_dir():
            pytest.skip(f"no known cases: {folder} is not there")
        return folder

    return find


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny valid two-label gray 64 x 64 model with random weights."""
    path = tmp_path_factory.mktemp("model") / "toy.onnx"
    path.write_bytes(build_model(toy_spec()))
    return path


def draw_image(seed: int, *, height: int = 96, width: int = 80, suffix: str = ".jpg") -> bytes:
    """A smooth random gray picture as a file's bytes."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 5), dtype=np.uint8)
    picture = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(suffix, picture)[1].tobytes()


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """A folder of twelve good images in nested folders, in every supported container."""
    folder = tmp_path / "images"
    suffixes = (".jpg", ".png", ".bmp", ".tiff", ".webp", ".pgm")
    for index in range(12):
        place = folder / f"{'abc'[index % 3]}{index % 2}"
        place.mkdir(parents=True, exist_ok=True)
        suffix = suffixes[index % len(suffixes)]
        (place / f"image{index:02d}{suffix}").write_bytes(draw_image(index, suffix=suffix))
    return folder
