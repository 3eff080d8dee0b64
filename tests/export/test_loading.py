"""Loaders of others beside wetread's pixels: Keras', Pillow's and TensorFlow's own functions judge."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.export.networks import KERAS_WARNING
from tests.export.owned import train_owned
from tests.pictures import fill_folder
from wetread.errors import ConfigError, ExportError, ImageError
from wetread.export import measure_parity
from wetread.export.loading import load_images
from wetread.export.pipelines import choose_pipeline, read_pipeline
from wetread.runtime.images.pixels import read_pixels
from wetread.runtime.images.recipe import PILLOW

pytestmark = pytest.mark.filterwarnings(KERAS_WARNING)

SIZE = (48, 60)
# What people call, with and without its options.
PIPELINES = (
    "keras:load_img,nearest",
    "keras:load_img,bilinear",
    "keras:load_img,bicubic,crop",
    "keras:load_img,lanczos",
    "keras:dataset,bilinear",
    "keras:dataset,bilinear,crop",
    "keras:dataset,bilinear,pad",
    "keras:dataset,nearest",
    "keras:dataset,area",
    "tf:resize,bilinear",
    "tf:resize,bilinear,antialias",
    "tf:resize,bicubic,antialias",
)


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> list[Path]:
    return fill_folder(tmp_path_factory.mktemp("pictures"), count=70, first=9_000)


def read_ours(paths: list[Path], name: str, color: str) -> tuple[list[Path], np.ndarray]:
    """The files that have pixels by a pipeline's recipe, and those."""
    recipe = read_pipeline(name).make_recipe(size=SIZE, color=color)
    kept, images = [], []
    for path in paths:
        try:
            images.append(read_pixels(path.read_bytes(), recipe))
            kept.append(path)
        except ImageError as error:
            assert "16-bit gray" in str(error) and color == "gray"
            assert read_pipeline(name).family == PILLOW
    return kept, np.stack(images)


def is_refused(path: Path, name: str) -> bool:
    """Whether a picture is so long that TensorFlow's padding leaves it no pixel: its own code ends there."""
    with Image.open(path) as image:
        width, height = image.size
    scale = min(SIZE[1] / width, SIZE[0] / height)
    return name.endswith("pad") and min(width * scale, height * scale) < 1


def check_pixels(paths: list[Path], name: str, color: str) -> None:
    """Pillow's pixels to the byte; TensorFlow's, which are not whole, to the rounding."""
    pipeline = read_pipeline(name)
    kept, ours = read_ours([path for path in paths if not is_refused(path, name)], name, color)
    recipe = pipeline.make_recipe(size=SIZE, color=color)
    owners = load_images([str(path) for path in kept], pipeline, recipe)
    off = np.abs(np.clip(owners, 0, 255) - ours).reshape(len(kept), -1).max(axis=1)
    limit = 0 if pipeline.family == PILLOW or pipeline.interpolation == "nearest" else 0.53
    assert off.max() <= limit, kept[int(off.argmax())]


@pytest.mark.parametrize("color", ["rgb", "gray"])
@pytest.mark.parametrize("name", PIPELINES)
def test_pixels_are_the_owners(paths, name, color):
    check_pixels(paths, name, color)


@pytest.mark.parametrize("color", ["rgb", "gray"])
def test_a_generator_reads_as_load_img_does(tmp_path, color):
    """ImageDataGenerator, of which Keras keeps a copy for old code."""
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    fill_folder(tmp_path, count=30, first=700)
    kept, _ = read_ours(sorted(tmp_path.rglob("*.*")), "keras:generator", color)
    for path in set(tmp_path.rglob("*.*")) - set(kept):
        path.unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of palettes
        flow = ImageDataGenerator().flow_from_directory(
            str(tmp_path),
            target_size=SIZE,
            color_mode="grayscale" if color == "gray" else "rgb",
            batch_size=1,
            shuffle=False,
            class_mode=None,
        )
        owners = np.concatenate([flow[index] for index in range(len(kept))])
    names = [tmp_path / name for name in flow.filenames]
    np.testing.assert_array_equal(read_ours(names, "keras:generator", color)[1], owners)


@pytest.mark.long
@pytest.mark.parametrize("color", ["rgb", "gray"])
@pytest.mark.parametrize("name", PIPELINES)
def test_pixels_of_two_thousand_pictures_are_the_owners(tmp_path_factory, name, color):
    folder = tmp_path_factory.getbasetemp() / "two-thousand"
    if not folder.exists():
        fill_folder(folder, count=2_000, first=100_000)
    check_pixels(sorted(folder.rglob("*.*")), name, color)


