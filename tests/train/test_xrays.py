"""On the real X-rays, with a network that takes seconds: what patients set aside give to others."""

from __future__ import annotations

from pathlib import Path

from wetread.train.config import TrainConfig
from wetread.train.fit import train


def test_patients_set_aside_calibrate_others(xray_data: Path, tmp_path: Path) -> None:
    """Focal loss makes a network less sure than it is right."""
    config = TrainConfig(
        data=str(xray_data / "chest-xray-224"),
        output=str(tmp_path / "run"),
        architecture="tests.train.networks:tiny",
        size=20,
        subset=1000,
        epochs=4,
        learning_rate=0.01,
        augment="none",
        class_weight="none",
        loss="focal",
        validation=0.35,
        calibration_split=0.3,
        threshold_rule="sensitivity>=0.9",
    )
    result = train(config)
    before, after = result.metrics["validation_at_temperature_1"], result.metrics["validation"]
    assert result.spec.temperature < 0.9
    assert after["ece"] < before["ece"] and after["log_loss"] < before["log_loss"]
    low, high = after["intervals"]["sensitivity"]
    assert low <= 0.9 <= high
