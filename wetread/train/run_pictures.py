"""Draw a run's two pictures: examples of augmentation, and the training curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wetread.environment import keep_home_clean
from wetread.packages import importing
from wetread.runtime.files.atomic import replace_file
from wetread.runtime.images.text_drawing import draw_text
from wetread.train.augment import Policy, augment_images
from wetread.train.dataset import Dataset
from wetread.train.run import History, write_bytes

_SAMPLES = 8  # rows
_VARIANTS = 9  # augmented images beside each original
_TILE = 112  # pixels, at least
_GAP = 4
_WIDEST = 190  # pixels of a caption


def draw_augmentation(path: Path, dataset: Dataset, policy: Policy, *, seed: int) -> None:
    """Draw a contact sheet: a row for each of 8 training images, the original first, alternating labels."""
    positions = _choose_samples(dataset)
    pixels = dataset.pixels[dataset.rows[positions]]
    columns = [pixels]
    columns += [
        augment_images(pixels, policy, indices=positions, seed=seed, epoch=epoch)
        for epoch in range(1, _VARIANTS + 1)
    ]
    captions = [dataset.labels[dataset.targets[position]] for position in positions]
    sheet = _lay_out(np.stack(columns, axis=1), captions)
    write_bytes(path, cv2.imencode(".png", sheet, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes())


def _choose_samples(dataset: Dataset) -> NDArray[np.intp]:
    """Take training images of every label in turn."""
    train = dataset.select("train")
    by_label = [list(train[dataset.targets[train] == label]) for label in range(len(dataset.labels))]
    chosen: list[Any] = []
    while len(chosen) < _SAMPLES and any(by_label):
        chosen += [images.pop(0) for images in by_label if images]
    return np.array(chosen[:_SAMPLES], np.intp)


def _lay_out(tiles: NDArray[np.uint8], captions: Sequence[str]) -> NDArray[np.uint8]:
    """Put (rows, columns, H, W, C) tiles on one white BGR sheet, each row under its caption."""
    rows, columns, height, width, _ = tiles.shape
    times = max(1, -(-_TILE // height))
    high, wide, line = height * times, width * times, 16
    sheet = np.full((rows * (high + line + _GAP), columns * (wide + _GAP) + 2 * _GAP, 3), 255, np.uint8)
    for row, caption in enumerate(captions):
        top = row * (high + line + _GAP)
        text = caption + ": original, then as trained on"
        draw_text(sheet, text, (_GAP, top + 12), scale=0.38, ink=(0, 0, 0), thick=1)
        for column in range(columns):
            large = tiles[row, column].repeat(times, axis=0).repeat(times, axis=1)
            left = _GAP + column * (wide + _GAP) + (_GAP if column else 0)
            sheet[top + line : top + line + high, left : left + wide] = large[..., ::-1]
    return sheet


_SHOWN, _ACROSS = 24, 6  # images of the list, and in a row of its picture


def draw_learned_last(path: Path, dataset: Dataset, rows: Sequence[tuple[int, str]]) -> None:
    """Draw the first images of the list, each under a line of text. `rows`: positions in the data set."""
    rows = rows[:_SHOWN]
    pixels = dataset.pixels[dataset.rows[[position for position, _ in rows]]]
    height, width = pixels.shape[1:3]
    times = max(1, -(-_TILE // height))
    high, wide, line = height * times, max(width * times, _WIDEST), 16
    down = -(-len(rows) // _ACROSS)
    sheet = np.full((down * (high + line + _GAP), _ACROSS * (wide + _GAP) + _GAP, 3), 255, np.uint8)
    for number, (tile, (_, text)) in enumerate(zip(pixels, rows, strict=True)):
        top, left = (number // _ACROSS) * (high + line + _GAP), _GAP + (number % _ACROSS) * (wide + _GAP)
        draw_text(sheet, text, (left, top + 12), scale=0.38, ink=(0, 0, 0), thick=1)
        large = tile.repeat(times, axis=0).repeat(times, axis=1)
        sheet[top + line : top + line + high, left : left + width * times] = large[..., ::-1]
    write_bytes(path, cv2.imencode(".png", sheet, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes())


_PANELS = (
    ("loss", ("loss", "val_loss")),
    ("validation accuracy", ("val_accuracy", "val_balanced_accuracy")),
    ("validation AUC", ("val_auc",)),
    ("sensitivity and specificity", ("val_sensitivity", "val_specificity")),
)


def draw_history(path: Path, history: History) -> None:
    """Draw the curves of history.csv. Raises MissingExtraError without matplotlib."""
    keep_home_clean()
    with importing("matplotlib", extra="train"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    panels = [(title, [n for n in names if n in history[0]]) for title, names in _PANELS]
    panels = [(title, names) for title, names in panels if names]
    figure = Figure(figsize=(4.2 * len(panels), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_1d(figure.subplots(1, len(panels)))
    for axis, (title, names) in zip(axes, panels, strict=True):
        for name in names:
            axis.plot([row["epoch"] for row in history], [row[name] for row in history], ".-", label=name)
        axis.set(title=title, xlabel="epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    with replace_file(path) as staged:
        figure.savefig(staged, dpi=110)