# The seven of the promise: load_img twice, its crop, a generator, a data set twice, tf.image.resize.
SEVEN = (
    "keras:load_img,nearest",
    "keras:load_img,bilinear",
    "keras:load_img,bicubic,crop",
    "keras:generator,nearest",
    "keras:dataset,bilinear",
    "keras:dataset,bilinear,crop",
    "tf:resize,bilinear,antialias",
)


@pytest.mark.long
@pytest.mark.parametrize("name", SEVEN)
def test_labels_and_probabilities_of_two_thousand_pictures_are_the_owners(tmp_path, name):
    """99.9% of the labels; probabilities within 0.001 for 99% of the pictures.

    TensorFlow's pixels are no whole levels, and a file's are: in this network of 32 x 32 pixels that alone
    makes up to 0.0014.
    """
    owned = train_owned(tmp_path)
    fill_folder(tmp_path / "fresh", count=2_000, first=100_000)
    model = owned.export("model", pipeline=name)
    report = measure_parity(owned.file, models=[model], images=tmp_path / "fresh", reference=name)
    gap = report.models[0].beside_owner
    assert report.passed and report.images >= 1_900
    limit = 1e-3 if name.startswith(("keras:load_img", "keras:generator")) else 2e-3
    assert gap.flips + gap.near_flips <= 0.001 * report.images and gap.p99_difference <= limit


def test_a_picture_that_padding_leaves_no_pixel_is_named(tmp_path):
    """TensorFlow: "output dimensions must be positive". wetread reads it, one pixel wide."""
    name = "keras:dataset,bilinear,pad"
    for number, shape in enumerate([(40, 50), (9, 615)]):
        Image.fromarray(np.full((*shape, 3), 90 + number, np.uint8)).save(tmp_path / f"{number}.png")
    paths = sorted(tmp_path.iterdir())
    assert [is_refused(path, name) for path in paths] == [False, True]
    recipe = read_pipeline(name).make_recipe(size=SIZE, color="rgb")
    with pytest.raises(ExportError, match=r"owner's code cannot read .*1\.png.*Leave the file out"):
        load_images([str(path) for path in paths], read_pipeline(name), recipe)
    pixels = read_pixels(paths[1].read_bytes(), recipe)
    assert set(np.unique(pixels)) == {0, 91} and (pixels.max(axis=(1, 2)) > 0).sum() == 1


def test_a_file_that_the_owners_code_does_not_read_is_named(tmp_path):
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for name in ("keras:load_img", "keras:dataset", "tf:resize"):
        pipeline = read_pipeline(name)
        with pytest.raises(ExportError, match=r"owner's code cannot read .*cut\.png"):
            load_images([str(tmp_path / "cut.png")], pipeline, pipeline.make_recipe(size=SIZE, color="rgb"))


def test_names_are_read_and_written():
    for name in (*PIPELINES, "keras:generator,box", "keras:dataset,lanczos5,pad", "tf:resize,nearest,caffe"):
        assert read_pipeline(name).name == name
    assert read_pipeline("keras:load_img").name == "keras:load_img,nearest"
    assert read_pipeline("keras:dataset, lanczos").name == "keras:dataset,lanczos3"
    assert read_pipeline("keras:load_img,area").name == "keras:load_img,box"
    for name in ("keras", "keras:load_img,pad", "tf:resize,crop", "keras:dataset,antialias", "tf:resize,box"):
        with pytest.raises(ConfigError, match="A pipeline begins with|At most one of each"):
            read_pipeline(name)


def test_a_kernel_alone_stands_for_a_pipeline_and_is_called_a_guess():
    for kernel, name in (("nearest", "keras:load_img,nearest"), ("lanczos", "keras:dataset,lanczos3")):
        pipeline, guess = choose_pipeline(None, kernel=kernel, resize="stretch")
        assert pipeline is not None and pipeline.name == name
        assert guess is not None and guess.startswith(f"guessed from --resize-kernel {kernel}: ")
    assert choose_pipeline(None, kernel="area", resize="stretch") == (None, None)
    assert choose_pipeline(None, kernel=None, resize="fit") == (None, None)
    pipeline, guess = choose_pipeline("keras:dataset", kernel="bicubic", resize="fit")
    assert pipeline is not None and (pipeline.name, guess) == ("keras:dataset,bicubic,pad", None)
    with pytest.raises(ConfigError):
        choose_pipeline(None, kernel="sharp", resize="stretch")
    with pytest.raises(ConfigError):
        choose_pipeline("keras:load_img", kernel=None, resize="fit")
