"""Which training images a network learns last: a wrong label is learned later than a right one.

While it trains, a network answers for every image of a batch. These answers are kept and tallied, so the list
costs no prediction of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wetread.train.dataset import Dataset
from wetread.train.network import widen
from wetread.train.run import Variables, write_table
from wetread.train.run_pictures import draw_learned_last

LEARNED_LAST, PICTURE = "learned_last.csv", "learned_last.png"
COLUMNS = ("path", "label", "learned", "forgotten", "loss", "answer", "probability")
_SAVED = "answers/"
_SMALLEST = 1e-7  # a probability's, so that its logarithm is finite


class AnswerRecord:
    """How a network answered for each of the N training images, epoch by epoch, as it trained on them.

    Arrays, all (N,), in the order of `positions`, the images' indices in the data set: `learned` int32, the
    epoch since which every answer was right (0: the last one was wrong); `forgotten` int32, how often a wrong
    answer followed a right one; `loss` float64, the sum over the epochs of -ln(p), p the probability of the
    image's own label; `answer` int32, a column of the labels, and `probability` float32, of the last epoch.
    """

    _ARRAYS = ("learned", "forgotten", "loss", "answer", "probability")

    def __init__(self, dataset: Dataset, *, head: str) -> None:
        self.positions = dataset.select("train")
        self._targets = dataset.targets[self.positions]
        self._head = head
        count, labels = len(self.positions), len(dataset.labels)
        self._outputs = np.zeros((count, 1 if labels == 2 else labels), np.float32)
        self.epochs = 0
        self.learned, self.forgotten, self.answer = (np.zeros(count, np.int32) for _ in range(3))
        self.loss, self.probability = np.zeros(count), np.zeros(count, np.float32)

    def note(self, positions: NDArray[np.intp], outputs: NDArray[np.float32]) -> None:
        """Note a step's outputs, (B, outputs), for the images at `positions`, (B,), of the data set."""
        self._outputs[np.searchsorted(self.positions, positions)] = outputs

    def end_epoch(self, epoch: int) -> None:
        """Tally the answers of an epoch in which every image was noted. `epoch` is counted from 1."""
        probabilities = widen(self._outputs, head=self._head)
        self.answer[:] = probabilities.argmax(axis=1)
        self.probability[:] = probabilities.max(axis=1)
        own = probabilities[np.arange(len(own_targets := self._targets)), own_targets]
        self.loss -= np.log(np.maximum(own, _SMALLEST, dtype=np.float64))
        right = self.answer == self._targets
        self.forgotten += (self.learned > 0) & ~right
        self.learned[:] = np.where(right, np.where(self.learned > 0, self.learned, epoch), 0)
        self.epochs += 1

    @property
    def wrong(self) -> int:
        """How many images were answered wrongly in the last epoch."""
        return int((self.learned == 0).sum())

    def rank(self) -> NDArray[np.intp]:
        """Return the order of the list, (N,): the highest mean loss first."""
        return np.argsort(-self.loss, kind="stable")

    def list_arrays(self) -> Variables:
        """Return what a resumed run needs, for its checkpoint."""
        arrays: dict[str, Any] = {name: getattr(self, name) for name in self._ARRAYS}
        return {f"{_SAVED}{name}": value for name, value in (arrays | {"epochs": self.epochs}).items()}

    def take_arrays(self, saved: Variables) -> None:
        """Take what `list_arrays` returned out of a checkpoint; an earlier version saved none of it."""
        found = {
            name.removeprefix(_SAVED): saved.pop(name) for name in list(saved) if name.startswith(_SAVED)
        }
        if found:
            self.epochs = int(found.pop("epochs"))
            for name, array in found.items():
                getattr(self, name)[:] = array


def write_learned_last(run: Path, record: AnswerRecord, dataset: Dataset) -> None:
    """Write learned_last.csv, a row for each training image, and learned_last.png with the first ones.

    The likeliest wrong labels come first.
    """
    rows = list(_list_rows(record, dataset))
    write_table(run / LEARNED_LAST, COLUMNS, rows)
    captions = [
        f"{number}: {row[1]}, not {row[5]}?" if row[1] != row[5] else f"{number}: {row[1]}"
        for number, row in enumerate(rows, start=1)
    ]
    places = (int(position) for position in record.positions[record.rank()])
    draw_learned_last(run / PICTURE, dataset, list(zip(places, captions, strict=True)))


def _list_rows(record: AnswerRecord, dataset: Dataset) -> Iterator[tuple[Any, ...]]:
    for place in record.rank():
        position = record.positions[place]
        yield (
            dataset.names[position],
            dataset.labels[dataset.targets[position]],
            record.learned[place] or "",
            record.forgotten[place],
            f"{record.loss[place] / max(1, record.epochs):.6g}",
            dataset.labels[record.answer[place]],
            f"{record.probability[place]:.6g}",
        )
