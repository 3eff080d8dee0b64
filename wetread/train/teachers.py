"""Teachers: trained networks whose answers for each augmented view another one learns from.

    train(TrainConfig(data="DATA", output="student", teacher="run"))

A teacher is a RUN, a RUN with folds, or a model file. It never saw a patient that validates the student:
otherwise its answers would tell of them, and the student's validation figures would be too good.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ConfigError
from wetread.evaluate.labelled_folders import list_data
from wetread.evaluate.patients import compile_group_regex, find_group
from wetread.keras_backend import import_keras
from wetread.runtime.entries import is_bucket_location
from wetread.runtime.images.cache import cache_images
from wetread.runtime.images.recipe import PixelRecipe
from wetread.runtime.model.session import ModelSession
from wetread.runtime.model.spec import ModelSpec
from wetread.train import run as runs
from wetread.train.augment import Policy, augment_images
from wetread.train.config import TrainConfig, split_teachers
from wetread.train.dataset import Dataset, choose_subset
from wetread.train.distillation import soften
from wetread.train.events import OnEvent, TeachersFound
from wetread.train.network import widen
from wetread.train.weights_file import digest_weights

if TYPE_CHECKING:
    pass

Pixels = NDArray[np.uint8]
Answers = NDArray[np.float32]
_TRAIN = "train"
_PARTS = ("train/", "val/", "test/")


@dataclass(frozen=True)
class Place:
    """Where a teacher's network is: a finished RUN, or a model file."""

    path: Path
    is_run: bool

    @property
    def network(self) -> Path:
        """The file that holds the network."""
        return self.path / runs.MODEL if self.is_run else self.path


@dataclass(frozen=True)
class Member:
    """One network that answers. `answer`: uint8 (N, H, W, C) to probabilities in its own order of labels.

    `pixels`: the data set's images as its recipe reads them; None if that is the student's recipe.
    """

    order: list[int]
    answer: Callable[[Pixels], Answers]
    pixels: Pixels | None


@dataclass(frozen=True, kw_only=True)
class Teachers:
    """The networks that answer for a run's training images. `digest`: SHA-256 of their files."""

    members: tuple[Member, ...]
    data: Dataset
    policy: Policy
    seed: int
    temperature: float
    digest: str

    def answer(self, images: Pixels, positions: NDArray[np.intp], epoch: int) -> Answers:
        """Return the teachers' mean answer for views of images, softened: float32 (N, K), by student's label.

        `images`: the student's views, uint8 (N, H, W, C), of the images at `positions` in the data set. A
        teacher with another recipe sees the same change of the image that its own recipe reads.
        """
        said = []
        for member in self.members:
            views = images
            if member.pixels is not None:
                views = augment_images(
                    member.pixels[self.data.rows[positions]],
                    self.policy,
                    indices=positions,
                    seed=self.seed,
                    epoch=epoch,
                )
            said.append(member.answer(views)[:, member.order])
        return soften(said, temperature=self.temperature)


def open_teachers(
    config: TrainConfig, data: Dataset, policy: Policy, *, on_event: OnEvent
) -> Teachers | None:
    """Open the teachers of a run and check that none saw what validates it; None for a run without.

    Raises ConfigError, and ModelError for a model file that cannot be used.
    """
    if config.teacher is None:
        return None
    places = [
        place for name in split_teachers(config.teacher) for place in _choose_networks(name, data, config)
    ]
    members = tuple(_open_member(place, data, config) for place in places)
    digests = [digest_weights(place.network) for place in places]
    unknown = tuple(place.path.name for place in places if not place.is_run)
    on_event(
        TeachersFound(
            networks=len(members),
            share=config.teacher_share,
            temperature=config.teacher_temperature,
            unknown=unknown,
        )
    )
    return Teachers(
        members=members,
        data=data,
        policy=policy,
        seed=config.seed,
        temperature=config.teacher_temperature,
        digest=hashlib.sha256("\n".join(digests).encode()).hexdigest(),
    )


def check_teachers(config: TrainConfig) -> None:
    """Refuse teachers that are not there, before any data are read. Raises ConfigError."""
    for name in split_teachers(config.teacher):
        find_teacher(name)


def find_teacher(name: str) -> Place:
    """Find a finished RUN or a model file by its name. Raises ConfigError."""
    if is_bucket_location(name):
        raise ConfigError(
            f"teacher {name!r} is in a bucket, and teachers are read from this disk. Copy it here first."
        )
    path = Path(name)
    if path.is_file() and path.suffix == ".onnx":
        return Place(path, is_run=False)
    if (path / runs.MODEL).is_file() and runs.is_finished(path):
        return Place(path, is_run=True)
    if (path / runs.CONFIG).is_file():
        raise ConfigError(f"The teacher's run in {path} is not finished. Continue it with --resume first.")
    raise ConfigError(
        f"teacher must be a finished run or a model file (.onnx), and {name!r} is neither. Of another Keras "
        "file, make a model file with wetread export --keras FILE."
    )


