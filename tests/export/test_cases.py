"""The networks that others report bugs about, exported as float32 and int8, and in parity."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.export.networks import KERAS_WARNING
from wetread.export import ExportOptions, Gate, NetworkDescription, export_keras, measure_parity
from wetread.export.network import load_network

CASES = Path(__file__).parents[3] / "shared" / "cases"
PLACES = (
    pytest.param("keras_own_rescaling/make.py", marks=pytest.mark.long),  # see test_contract.py
    pytest.param("keras_forms/list_output.py", marks=pytest.mark.long),
    "keras_forms/dense_only.py",
)

pytestmark = pytest.mark.filterwarnings(KERAS_WARNING)


@pytest.mark.parametrize("place", PLACES)
def test_networks_of_the_case_files(place, tmp_path):
    if not (CASES / place).is_file():
        pytest.skip(f"no case files: {CASES / place} is not there")
    subprocess.run([sys.executable, str(CASES / place)], cwd=tmp_path, check=True, capture_output=True)
    images = draw_folder(tmp_path / "images")
    files = sorted(tmp_path.glob("*.keras"))
    assert files
    for file in files if "own" not in place else files[:3]:  # the others: tests/export/test_contract.py
        model = load_network(file)
        tame(model)
        model.save(file)
        check(file, images, units=model.outputs[0].shape[-1])


def draw_folder(folder: Path) -> Path:
    import cv2

    folder.mkdir()
    for seed in range(12):
        noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{seed}.png"), cv2.resize(noise, (40, 40)))
    return folder


def tame(model) -> None:
    """Keep random weights from answers of 0 and 1, with which everything agrees."""
    last = model.layers[-1]
    last.set_weights([weight * 0.01 for weight in last.get_weights()])


def check(file: Path, images: Path, *, units: int) -> None:
    description = NetworkDescription(labels=tuple("abc"[:units]), scale=(1.0,))
    outputs = []
    for precision in ("float32", "int8"):
        options = ExportOptions(precision=precision, calibration=images, gate=Gate(max_flips=1.0))
        output = file.with_suffix(f".{precision}.onnx")
        export_keras(file, network_description=description, output=output, options=options)
        outputs.append(output)
    assert measure_parity(file, models=outputs, images=images, max_flips=1.0).passed
