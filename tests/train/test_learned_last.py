"""The list of images that a network learns last: by hand, and with wrong labels planted."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.train.drawn import configure_xray, draw_shape, write_image
from tests.train.test_fit import configure
from wetread.keras_backend import import_keras
from wetread.train.batches import Batch, encode_targets
from wetread.train.events import ImagesLearned, describe_event
from wetread.train.fit import train
from wetread.train.learned_last import COLUMNS, AnswerRecord, write_learned_last
from wetread.train.network import make_network
from wetread.train.training_state import Learner


class Drawn:
    """What the record needs of a data set: five images, of which three train."""

    labels = ("bar", "disc", "ring")
    names = tuple("abcde")
    targets = np.array([0, 1, 2, 1, 0])
    rows = np.arange(5)
    pixels = np.zeros((5, 8, 8, 1), np.uint8)

    def select(self, split: str) -> np.ndarray:
        return {"train": np.array([0, 2, 3]), "val": np.array([1, 4])}[split]


# Answers of four epochs: the probabilities of the three labels for the images at 0, 2 and 3.
EPOCHS = [
    [(0.6, 0.3, 0.1), (0.5, 0.2, 0.3), (0.9, 0.06, 0.04)],
    [(0.3, 0.6, 0.1), (0.1, 0.2, 0.7), (0.9, 0.06, 0.04)],
    [(0.7, 0.2, 0.1), (0.1, 0.2, 0.7), (0.8, 0.1, 0.1)],
    [(0.8, 0.1, 0.1), (0.1, 0.1, 0.8), (0.7, 0.2, 0.1)],
]


def fill(record: AnswerRecord, epochs: list) -> AnswerRecord:
    for number, answers in enumerate(epochs, start=record.epochs + 1):
        logits = np.log(np.array(answers, np.float32))
        record.note(np.array([3, 0]), logits[[2, 0]])  # in any order
        record.note(np.array([2]), logits[[1]])
        record.end_epoch(number)
    return record


def test_the_tally_is_that_of_the_answers(tmp_path: Path) -> None:
    data = Drawn()
    record = fill(AnswerRecord(data, head="logits"), EPOCHS)
    assert record.learned.tolist() == [3, 2, 0]  # right since; the last never
    assert record.forgotten.tolist() == [1, 0, 0]
    assert record.wrong == 1
    losses = [
        -sum(math.log(answers[place][target]) for answers in EPOCHS) / 4
        for place, target in enumerate((0, 2, 1))
    ]
    write_learned_last(tmp_path, record, data)
    with (tmp_path / "learned_last.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["path"] for row in rows] == ["d", "a", "c"]
    assert [float(row["loss"]) for row in rows] == pytest.approx(sorted(losses, reverse=True), rel=1e-4)
    assert [row["learned"] for row in rows] == ["", "3", "2"]
    assert [(row["label"], row["answer"]) for row in rows] == [
        *[("disc", "bar"), ("bar", "bar"), ("ring", "ring")]
    ]
    assert (tmp_path / "learned_last.png").stat().st_size > 0


def test_a_resumed_record_goes_on_as_if_it_had_not_stopped() -> None:
    whole = fill(AnswerRecord(Drawn(), head="logits"), EPOCHS)
    first = fill(AnswerRecord(Drawn(), head="logits"), EPOCHS[:2])
    saved = {"0000": np.zeros(3), **first.list_arrays()}
    second = AnswerRecord(Drawn(), head="logits")
    second.take_arrays(saved)
    assert list(saved) == ["0000"]  # the rest is the network's
    fill(second, EPOCHS[2:])
    for name, array in whole.list_arrays().items():
        assert np.array_equal(array, second.list_arrays()[name]), name
    AnswerRecord(Drawn(), head="logits").take_arrays({})  # of a checkpoint that has none


CONFIG = configure_xray(architecture="tests.train.networks:plain", size=20, epochs=4)


@pytest.mark.parametrize("outputs", [1, 3])
def test_kept_outputs_are_those_of_the_step_and_change_nothing(outputs: int) -> None:
    """Keras' own call gives the same outputs, and its own train_on_batch the same weights, to the bit."""
    keras = import_keras()
    images = np.random.default_rng(0).random((16, 20, 20, 1), np.float32)
    batch = Batch(images, np.arange(16) % (outputs + (outputs == 1)), np.ones(16, np.float32), np.arange(16))
    learner = Learner(make_network(CONFIG, outputs, steps=5))
    bare = make_network(CONFIG, outputs, steps=5)
    for _ in range(3):
        expected = keras.ops.convert_to_numpy(learner.model(images, training=True))
        learner.learn(batch)
        assert learner.read_outputs() == pytest.approx(expected, abs=1e-5)
        bare.train_on_batch(images, encode_targets(batch.targets, outputs), sample_weight=batch.weights)
    for one, other in zip(learner.model.get_weights(), bare.get_weights(), strict=True):
        assert np.array_equal(one, other)


def test_planted_wrong_labels_are_at_the_top(tmp_path: Path) -> None:
    """10 of 200 labels are swapped; chance would put half of one among the first ten."""
    planted = set()
    for number in range(100):
        for label, other in (("bar", "disc"), ("disc", "bar")):
            wrong = number % 20 == 7
            name = f"{other if wrong else label}/{label}{number:03}.png"
            planted |= {name} if wrong else set()
            write_image(tmp_path / "data" / name, draw_shape(label, seed=number))
    events: list = []
    config = configure(tmp_path / "data", tmp_path / "run", epochs=8, validation=0.1)
    result = train(config, on_event=events.append)
    with (result.run / "learned_last.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    trained = planted & {row["path"] for row in rows}
    first = {row["path"] for row in rows[: len(trained)]}
    assert len(trained) >= 8
    assert len(first & trained) >= 0.75 * len(trained)
    (told,) = (event for event in events if isinstance(event, ImagesLearned))
    assert (told.images, told.wrong) == (len(rows), sum(row["learned"] == "" for row in rows))


def test_what_is_said_depends_on_how_much_was_learned() -> None:
    few = ImagesLearned(images=400, wrong=20, file="learned_last.csv")
    assert describe_event(few) == (
        "learned last: 20 of 400 training images were wrong to the end. learned_last.csv lists the images "
        "learned last first: look whether their labels are right"
    )
    assert "too many to say" in describe_event(replace(few, wrong=200))
