"""Images as the owner's libraries load them: Keras' and TensorFlow's own functions, called, not imitated."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ExportError
from wetread.export.pipelines import Pipeline
from wetread.keras_backend import import_keras
from wetread.packages import importing
from wetread.runtime.images.recipe import PILLOW, PixelRecipe

Loaded = NDArray[np.float32]
# What image_dataset_from_directory takes for an image, by its name.
_ENDINGS = (".bmp", ".jpeg", ".jpg", ".png")


def load_images(paths: Sequence[str], pipeline: Pipeline, recipe: PixelRecipe) -> Loaded:
    """Load files by a pipeline's own code, at a recipe's size.

    Returns float32 (N, height, width, 1 or 3), gray or RGB, in levels from 0 to 255 or, where a kernel
    overshoots, a little beyond. Raises ExportError naming a file that the owner's code does not read.
    """
    size = (recipe.height, recipe.width)
    if pipeline.family == PILLOW:
        return _load_each(paths, lambda path: _load_by_pillow(path, pipeline, size, recipe.channels))
    if pipeline.loader == "keras:dataset":
        return _load_dataset(paths, pipeline, size, recipe.channels)
    return _load_each(paths, lambda path: _load_by_tensorflow(path, pipeline, size, recipe.channels))


def _load_each(paths: Sequence[str], load: Callable[[str], Loaded]) -> Loaded:
    images = []
    for path in paths:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's, of palettes: what it does is what is asked
                images.append(load(path))
        except Exception as error:
            raise _explain(path, error) from error
    return np.stack(images)


def _explain(path: str, error: Exception) -> ExportError:
    return ExportError(
        f"The owner's code cannot read {path}, which wetread reads: {type(error).__name__}: "
        f"{' '.join(str(error).split())[:200]}. Leave the file out of --images."
    )


def _load_by_pillow(path: str, pipeline: Pipeline, size: tuple[int, int], channels: int) -> Loaded:
    with importing("pillow", extra="train"):
        import PIL  # noqa: F401
    keras = import_keras()
    image = keras.utils.load_img(
        path,
        color_mode="grayscale" if channels == 1 else "rgb",
        target_size=size,
        interpolation=pipeline.interpolation,
        keep_aspect_ratio=pipeline.resize == "crop",
    )
    loaded: Loaded = keras.utils.img_to_array(image)
    return loaded


def _load_by_tensorflow(path: str, pipeline: Pipeline, size: tuple[int, int], channels: int) -> Loaded:
    import tensorflow as tf

    image = tf.io.decode_image(tf.io.read_file(path), channels=channels, expand_animations=False)
    method, antialias = pipeline.interpolation, pipeline.antialias
    loaded: Loaded = tf.image.resize(image, size, method=method, antialias=antialias).numpy()
    return loaded


def _load_dataset(paths: Sequence[str], pipeline: Pipeline, size: tuple[int, int], channels: int) -> Loaded:
    """By image_dataset_from_directory, which lists a folder: one of links to the files, in their order."""
    keras = import_keras()
    with tempfile.TemporaryDirectory() as folder:
        for index, path in enumerate(paths):
            _link(path, Path(folder) / f"{index:06d}{_choose_ending(path)}")
        dataset = keras.utils.image_dataset_from_directory(
            folder,
            labels=None,
            color_mode="grayscale" if channels == 1 else "rgb",
            batch_size=1,
            image_size=size,
            shuffle=False,
            interpolation=pipeline.interpolation,
            crop_to_aspect_ratio=pipeline.resize == "crop",
            pad_to_aspect_ratio=pipeline.resize == "fit",
            verbose=False,
        )
        return np.concatenate(_take_batches(dataset, paths))


def _take_batches(dataset: Any, paths: Sequence[str]) -> list[Loaded]:
    batches: list[Loaded] = []  # those before an error say which file it is
    try:
        batches.extend(batch.numpy() for batch in dataset)
    except Exception as error:
        raise _explain(paths[min(len(batches), len(paths) - 1)], error) from error
    if len(batches) != len(paths):
        raise ExportError(f"Keras' dataset returned {len(batches)} images instead of {len(paths)}.")
    return batches


def _choose_ending(path: str) -> str:
    """An ending that Keras lists; TensorFlow tells the format by the bytes."""
    ending = Path(path).suffix.lower()
    return ending if ending in _ENDINGS else ".png"


def _link(path: str, place: Path) -> None:
    try:
        place.symlink_to(Path(path).absolute())
    except OSError:  # Windows without the right to make links
        place.write_bytes(Path(os.fspath(path)).read_bytes())
