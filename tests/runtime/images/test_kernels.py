"""Other libraries' kernels: Pillow's to the byte, TensorFlow's to the rounding, the same bytes everywhere."""

from __future__ import annotations

import hashlib
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wetread.errors import ConfigError
from wetread.runtime.images import kernel_sums, kernels
from wetread.runtime.images.kernel_sums import count_kernel_memory, scale_by_kernel
from wetread.runtime.images.kernels import Side, find_weights
from wetread.runtime.images.pixels import resize
from wetread.runtime.images.recipe import KERNELS, PILLOW, PixelRecipe, find_family
from wetread.runtime.model.golden_inputs import draw_image

PILLOWS = [kernel for kernel in KERNELS if find_family(kernel) == PILLOW]
OTHERS = [kernel for kernel in KERNELS if find_family(kernel) != PILLOW]


def draw_noise(height: int, width: int, channels: int, seed: int) -> np.ndarray:
    """Noise, or only black and white: what makes a kernel overshoot, and come near ties."""
    image = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return image // 128 * np.uint8(255) if seed % 3 == 0 else image


def scale_whole(image: np.ndarray, size: tuple[int, int], kernel: str) -> np.ndarray:
    rows, columns = (Side(old, 0, old, new) for old, new in zip(image.shape[:2], size, strict=True))
    return scale_by_kernel(image, rows, columns, kernel=kernel)


def scale_by_pillow(image: np.ndarray, size: tuple[int, int], kernel: str, box=None) -> np.ndarray:
    method = getattr(Image.Resampling, kernel.split("-")[1].upper())
    picture = Image.fromarray(image if image.shape[2] == 3 else image[..., 0])
    return np.asarray(picture.resize(size[::-1], method, box=box)).reshape(*size, image.shape[2])


SIDES = st.integers(1, 150)
IMAGES = st.tuples(SIDES, SIDES, st.sampled_from([1, 3]), st.integers(0, 1000))
SIZES = st.tuples(st.integers(1, 90), st.integers(1, 90))


@pytest.mark.parametrize("kernel", PILLOWS)
@settings(max_examples=25, deadline=None)
@given(shape=IMAGES, size=SIZES)
def test_pillows_kernels_are_pillows_to_the_byte(kernel, shape, size):
    image = draw_noise(*shape)
    np.testing.assert_array_equal(scale_whole(image, size, kernel), scale_by_pillow(image, size, kernel))


@pytest.mark.parametrize("kernel", PILLOWS)
@pytest.mark.parametrize(
    ("sides", "size"),
    [
        ((600, 600), (224, 224)),  # box: edges on pixel centres, where float64 decides
        ((300, 50), (64, 64)),  # rows first
        ((100, 100), (64, 64)),
        ((700, 900), (1, 1)),
        ((1, 1), (20, 30)),
        ((7, 640), (7, 224)),
    ],
)
def test_pillows_kernels_where_they_are_particular(kernel, sides, size):
    image = draw_noise(*sides, 1, 1)
    np.testing.assert_array_equal(scale_whole(image, size, kernel), scale_by_pillow(image, size, kernel))


@pytest.mark.parametrize("kernel", PILLOWS)
@settings(max_examples=15, deadline=None)
@given(shape=IMAGES, size=SIZES, part=st.tuples(*[st.floats(0, 1)] * 4))
def test_a_part_is_scaled_with_what_lies_around_it_as_in_pillow(kernel, shape, size, part):
    image = draw_noise(*shape)
    top, bottom = sorted(round(share * shape[0]) for share in part[:2])
    left, right = sorted(round(share * shape[1]) for share in part[2:])
    bottom, right = max(bottom, top + 1), max(right, left + 1)
    if bottom > shape[0] or right > shape[1]:
        return
    found = scale_by_kernel(
        image, Side(shape[0], top, bottom, size[0]), Side(shape[1], left, right, size[1]), kernel=kernel
    )
    expected = scale_by_pillow(image, size, kernel, box=(left, top, right, bottom))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kernel", OTHERS)
def test_tensorflows_kernels_are_tensorflows_rounded_once(kernel):
    tf = pytest.importorskip("tensorflow")
    _, method, *smooth = kernel.split("-")
    for seed, (height, width, size) in enumerate(
        [(70, 50, (33, 41)), (50, 70, (96, 31)), (256, 300, (64, 64)), (9, 5, (40, 40)), (48, 64, (48, 64))]
    ):
        image = draw_noise(height, width, 1 + 2 * (seed % 2), seed)
        exact = tf.image.resize(image, size, method=method, antialias=bool(smooth)).numpy()
        found = scale_whole(image, size, kernel)
        # Half a level is the rounding; what is left is TensorFlow's float32.
        assert np.abs(found - np.clip(exact, 0, 255)).max() <= (0 if method == "nearest" else 0.53)


