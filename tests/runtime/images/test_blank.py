"""Pictures that carry nothing have a status of their own, and no probability."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.runtime.images.dicom.drawing import draw_xray, write_dicom
from wetread.errors import ImageError
from wetread.runtime.images.blank import BLANK_LEVELS, check_content
from wetread.runtime.images.pixels import read_input, read_picture, read_pixels
from wetread.runtime.images.recipe import PixelRecipe

RECIPES = {
    "stretched": PixelRecipe(),
    "padded": PixelRecipe(resize="fit"),
    "cropped": PixelRecipe(resize="crop"),
    "equalized": PixelRecipe(equalize="histogram"),
    "in color": PixelRecipe(color="rgb", resize="fit", equalize="histogram"),
}


def encode(picture: np.ndarray, suffix: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format=suffix)
    return file.getvalue()


def find_status(data: bytes, recipe: PixelRecipe = PixelRecipe()) -> str:  # noqa: B008
    try:
        read_input(data, recipe)
    except ImageError as error:
        assert "This is a blank picture" in str(error)
        return str(error.status)
    return "ok"


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("level", [0, 3, 128, 255])
@pytest.mark.parametrize("suffix", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
def test_one_level_is_blank_in_every_format_and_way_of_resizing(recipe, level, suffix):
    data = encode(np.full((90, 140), level, np.uint8), suffix)
    assert find_status(data, recipe) == "blank"
    assert read_pixels(data, recipe).shape == recipe.shape  # who asks for pixels has them


def test_a_color_is_blank_and_two_colors_are_not():
    picture = np.full((50, 60, 3), (200, 20, 90), np.uint8)
    assert find_status(encode(picture), PixelRecipe(color="rgb")) == "blank"
    picture[:, 30:, 1] = 60
    assert find_status(encode(picture), PixelRecipe(color="rgb")) == "ok"


@pytest.mark.parametrize("sigma", [0.5, 2, 8])
def test_noise_that_averages_out_is_blank(sigma):
    noise = np.random.default_rng(0).normal(120, sigma, (1500, 1400))
    assert find_status(encode(np.clip(np.rint(noise), 0, 255).astype(np.uint8))) == "blank"


@given(st.integers(0, 255), st.integers(0, 255), st.sampled_from([(64, 64), (9, 200), (300, 80)]))
def test_the_span_of_levels_decides(one, other, shape):
    picture = np.full(shape, one, np.uint8)
    picture[: shape[0] // 2] = other
    status = find_status(encode(picture))
    assert status == ("blank" if abs(one - other) < BLANK_LEVELS else "ok")


def test_what_the_model_does_not_see_does_not_count():
    """A crop leaves out both ends; a pattern finer than its pixels is one level to the model."""
    ends = np.full((100, 400), 90, np.uint8)
    ends[:, :50] = ends[:, -50:] = 250
    assert find_status(encode(ends), PixelRecipe(resize="crop")) == "blank"
    assert find_status(encode(ends)) == "ok"
    checks = (np.indices((1280, 1280)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert find_status(encode(checks)) == "blank"


def test_a_small_bright_dot_is_something():
    picture = np.zeros((640, 640), np.uint8)
    picture[300:306, 300:306] = 255
    assert find_status(encode(picture)) == "ok"


def test_sixteen_bits_of_one_value_are_blank():
    data = cv2.imencode(".png", np.full((40, 40), 30000, np.uint16))[1].tobytes()
    assert find_status(data) == "blank"


def test_a_model_of_one_pixel_has_no_blank_pictures():
    picture = np.full((40, 40), 7, np.uint8)
    assert find_status(encode(picture), PixelRecipe(height=1, width=1)) == "ok"


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("center", ["-5000", "9000"])
@pytest.mark.parametrize("padded", [False, True])
def test_a_window_outside_the_values_leaves_a_blank(photometric, center, padded):
    """Of 12 bits, with padding or without, to black or to white."""
    pixels = draw_xray(12, shape=(120, 100))
    extra = {"WindowCenter": center, "WindowWidth": "800"}
    if padded:
        pixels[:30] = 0
        extra["PixelPaddingValue"] = 0
    data = write_dicom(pixels, bits=12, photometric=photometric, extra=extra)
    assert find_status(data) == "blank"
    inside = write_dicom(pixels, bits=12, photometric=photometric, extra={**extra, "WindowCenter": "2000"})
    assert find_status(inside) == "ok"


def test_a_dicom_of_one_value_is_blank_without_a_window():
    assert find_status(write_dicom(np.full((64, 64), 1000, np.uint16), bits=12)) == "blank"


def test_no_real_x_ray_is_blank(xray_data: Path):
    files = sorted((xray_data / "chest-xray-224").glob("*/*"))[::40] + sorted(
        (xray_data / "chest-xray-full").iterdir()
    )
    assert len(files) > 100
    assert {find_status(path.read_bytes(), PixelRecipe(height=96, width=96)) for path in files} == {"ok"}


def test_a_blank_picture_can_still_be_shown():
    assert read_picture(encode(np.zeros((20, 30), np.uint8)), PixelRecipe()).shape == (20, 30, 1)


@given(st.integers(0, 63), st.integers(0, 63), st.integers(0, 2))
def test_wherever_the_one_other_pixel_is_the_picture_is_something(row, column, channel):
    """Most pictures are told from a few of their pixels; that must not decide on its own."""
    image = np.full((64, 64, 3), 100, np.uint8)
    image[row, column, channel] += BLANK_LEVELS
    check_content(image)
    image[row, column, channel] -= 1
    with pytest.raises(ImageError, match="blank"):
        check_content(image)
