from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.train.drawn import configure_xray, write_image
from wetread.cli.train import app
from wetread.evaluate.metrics import measure
from wetread.runtime.model.spec import ModelSpec
from wetread.train.chance_level import find_chance, limit_accuracy, limit_auc


def make_data(*counts: int, colored: int = 0) -> SimpleNamespace:
    """As much of a Dataset as is looked at: images of each label, the same on each side."""
    targets = np.repeat(np.arange(len(counts)), counts)
    labels = tuple("abcdefghij"[: len(counts)])
    select = lambda split: np.arange(len(targets))  # noqa: E731
    return SimpleNamespace(targets=targets, labels=labels, select=select, colored=(colored, 24))


def make_history(epochs: int, *, accuracy: float = 0.5, auc: float = 0.5, loss: float = 0.69) -> list:
    row = {"loss": loss, "val_balanced_accuracy": accuracy, "val_auc": auc}
    return [{"epoch": epoch + 1, **row} for epoch in range(epochs)]


@pytest.mark.parametrize("counts", [(40, 40), (20, 180), (12,) * 10])
def test_guessing_is_above_the_limits_in_one_of_twenty_cases(counts: tuple[int, ...]) -> None:
    """Judged by the metrics themselves, on probabilities that know nothing of the labels."""
    truth = np.repeat(np.arange(len(counts)), counts)
    labels = tuple(f"label{number:02}" for number in range(len(counts)))
    spec = ModelSpec(
        labels=labels, pixels=configure_xray().recipe(), positive=labels[-1] if len(labels) == 2 else None
    )
    chance = np.random.default_rng(0)
    above = np.zeros(2)
    rounds = 400
    for _ in range(rounds):
        drawn = chance.dirichlet(np.ones(len(counts)), len(truth)).astype(np.float32)
        found = measure(drawn, truth, spec, groups=[str(i) for i in range(len(truth))])
        above += (
            found.balanced_accuracy > limit_accuracy(np.array(counts)),
            found.auc > limit_auc(np.array(counts)),
        )
    assert (above / rounds < 0.09).all()
    assert above[0] / rounds > 0.01
    assert above[1] / rounds > 0.01


def test_one_score_that_orders_all_labels_is_guessing() -> None:
    """The widest that guessing spreads: one number of each image, for half of the labels turned round."""
    for counts in ((12,) * 10, (60, 40, 20, 10, 5)):
        truth = np.repeat(np.arange(len(counts)), counts)
        signs = np.where(np.arange(len(counts)) % 2, 1, -1)
        chance, above = np.random.default_rng(1), 0
        for _ in range(2000):
            scores = chance.permutation(len(truth))[:, None] * signs
            aucs = [
                (np.argsort(np.argsort(scores[:, k]))[truth == k].mean() - (counts[k] - 1) / 2)
                / (len(truth) - counts[k])
                for k in range(len(counts))
            ]
            above += np.mean(aucs) > limit_auc(np.array(counts))
        assert 0.01 < above / 2000 < 0.09


def test_many_labels_that_are_learned_a_little_are_not_at_chance() -> None:
    """Ten labels with 12 validation images: a mean AUC of 0.6 is five deviations from guessing."""
    assert (
        find_chance(make_history(3, accuracy=0.12, auc=0.6), make_data(*(12,) * 10), configure_xray()) is None
    )


def test_it_is_said_once_and_not_after_a_single_epoch() -> None:
    data, config = make_data(50, 50), configure_xray()
    told = [find_chance(make_history(epochs), data, config) is not None for epochs in range(1, 7)]
    assert told == [False, False, True, False, False, False]
    short = configure_xray(epochs=2)
    assert find_chance(make_history(2), data, short)
    assert find_chance(make_history(1), data, configure_xray(epochs=1)) is None


def test_what_learns_is_not_at_chance() -> None:
    data, config = make_data(50, 50), configure_xray()
    assert find_chance(make_history(3, accuracy=0.66), data, config) is None
    # All images get one label still, but in the right order: the network learns.
    assert find_chance(make_history(3, auc=0.7), data, config) is None
    assert find_chance(make_history(3), make_data(3, 3), config) is None  # six images cannot tell


def test_the_advice_fits_the_run() -> None:
    config = configure_xray()
    text = find_chance(make_history(3), make_data(50, 50), config)
    assert text is not None
    assert text.startswith(
        "after 3 epochs the network is at chance level on validation: balanced accuracy 0.500, and guessing "
        "one of 2 labels gives 0.500. What to try: --learning-rate 0.0001 or 0.01, since the training loss"
    )
    assert "--augment none" in text and "--weights" not in text and "rgb" not in text
    by_heart = find_chance(make_history(3, loss=0.1), make_data(50, 50), config)
    assert by_heart is not None and "by heart" in by_heart and "--learning-rate" not in by_heart
    large = configure_xray(backbone="MobileNetV2")
    assert "--weights FILE" in str(find_chance(make_history(3), make_data(50, 50), large))
    frozen = configure_xray(backbone="MobileNetV2", weights="a.h5", freeze_epochs=5)
    assert "--freeze-epochs 0" in str(find_chance(make_history(3), make_data(50, 50), frozen))
    assert "--color rgb" in str(find_chance(make_history(3), make_data(50, 50, colored=20), config))


def test_weights_and_gamma_change_the_loss_of_guessing() -> None:
    """By hand: ln 2, times the mean weight of the images, times a half to the power of gamma."""
    data = make_data(50, 150)
    for values, loss in (
        ({}, math.log(2)),
        ({"class_weight": "a=4"}, math.log(2) * (50 * 4 + 150) / 200),
        ({"loss": "focal", "focal_gamma": 3.0}, math.log(2) / 8),
    ):
        config = configure_xray(**values)
        below, above = (find_chance(make_history(3, loss=share * loss), data, config) for share in (0.7, 0.9))
        assert "by heart" in str(below) and "does not fall" in str(above)


def test_a_run_on_labels_that_mean_nothing_says_so(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    for label in "ab":
        for number in range(20):
            image = chance.integers(0, 255, (24, 24)).astype(np.uint8)
            write_image(tmp_path / "data" / label / f"{number}.png", image)
    words = [str(tmp_path / "data"), "--architecture", "tests.train.networks:tiny", "--size", "20"]
    words += ["--epochs", "2", "--validation", "0.5", "--output", str(tmp_path / "run")]
    done = CliRunner().invoke(app, ["train", *words])
    assert done.exit_code == 0, done.output
    assert "warning: after 2 epochs the network is at chance level on validation" in done.stderr
