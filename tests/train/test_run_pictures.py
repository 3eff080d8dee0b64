from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.train.drawn import draw_folder
from wetread.train.augment import POLICIES
from wetread.train.config import TrainConfig
from wetread.train.dataset import load_dataset
from wetread.train.run_pictures import draw_augmentation, draw_history


@pytest.mark.parametrize("color", ["gray", "rgb"])
def test_the_contact_sheet_shows_originals_first(color: str, tmp_path: Path) -> None:
    draw_folder(tmp_path / "data", counts={"bar": 8, "disc": 8}, color=color == "rgb")
    config = TrainConfig(data=str(tmp_path / "data"), output=str(tmp_path / "run"), size=56, color=color)
    data = load_dataset(config)
    draw_augmentation(tmp_path / "sheet.png", data, POLICIES["xray"], seed=0)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape == (8 * (16 + 112 + 4), 10 * (112 + 4) + 8, 3)
    train = data.select("train")
    for row, label in enumerate((0, 1)):  # labels in turn
        first = train[data.targets[train] == label][0]
        tile = sheet[row * 132 + 16 : row * 132 + 128 : 2, 4:116:2]
        assert np.array_equal(tile, np.broadcast_to(data.pixels[data.rows[first]], (56, 56, 3))[..., ::-1])
        variants = [
            sheet[row * 132 + 16 : row * 132 + 128, 8 + n * 116 : 120 + n * 116] for n in range(1, 10)
        ]
        assert len({variant.tobytes() for variant in variants}) >= 7


def test_captions_tell_labels_apart_in_any_script(tmp_path: Path) -> None:
    sheets = []
    for labels in (("阴性", "阳性"), ("阳性", "阴性")):
        folder = tmp_path / labels[0]
        for label, shape in zip(labels, ("bar", "disc"), strict=True):
            draw_folder(tmp_path / "drawn" / labels[0], counts={shape: 8})
            folder.mkdir(exist_ok=True)
            (tmp_path / "drawn" / labels[0] / shape).rename(folder / label)
        config = TrainConfig(data=str(folder), output=str(tmp_path / "run"), size=56)
        data = load_dataset(config)
        draw_augmentation(tmp_path / "sheet.png", data, POLICIES["none"], seed=0)
        sheets.append(cv2.imread(str(tmp_path / "sheet.png")))
    captions = [sheet[row * 132 : row * 132 + 16] for sheet in sheets for row in (0, 1)]
    assert not np.array_equal(captions[0], captions[1])
    assert np.array_equal(captions[0], captions[2])  # labels stand in the order of their names
    assert all((caption < 128).any() for caption in captions)


@pytest.mark.parametrize("epochs", [1, 4])
def test_the_curves_are_a_picture(epochs: int, tmp_path: Path) -> None:
    history = [
        {"epoch": n, "loss": 1 / n, "val_loss": 2 / n, "val_accuracy": 0.5, "val_auc": 0.7, "seconds": 1.0}
        for n in range(1, epochs + 1)
    ]
    draw_history(tmp_path / "history.png", history)
    picture = cv2.imread(str(tmp_path / "history.png"))
    assert picture.shape[0] > 300
    assert picture.shape[1] > 3 * 300  # three panels: no sensitivity in this history
    assert (picture != 255).any(axis=2).mean() > 0.01