def _choose_networks(name: str, data: Dataset, config: TrainConfig) -> list[Place]:
    """The networks of a teacher that never saw a patient who validates here: its own, or those of folds."""
    place = find_teacher(name)
    if not place.is_run:
        return [place]
    _check_labels(_read_spec(place), data, place)
    held = _HeldOut(data, config)
    folds = [fold for fold in sorted(place.path.glob("fold-*")) if runs.is_finished(fold)]
    seen = held.find_seen(place.path)
    if not seen:
        return [place]
    apart = [Place(fold, is_run=True) for fold in folds if not held.find_seen(fold)]
    if apart:
        return apart
    raise ConfigError(
        f"The teacher in {place.path} trained on {len(seen):,} images of patients who validate this run, "
        f"{seen[0]} say: its answers would tell of them, and the figures would be too good. Train both with "
        "the same --seed and --validation (and --folds, if either has them), or with one DATA/val."
    )


class _HeldOut:
    """The images and patients of a run that do not train it, by names below DATA without train/ or val/.

    A patient of DATA/val who is in DATA/train as well is not: the student sees them itself.
    """

    def __init__(self, data: Dataset, config: TrainConfig) -> None:
        self._pattern = compile_group_regex(config.group_regex)
        self._names = {_strip_part(name) for name in data.names}
        own = {self._find_group(data.names[i]) for i in data.select(_TRAIN)}
        aside = [name for name, split in zip(data.names, data.splits, strict=True) if split != _TRAIN]
        self._groups = {self._find_group(name) for name in aside} - own

    def _find_group(self, name: str) -> str:
        return find_group(_strip_part(name), self._pattern)

    def find_seen(self, run: Path) -> list[str]:
        """Return the images that trained a RUN and show a patient who is held out here.

        Of a RUN that knows none of these images patients are not compared: numbers of another hospital's
        patients are others.
        """
        with (run / runs.SPLITS).open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
            rows = list(csv.DictReader(lines))
        if not any(_strip_part(row["name"]) in self._names for row in rows):
            return []
        return [
            row["name"]
            for row in rows
            if row["split"] == _TRAIN and self._find_group(row["name"]) in self._groups
        ]


def _strip_part(name: str) -> str:
    return next((name.removeprefix(part) for part in _PARTS if name.startswith(part)), name)


def _open_member(place: Place, data: Dataset, config: TrainConfig) -> Member:
    if place.is_run:
        spec = _read_spec(place)
        answer = _open_run(place, spec)
    else:
        session = ModelSession(place.path, device="cpu")
        spec, answer = session.spec, session.classify
    _check_labels(spec, data, place)
    own = spec.pixels == config.recipe()
    return Member(
        order=[spec.labels.index(label) for label in data.labels],
        answer=answer,
        pixels=None if own else _read_pixels(spec.pixels, data, config),
    )


def _read_spec(place: Place) -> ModelSpec:
    return ModelSpec.from_json((place.path / runs.SPEC).read_text(encoding="utf-8"))


def _check_labels(spec: ModelSpec, data: Dataset, place: Place) -> None:
    if sorted(spec.labels) != sorted(data.labels):
        raise ConfigError(
            f"The teacher in {place.path} answers {', '.join(spec.labels)}, and the labels here are "
            f"{', '.join(data.labels)}. A teacher has the same labels."
        )


def _open_run(place: Place, spec: ModelSpec) -> Callable[[Pixels], Answers]:
    """Return a function that asks a RUN's network; it is compiled once, for one size of batches."""
    keras = import_keras()
    import tensorflow

    network = keras.models.load_model(place.network, compile=False)
    network.trainable = False
    scale = np.float32(spec.scale[0])
    ask: Any = tensorflow.function(lambda images: network(images, training=False), reduce_retracing=True)

    def answer(images: Pixels) -> Answers:
        return widen(np.asarray(ask(tensorflow.constant(images * scale))), head=spec.head)

    return answer


def _read_pixels(recipe: PixelRecipe, data: Dataset, config: TrainConfig) -> Pixels:
    """Read the data set's images by another recipe, in the rows of `data.rows`. Raises ConfigError."""
    listing = list_data(config.data, config.labels)
    images = choose_subset(listing, config)
    cache = cache_images(
        [image.entry for image in images],
        recipe,
        source=listing.source,
        folder=config.cache_folder(),
        root=listing.root,
    )
    lost = [name for name, row in zip(data.names, data.rows, strict=True) if int(row) in cache.failures]
    if lost:
        raise ConfigError(
            f"The teacher reads images at {recipe.height} x {recipe.width}, and {len(lost):,} of them cannot "
            f"be read so, {lost[0]} say. Leave them out, or choose another teacher."
        )
    return cache.pixels
