from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wetread.errors import ConfigError
from wetread.train.augment import POLICIES, Policy, augment_images, draw_uniforms, read_policy

ONE = np.array([3])


def draw_images(count: int, *, channels: int = 1, side: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, channels)).astype(np.uint8)


def draw_dot(row: int, column: int) -> np.ndarray:
    image = np.zeros((1, 33, 33, 1), np.uint8)
    image[0, row, column] = 255
    return image


def change(image: np.ndarray, policy: Policy, *, epoch: int = 0) -> np.ndarray:
    return augment_images(image, policy, indices=ONE, seed=0, epoch=epoch)


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_random_depends_on_seed_epoch_and_index_alone(channels: int) -> None:
    images, indices, policy = draw_images(12, channels=channels), np.arange(100, 112), POLICIES["xray"]
    whole = augment_images(images, policy, indices=indices, seed=1, epoch=2)
    assert whole.shape == images.shape
    assert whole.dtype == np.uint8
    order = np.random.default_rng(1).permutation(12)
    mixed = augment_images(images[order], policy, indices=indices[order], seed=1, epoch=2)
    assert np.array_equal(mixed, whole[order])
    alone = augment_images(images[5:6], policy, indices=indices[5:6], seed=1, epoch=2)
    assert np.array_equal(alone[0], whole[5])
    for seed, epoch in ((1, 3), (2, 2)):
        other = augment_images(images, policy, indices=indices, seed=seed, epoch=epoch)
        assert not np.array_equal(other, whole)


def test_nothing_changes_without_a_policy() -> None:
    images = draw_images(3)
    for policy in (POLICIES["none"], dataclasses.replace(POLICIES["xray"], clean=1.0)):
        same = augment_images(images, policy, indices=np.arange(3), seed=0, epoch=0)
        assert np.array_equal(same, images)
        assert same is not images


def test_a_read_only_image_is_left_as_it_is() -> None:
    images = draw_images(4)
    images.flags.writeable = False
    before = images.copy()
    augment_images(images, Policy(cutout=1.0, noise=0.1), indices=np.arange(4), seed=0, epoch=0)
    assert np.array_equal(images, before)


def test_a_flip_is_a_mirror_image() -> None:
    images = draw_images(1)
    assert np.array_equal(change(images, Policy(flip=1.0)), images[:, :, ::-1])


def test_a_turn_keeps_the_centre_and_stays_within_its_angle() -> None:
    policy = Policy(rotate=30.0)
    angles = []
    for epoch in range(40):
        assert change(draw_dot(16, 16), policy, epoch=epoch)[0, 16, 16, 0] == 255
        rows, columns = np.nonzero(change(draw_dot(16, 28), policy, epoch=epoch)[0, :, :, 0] > 60)
        angles.append(np.degrees(np.arctan2(rows.mean() - 16, columns.mean() - 16)))
        assert np.hypot(rows.mean() - 16, columns.mean() - 16) == pytest.approx(12, abs=1)
    assert max(np.abs(angles)) <= 33
    assert min(angles) < -15
    assert max(angles) > 15


def test_a_shift_moves_by_at_most_its_fraction() -> None:
    found = []
    for epoch in range(40):
        rows, columns = np.nonzero(change(draw_dot(16, 16), Policy(shift=0.25), epoch=epoch)[0, :, :, 0] > 60)
        found.append((rows.mean() - 16, columns.mean() - 16))
    assert 6 < np.abs(found).max() <= 0.25 * 33 + 1


def test_exposure_is_one_curve_for_all_pixels() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    for policy in (Policy(contrast=0.5), Policy(gamma=1.0), Policy(brightness=0.3)):
        curves = np.array([change(ramp, policy, epoch=epoch).ravel() for epoch in range(20)]).astype(int)
        assert (np.diff(curves, axis=1) >= 0).all()
        assert len(np.unique(curves, axis=0)) > 15
    negative = change(ramp, Policy(invert=1.0)).ravel()
    assert np.array_equal(negative, 255 - ramp.ravel())


def test_noise_has_the_deviation_it_was_drawn_with() -> None:
    gray = np.full((1, 64, 64, 1), 128, np.uint8)
    policy = Policy(noise=0.1)
    deviations = [change(gray, policy, epoch=epoch).std() / 255 for epoch in range(60)]
    assert max(deviations) <= 0.105
    assert np.mean(deviations) == pytest.approx(0.05, abs=0.01)


def test_local_contrast_leaves_an_even_image_and_changes_an_edge() -> None:
    even, edge = np.full((1, 40, 40, 1), 90, np.uint8), np.full((1, 40, 40, 1), 90, np.uint8)
    edge[:, :, 20:] = 130
    steps = []
    for epoch in range(30):
        assert np.array_equal(change(even, Policy(local=1.0), epoch=epoch), even)
        row = change(edge, Policy(local=1.0), epoch=epoch)[0, 20, :, 0].astype(int)
        steps.append(row[20] - row[19])
    assert 20 <= min(steps) < 35
    assert 60 < max(steps) <= 100
    assert np.array_equal(change(edge, Policy(local=1e-12)), edge)


