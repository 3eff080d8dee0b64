"""Teachers: trained networks whose answers for each augmented view another one learns from.

    train(TrainConfig(data="DATA", output="student", teacher="run"))

A teacher is a RUN, a RUN with folds, or a model file. It never saw a patient that validates the student:
otherwise its answers would tell of them, and the student's validation figures would be too good.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ConfigError
from wetread.runtime.entries import is_bucket_location
from wetread.train import run as runs
from wetread.train.augment import Policy, augment_images
from wetread.train.config import TrainConfig, split_teachers
from wetread.train.dataset import Dataset
from wetread.train.distillation import soften
from wetread.train.events import OnEvent, TeachersFound
from wetread.train.seen_patients import HeldOut
from wetread.train.teacher_networks import (
    Answers,
    ImageReader,
    Member,
    Pixels,
    Place,
    check_labels,
    find_run,
    open_member,
    read_spec,
)


@dataclass(frozen=True, kw_only=True)
class Teachers:
    """The networks that answer for a run's training images. `digest`: SHA-256 of what they compute."""

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
        said, changed = [], dict[int, Pixels]()  # teachers of one recipe share their views
        for member in self.members:
            views, plain = images, member.pixels
            if plain is not None:
                if id(plain) not in changed:
                    changed[id(plain)] = self._change(plain[self.data.rows[positions]], positions, epoch)
                views = changed[id(plain)]
            said.append(member.answer(views)[:, member.order])
        return soften(said, temperature=self.temperature)

    def _change(self, plain: Pixels, positions: NDArray[np.intp], epoch: int) -> Pixels:
        return augment_images(plain, self.policy, indices=positions, seed=self.seed, epoch=epoch)


def open_teachers(
    config: TrainConfig, data: Dataset, policy: Policy, *, on_event: OnEvent
) -> Teachers | None:
    """Open the teachers of a run and check that none saw what validates it; None for a run without.

    Raises ConfigError, and ModelError for a model file that cannot be used.
    """
    if config.teacher is None:
        return None
    held, reader = HeldOut(data, config), ImageReader(data, config, on_event)
    places = [
        place for name in split_teachers(config.teacher) for place in _choose_networks(name, data, held)
    ]
    members = tuple(open_member(place, data, reader) for place in places)
    on_event(
        TeachersFound(
            networks=len(members),
            share=config.teacher_share,
            temperature=config.teacher_temperature,
            unknown=tuple(place.path.name for place in places if not place.is_known),
        )
    )
    return Teachers(
        members=members,
        data=data,
        policy=policy,
        seed=config.seed,
        temperature=config.teacher_temperature,
        digest=hashlib.sha256("\n".join(member.digest for member in members).encode()).hexdigest(),
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
    if path.is_file() and path.suffix.lower() == ".onnx":
        return Place(path, is_run=False)
    if (path / runs.MODEL).is_file() and runs.is_finished(path):
        return Place(path, is_run=True)
    if (path / runs.CONFIG).is_file():
        raise ConfigError(f"The teacher's run in {path} is not finished. Continue it with --resume first.")
    raise ConfigError(
        f"teacher must be a finished run or a model file (.onnx), and {name!r} is neither. "
        + _advise_teacher(path)
    )


def _advise_teacher(path: Path) -> str:
    if path.name == runs.MODEL and runs.is_finished(path.parent):
        return f"Name the run's folder: {path.parent}"
    if path.is_dir():
        return f"This folder has no {runs.MODEL}."
    if path.is_file():
        return "Of another Keras file, make a model file with wetread export --keras FILE."
    return "There is nothing of that name. Teachers are separated by commas; write a comma in a name twice."


def _choose_networks(name: str, data: Dataset, held: HeldOut) -> list[Place]:
    """The networks of a teacher that never saw a patient who validates here: its own, or those of folds."""
    place = find_teacher(name)
    run = place.path if place.is_run else find_run(place)
    if run is None:
        return [replace(place, is_known=False)]
    check_labels(read_spec(run), data, place)
    whole = held.compare(run)
    if not whole.seen:
        return [replace(place, is_known=whole.is_known)]
    folds = [fold for fold in sorted(place.path.glob("fold-*")) if runs.is_finished(fold)]
    apart = [Place(fold, is_run=True) for fold in folds if not held.compare(fold).seen]
    if apart:
        return apart
    raise ConfigError(
        f"The teacher in {place.path} trained on images of patients who are held out here "
        f"({len(whole.seen):,}, such as {whole.seen[0]}): its answers would tell of them, and the figures "
        "would be too good. Train teacher and student on the same DATA with the same --seed, --validation, "
        "--calibration-split, --folds and --subset, or with one DATA/val."
    )
