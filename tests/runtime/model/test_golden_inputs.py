"""Drawn inputs: the same bytes everywhere."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wetread.errors import ModelError
from wetread.runtime.images.formats import read_header
from wetread.runtime.images.recipe import PixelRecipe
from wetread.runtime.model.golden_inputs import (
    EVEN_INTENSITIES,
    JPEG,
    draw_image,
    draw_inputs,
    draw_noise,
    read_golden_jpeg,
)
from wetread.runtime.model.spec import Golden


def golden(*seeds: int) -> Golden:
    return Golden(
        jpeg=JPEG,
        pixels="",
        seeds=seeds,
        intensities=EVEN_INTENSITIES,
        exact=(),
        keras=(),
        exact_tolerance=0.0,
        keras_tolerance=0.0,
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 20))
def test_noise_is_splitmix64(seed, count):
    expected, state, mask = [], seed, 2**64 - 1
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        expected.append(z ^ (z >> 31))
    assert draw_noise(seed, count).tolist() == expected


def test_the_first_numbers_are_those_of_the_reference():
    """From seed 1234567: the values in Java's and Vigna's test vectors of SplitMix64."""
    assert draw_noise(1234567, 2).tolist() == [6457827717110365317, 3203168211198807973]


# Exported models hold answers to these very pictures: a change here makes every one of them fail.
DIGESTS = {
    (64, 64, 1): "f8bf0867bad16f4e",
    (48, 80, 3): "71a8e0b4366b3430",
    (300, 224, 1): "8d073ca1d0c16f65",
    (7, 5, 3): "b353a2022ff48c4a",
}


@pytest.mark.parametrize("shape", DIGESTS)
def test_pictures_never_change(shape):
    levels = (0, 10, 40, 63, 80, 95, 108, 121, 132, 143, 153, 162, 171, 180, 188, 199, 255)
    drawn = np.stack([draw_image(seed, shape=shape, intensities=levels) for seed in (1, 2, 77)])
    assert hashlib.sha256(drawn.tobytes()).hexdigest()[:16] == DIGESTS[shape]


def test_the_jpeg_never_changes_and_is_decoded_scaled():
    data = read_golden_jpeg(JPEG)
    assert hashlib.sha256(data).hexdigest()[:16] == "67a65753a1e90d7e"
    header = read_header(data)
    assert (header.height, header.width) == (719, 683)


def test_gray_levels_follow_the_quantiles():
    picture = draw_image(2, shape=(100, 100, 1), intensities=tuple(range(50, 67)))
    assert (picture.min(), picture.max()) == (50, 66)
    low, middle, high = np.quantile(picture, [0.25, 0.5, 0.75])
    assert (low, middle, high) == (
        pytest.approx(54, abs=1),
        pytest.approx(58, abs=1),
        pytest.approx(62, abs=1),
    )


def test_seeds_differ_and_odd_ones_are_exposed_otherwise():
    pictures = [draw_image(seed, shape=(32, 32, 1)) for seed in range(1, 9)]
    assert len({picture.tobytes() for picture in pictures}) == 8
    assert len({int(picture.mean()) // 10 for picture in pictures[::2]}) > 2


def test_inputs_are_the_jpeg_and_the_drawings():
    recipe = PixelRecipe(height=40, width=30, color="rgb")
    inputs, digest = draw_inputs(golden(5, 6), recipe)
    assert inputs.shape == (3, 40, 30, 3)
    assert (inputs[2] == draw_image(6, shape=(40, 30, 3))).all()
    again, same = draw_inputs(golden(5, 6), recipe)
    assert (again == inputs).all() and same == digest
    assert draw_inputs(golden(), recipe)[1] == digest  # the seeds are not part of it
    assert draw_inputs(golden(), PixelRecipe(height=40, width=30, color="rgb", resize="fit"))[1] != digest


def test_every_way_of_resizing_is_tried_whatever_the_models_size(monkeypatch):
    from wetread.runtime.model import golden_inputs as module

    seen = []
    right = module.resize
    monkeypatch.setattr(
        module, "resize", lambda image, recipe: seen.append(image.shape) or right(image, recipe)
    )
    draw_inputs(golden(), PixelRecipe(height=64, width=64))
    assert [shape[:2] for shape in seen] == [(48, 80), (50, 71), (10, 13)]


def test_an_unknown_picture_is_refused():
    for name in ("golden-99.jpg", "../spec.py", "spec.py"):
        with pytest.raises(ModelError, match="this wetread has golden-1.jpg"):
            read_golden_jpeg(name)
