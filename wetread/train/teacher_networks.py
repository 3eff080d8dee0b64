"""Open a teacher's networks, and read the images as they are used to see them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ConfigError, DatasetError, ModelError
from wetread.evaluate.labelled_folders import list_data
from wetread.keras_backend import import_keras
from wetread.runtime.images.cache import cache_images
from wetread.runtime.images.recipe import PixelRecipe
from wetread.runtime.model.file_reading import read_model
from wetread.runtime.model.session import ModelSession
from wetread.runtime.model.spec import ModelSpec, extract_spec
from wetread.train import run as runs
from wetread.train.config import VIEWS, TrainConfig
from wetread.train.dataset import Dataset, choose_subset
from wetread.train.events import ImagesRead, OnEvent
from wetread.train.network import widen
from wetread.train.pretrained import DAMAGED
from wetread.train.weights_file import digest_weights, read_options

Pixels = NDArray[np.uint8]
Answers = NDArray[np.float32]
Answer = Callable[[Pixels], Answers]
# What a run writes into its spec, and export copies: two runs that have it in common have one split.
_OF_A_RUN = ("architecture", "parameters", "epochs", "seed", "images", "data")


@dataclass(frozen=True)
class Place:
    """Where a teacher's network is: a finished RUN, or a model file.

    `is_known`: whether it is known which images trained it.
    """

    path: Path
    is_run: bool
    is_known: bool = True

    @property
    def network(self) -> Path:
        """The file that holds the network."""
        return self.path / runs.MODEL if self.is_run else self.path


@dataclass(frozen=True)
class Member:
    """One network that answers. `answer`: uint8 (N, H, W, C) to probabilities in its own order of labels.

    `order`: the columns of the student's labels. `pixels`: the data set's images as its recipe reads them;
    None if that is the student's recipe. `digest`: SHA-256 of the network and of how it is asked.
    """

    order: list[int]
    answer: Answer
    pixels: Pixels | None
    digest: str


class ImageReader:
    """Reads a data set's images by other recipes than its own, each recipe once."""

    def __init__(self, data: Dataset, config: TrainConfig, on_event: OnEvent) -> None:
        self._data = data
        self._config = config
        self._on_event = on_event
        self._found: dict[PixelRecipe, Pixels | None] = {config.recipe(): None}

    def read(self, recipe: PixelRecipe) -> Pixels | None:
        """Return the images, uint8 (M, H, W, C), by `Dataset.rows`; None for the data set's own recipe.

        Raises ConfigError for images that cannot be read so, and DatasetError if the data have changed.
        """
        if recipe not in self._found:
            self._found[recipe] = self._read(recipe)
        return self._found[recipe]

    def _read(self, recipe: PixelRecipe) -> Pixels:
        data, config = self._data, self._config
        listing = list_data(config.data, config.labels)
        images = choose_subset(listing, config)
        if [images[row].name for row in data.rows if row < len(images)] != list(data.names):
            raise DatasetError(f"{config.data} changed while the run began. Start it again.")
        cache = cache_images(
            [image.entry for image in images],
            recipe,
            source=listing.source,
            folder=config.cache_folder(),
            root=listing.root,
            on_progress=lambda done, total: self._on_event(ImagesRead(done=done, total=total)),
        )
        lost = [name for name, row in zip(data.names, data.rows, strict=True) if int(row) in cache.failures]
        if lost:
            raise ConfigError(
                f"The teacher reads images at {recipe.height} x {recipe.width}, and {len(lost):,} of them "
                f"cannot be read so, {lost[0]} say. Leave them out, or choose another teacher."
            )
        return cache.pixels


def open_member(place: Place, data: Dataset, reader: ImageReader) -> Member:
    """Open a teacher's network. Raises ConfigError, and ModelError for a model file that cannot be used."""
    if place.is_run:
        spec = read_spec(place.path)
        check_labels(spec, data, place)
        answer = _open_run(place, spec)
    else:
        session = ModelSession(place.path, device="cpu")
        spec, answer = session.spec, session.classify
        check_labels(spec, data, place)
    return Member(
        order=[spec.labels.index(label) for label in data.labels],
        answer=answer,
        pixels=reader.read(spec.pixels),
        digest=_digest(place, spec),
    )


def _digest(place: Place, spec: ModelSpec) -> str:
    asked = repr((spec.labels, spec.pixels, spec.scale, spec.offset, spec.head))
    return hashlib.sha256(f"{digest_weights(place.network)}\n{asked}".encode()).hexdigest()


def find_run(place: Place) -> Path | None:
    """Find the RUN that a model file was exported from, if it is in that RUN's folder; None otherwise.

    Raises ConfigError, and ModelError for a file that is no model.
    """
    run = place.path.parent
    if not (runs.is_finished(run) and (run / runs.SPEC).is_file()):
        return None
    data, name = read_model(place.path)
    exported, own = extract_spec(data, name=name).training, read_spec(run).training
    same = [name in own and exported.get(name) == own[name] for name in _OF_A_RUN]
    return run if all(same) else None


def read_spec(run: Path) -> ModelSpec:
    """Read the spec of a RUN. Raises ConfigError."""
    path = run / runs.SPEC
    if read_options(run).get("objective") == VIEWS:
        raise ConfigError(
            f"The network in {run} was trained without labels: it has no answers, and cannot teach. Begin "
            f"with it instead: --weights {run}"
        )
    try:
        return ModelSpec.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ModelError) as error:
        raise ConfigError(_explain_unread(path, error)) from error


def _explain_unread(path: Path, error: Exception) -> str:
    reason = " ".join(str(error).split())[:300].rstrip(".")
    return f"The teacher's {path} cannot be read: {reason}. Copy the whole run again, or take another."


def check_labels(spec: ModelSpec, data: Dataset, place: Place) -> None:
    """Check that a teacher has the data set's labels, in any order. Raises ConfigError."""
    if sorted(spec.labels) != sorted(data.labels):
        raise ConfigError(
            f"The teacher in {place.path} answers {', '.join(spec.labels)}, and the labels here are "
            f"{', '.join(data.labels)}. A teacher has the same labels."
        )


def _open_run(place: Place, spec: ModelSpec) -> Answer:
    """Return a function that asks a RUN's network; it is compiled once, for one size of batches."""
    keras = import_keras()
    import tensorflow

    scale, offset = (np.asarray(value, np.float32) for value in (spec.scale, spec.offset))
    try:
        network = keras.models.load_model(place.network, compile=False, safe_mode=True)
        network.trainable = False
        one = np.zeros((1, *spec.pixels.shape), np.float32)
        shape = np.shape(widen(np.asarray(network(one, training=False)), head=spec.head))
    except DAMAGED as error:
        raise ConfigError(_explain_unread(place.network, error)) from error
    if shape != (1, len(spec.labels)):
        raise ConfigError(
            f"The teacher's network {place.network} answers {shape}, and its {runs.SPEC} has "
            f"{len(spec.labels)} labels: they are not of one run. Copy the whole run again."
        )
    if not all(np.isfinite(weight).all() for weight in network.get_weights()):
        raise ConfigError(
            f"The teacher's network {place.network} has weights that are not finite. Take another teacher."
        )
    ask: Any = tensorflow.function(lambda images: network(images, training=False), reduce_retracing=True)

    def answer(images: Pixels) -> Answers:
        return widen(np.asarray(ask(tensorflow.constant(images * scale + offset))), head=spec.head)

    return answer
