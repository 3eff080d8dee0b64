"""How many images train at a time: bounded by the memory that is free, where nobody chose it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.train.drawn import configure_xray, draw_folder
from wetread.train.config import TrainConfig
from wetread.train.defaults import settle
from wetread.train.memory import count_bytes, limit_batch

GIB = 2**30


@pytest.mark.parametrize(
    ("free", "batch"), [(None, 32), (64 * GIB, 32), (64_000, 32), (63_999, 16), (5_000, 2), (10, 1)]
)
def test_a_batch_takes_half_of_the_free_memory_at_most(free: int | None, batch: int) -> None:
    assert limit_batch(32, 1000, free=free) == batch


def test_an_image_takes_what_its_pixels_and_its_network_ask_for() -> None:
    xray = configure_xray()
    assert count_bytes(xray, size=128) == 4 * count_bytes(xray, size=64)
    for other in (replace(xray, backbone="ResNet50"), replace(xray, architecture="mine:network")):
        assert count_bytes(other, size=64) > count_bytes(xray, size=64)
    assert 32 * count_bytes(xray, size=64) < 0.25 * GIB  # the recipe for X-rays fits anywhere


def test_large_images_on_a_small_machine_get_a_smaller_batch_and_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = draw_folder(tmp_path / "data", counts={"bar": 4, "disc": 4})
    config = TrainConfig(data=str(data), output=str(tmp_path / "run"), size=1024)
    free = [64 * GIB]
    monkeypatch.setattr("wetread.train.defaults.read_free_memory", lambda: free[0])
    assert settle(config).batch_size == 32
    free[0] = 4 * GIB
    found = settle(config)
    assert found.batch_size == 4
    assert "4.0 GiB are free" in found.reasons["batch_size"]
    assert settle(replace(config, batch_size=64)).batch_size == 64  # what is given stays
    assert settle(replace(config, size=64)).batch_size == 32