@pytest.mark.parametrize("channels", [1, 3])
def test_shade_falls_evenly_and_keeps_black(channels) -> None:
    gray = np.full((1, 41, 41, channels), 100, np.uint8)
    for epoch in range(30):
        shaded = change(gray, Policy(shade=1.0), epoch=epoch)[0].astype(int)
        assert shaded.shape == (41, 41, channels)
        assert shaded[20, 20].tolist() == [100] * channels
        assert 20 <= shaded.min() <= shaded.max() <= 150
        assert np.abs(np.diff(shaded, axis=0)).max() <= 8
    assert shaded.std() > 0
    assert not change(np.zeros_like(gray), Policy(shade=1.0)).any()


def test_bars_are_black_and_lie_on_two_opposite_sides() -> None:
    white = np.full((1, 50, 50, 1), 255, np.uint8)
    beside = 0
    for epoch in range(40):
        image = change(white, Policy(bars=1.0), epoch=epoch)[0, :, :, 0]
        rows, columns = (image == 255).any(axis=1), (image == 255).any(axis=0)
        assert set(np.unique(image)) <= {0, 255}
        assert rows.all() or columns.all()
        assert (image == 255).sum() == rows.sum() * columns.sum()
        assert image[8:42, 8:42].all()
        beside += int(not columns.all())
    assert 5 < beside < 35


def test_a_cutout_is_one_gray_rectangle() -> None:
    images = np.zeros((1, 40, 40, 1), np.uint8)
    covered = 0
    for epoch in range(30):
        changed = change(images, Policy(cutout=1.0, cutout_side=0.5), epoch=epoch)[0, :, :, 0]
        rows, columns = np.nonzero(changed)
        if len(rows):
            block = changed[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            assert len(np.unique(block)) == 1
            assert max(block.shape) <= 20
            covered += 1
    assert covered > 20


def test_blur_keeps_the_mean_and_lowers_the_spread() -> None:
    images = draw_images(1, side=64)
    spreads = [change(images, Policy(blur=0.05), epoch=epoch).std() for epoch in range(10)]
    assert min(spreads) < 0.3 * images.std()
    assert change(images, Policy(blur=0.05)).mean() == pytest.approx(images.mean(), abs=3)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 10_000))
def test_uniform_numbers_are_uniform(seed: int, epoch: int) -> None:
    draws = draw_uniforms(np.arange(2000), seed=seed, epoch=epoch, count=5)
    assert draws.shape == (2000, 5)
    assert draws.min() >= 0
    assert draws.max() < 1
    assert np.abs(draws.mean(axis=0) - 0.5).max() < 0.04
    assert np.abs(np.corrcoef(draws.T) - np.eye(5)).max() < 0.12
    assert np.abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < 0.12


def mix(value: int) -> int:
    """SplitMix64's finalizer in Python's own integers."""
    z = (value + 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def test_uniform_numbers_are_the_same_on_every_machine() -> None:
    draws = draw_uniforms(np.array([0, 7]), seed=3, epoch=2, count=2)
    key = mix(3 * 0x1_0000_0001 + 2)
    expected = [[(mix(mix(i + key) + k * 0x9E3779B97F4A7C15) >> 11) / 2**53 for k in (1, 2)] for i in (0, 7)]
    assert draws.tolist() == expected
    assert draws.tolist() == [
        [0.5108784972353181, 0.4841511939329436],
        [0.6641046185757666, 0.5005257537054459],
    ]


def test_policies_are_read_by_name_or_from_a_file(tmp_path: Path) -> None:
    assert read_policy("xray") is POLICIES["xray"]
    file = tmp_path / "mine.toml"
    file.write_text("rotate = 7\nflip = 0.5\n")
    assert read_policy(str(file)) == Policy(rotate=7.0, flip=0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rotat = 7", "'rotat'.*knows: .*rotate"),
        ("rotate = 270", "rotate"),
        ('flip = "yes"', "'flip'"),
        ("rotate =", "TOML"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_policy(str(file))


@pytest.mark.parametrize("name", ["strong", "nowhere.toml"])
def test_a_policy_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        read_policy(name)


def test_a_policy_is_made_weaker_and_stronger() -> None:
    whole, half, much = POLICIES["xray"], read_policy("xray:0.5"), read_policy("xray:10")
    assert read_policy("xray:1") == whole
    assert (half.rotate, half.cutout, half.gamma) == (whole.rotate / 2, whole.cutout / 2, whole.gamma / 2)
    assert (half.border, half.cutout_side, half.clean) == (whole.border, whole.cutout_side, whole.clean)
    assert (much.rotate, much.cutout, much.blur) == (100, 1.0, whole.blur * 10)
    assert read_policy("xray:0").changes is False
    for text in ("xray:", "xray:x", "light:-1", "light:nan", "xray:11"):
        with pytest.raises(ConfigError, match="The strength after a policy's name"):
            read_policy(text)
