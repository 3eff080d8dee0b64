"""One small trained network, its data and its exports, for all tests of this room."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from tests.export.networks import draw_lamps, toy_spec, train_toy, write_run
from wetread.export.network import quiet


class Toy(NamedTuple):
    """A RUN directory and the folder of images that it was trained on."""

    run: Path
    data: Path


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    folder = tmp_path_factory.mktemp("toy")
    rows = draw_lamps(folder / "data", count=320)
    with quiet():
        model = train_toy(rows[:240], folder / "data")
        run = write_run(folder / "run", model, rows, data=folder / "data", spec=toy_spec())
    return Toy(run, folder / "data")


@pytest.fixture(scope="session")
def float32_model(toy: Toy) -> Path:
    from wetread.export import export_run

    path = toy.run.parent / "float32.onnx"
    export_run(toy.run, output=path)
    return path


@pytest.fixture(scope="session")
def int8_model(toy: Toy) -> Path:
    from wetread.export import ExportOptions, export_run

    path = toy.run.parent / "int8.onnx"
    export_run(toy.run, output=path, options=ExportOptions(precision="int8"))
    return path