# Exported models rely on these bytes: a change here makes their self-tests fail.
DIGESTS = {
    "pillow-nearest": "5405a0c3cf496b80",
    "pillow-box": "5adb6c97595419f8",
    "pillow-bilinear": "ff37071bd08046a9",
    "pillow-hamming": "30ec9b4a197eece9",
    "pillow-bicubic": "86cdd52ea839f9ff",
    "pillow-lanczos": "747ec79cadc346bd",
    "tensorflow-nearest": "7ef095a449263505",
    "tensorflow-area": "23d924849c591401",
    "tensorflow-bilinear": "d93fe65b9162f0e9",
    "tensorflow-bicubic": "594c2f2acf485c8c",
    "tensorflow-lanczos3": "336e7421f4957255",
    "tensorflow-lanczos5": "571b53a77370ba2d",
    "tensorflow-bilinear-antialias": "fd5f566c9c1b7de6",
    "tensorflow-bicubic-antialias": "c0ffc7588eeaafeb",
    "tensorflow-lanczos3-antialias": "2317b2971a80b2c2",
    "tensorflow-lanczos5-antialias": "3a294e63166d51c1",
}


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_machine_makes_the_same_bytes(kernel):
    recipe = PixelRecipe(height=37, width=64, color="rgb", kernel=kernel, scaled_decoding=0)
    digest = hashlib.sha256()
    for sides in ((90, 111), (20, 30), (37, 64), (300, 50)):
        digest.update(resize(draw_image(3, shape=(*sides, 3)), recipe).tobytes())
    assert digest.hexdigest()[:16] == DIGESTS[kernel]


@pytest.mark.parametrize("kernel", KERNELS)
def test_small_products_and_a_fresh_start_make_the_same_pixels(kernel, monkeypatch):
    image = draw_noise(61, 83, 3, 5)
    expected = scale_whole(image, (29, 100), kernel)
    monkeypatch.setattr(kernel_sums, "_BLOCK", 3)
    monkeypatch.setattr(kernel_sums, "_PRODUCTS", 50)
    kernels.find_weights.cache_clear()
    np.testing.assert_array_equal(scale_whole(image, (29, 100), kernel), expected)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("level", [0, 255])
def test_an_image_of_one_level_keeps_it(kernel, level):
    image = np.full((53, 31, 1), level, np.uint8)
    assert (scale_whole(image, (17, 64), kernel) == level).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_weights_of_a_new_pixel_sum_to_one(kernel):
    for old, new in ((100, 37), (37, 100), (5, 5), (1, 9)):
        weights = find_weights(kernel, Side(old, 0, old, new))
        sums = weights.shares.sum(axis=1)
        assert np.abs(sums - (1 << weights.bits)).max() <= weights.shares.shape[1]
        assert weights.positions.min() >= 0 and weights.positions.max() < old


@pytest.mark.parametrize("kernel", ["pillow-lanczos", "tensorflow-bicubic", "tensorflow-bilinear-antialias"])
def test_no_more_memory_is_taken_than_is_counted(kernel):
    image = draw_noise(1500, 900, 3, 4)
    rows, columns = Side(1500, 0, 1500, 224), Side(900, 0, 900, 224)
    kernels.find_weights.cache_clear()
    tracemalloc.start()
    try:
        scale_by_kernel(image, rows, columns, kernel=kernel)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= count_kernel_memory(image.shape, rows, columns)


def test_a_recipe_of_another_library_decodes_in_full_and_pads_only_where_that_library_does():
    with pytest.raises(ConfigError, match="'scaled_decoding' must be 0 with the kernel pillow-nearest"):
        PixelRecipe(kernel="pillow-nearest")
    with pytest.raises(ConfigError, match="load_img does not pad"):
        PixelRecipe(kernel="pillow-nearest", scaled_decoding=0, resize="fit")
    with pytest.raises(ConfigError, match="'kernel' must be one of area, pillow-nearest"):
        PixelRecipe(kernel="opencv-linear", scaled_decoding=0)
    assert PixelRecipe(kernel="tensorflow-bilinear", scaled_decoding=0, resize="fit").kernel
