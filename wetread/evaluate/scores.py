"""Score labelled images with the same runtime as `wetread score`."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wetread.errors import Status
from wetread.evaluate.labelled_folders import Image, Listing
from wetread.evaluate.patients import merge_groups
from wetread.runtime.entries import Entry
from wetread.runtime.images.cache import find_images
from wetread.runtime.model.spec import ModelSpec
from wetread.runtime.scoring.batches import Model, score_chunks
from wetread.runtime.scoring.rows import Prediction, encode_name

OnProgress = Callable[[int, int], object]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One prediction for each of the images, in listing order, scored or not.

    `groups`: the patient of each image; `digests`: SHA-256 of its bytes ('' if they could not be read).
    """

    spec: ModelSpec
    images: tuple[Image, ...]
    predictions: tuple[Prediction, ...]
    groups: tuple[str, ...]
    digests: tuple[str, ...]

    @property
    def scored(self) -> NDArray[np.intp]:
        """The indices, intp (n,), of the images that have a score."""
        return np.flatnonzero([prediction.status == Status.OK for prediction in self.predictions])

    @property
    def failures(self) -> Counter[str]:
        """The number of images without a score, by status."""
        return Counter(found.status for found in self.predictions if found.status != Status.OK)

    def truth(self, chosen: NDArray[np.intp]) -> NDArray[np.intp]:
        """The true labels of the chosen images, intp (n,), columns of `spec.labels`."""
        columns = {label: column for column, label in enumerate(self.spec.labels)}
        return np.array([columns[self.images[i].label] for i in chosen], np.intp)

    def probabilities(self, chosen: NDArray[np.intp]) -> NDArray[np.float32]:
        """The probabilities of the chosen images, float32 (n, K)."""
        rows = [self.predictions[i].probabilities for i in chosen]
        return np.array(rows, np.float32).reshape(len(rows), len(self.spec.labels))

    def patients(self, chosen: NDArray[np.intp]) -> list[str]:
        """The patient of each of the chosen images."""
        return [self.groups[i] for i in chosen]

    def fingerprint(self) -> str:
        """Return the SHA-256 of names and contents of all images that could be decoded, as training does."""
        lines = sorted(
            f"{image.name}\n{digest}\n"
            for image, digest, found in zip(self.images, self.digests, self.predictions, strict=True)
            if found.status == Status.OK
        )
        return hashlib.sha256(encode_name("".join(lines))).hexdigest()


def score_images(
    model: Model,
    listing: Listing,
    *,
    groups: Sequence[str],
    workers: int | None = None,
    batch_size: int = 32,
    on_progress: OnProgress | None = None,
) -> Scores:
    """Score the images of a listing and merge the patients of identical files.

    Pixels that training has cached at the model's size are not read again (`listing.caches`).
    `groups`: the patient of each image, from its name. `on_progress` gets (images done, all images).
    """
    digests: dict[str, str] = {}
    listed = [image.entry for image in listing.images]
    # Rules of DICOM attributes need the files themselves.
    needs_files = model.spec.scope is not None and bool(model.spec.scope.attributes)
    folders = () if needs_files else listing.caches
    kept = find_images(listed, model.spec.pixels, folders=folders, root=listing.root)

    def read(entry: Entry) -> bytes | NDArray[np.uint8]:
        if kept is not None:
            digests[entry.name] = kept.find_digest(entry)
            return kept.read(entry)
        data = listing.source.read(entry)
        digests[entry.name] = hashlib.sha256(data).hexdigest()
        return data

    predictions: list[Prediction] = []
    entries = iter(listed) if kept is not None else listing.source.read_ahead(iter(listed))
    for chunk in score_chunks(model, entries, read=read, workers=workers, batch_size=batch_size):
        predictions += chunk.predictions
        if on_progress is not None:
            on_progress(len(predictions), len(listing.images))
    found = tuple(digests.get(image.entry.name, "") for image in listing.images)
    return Scores(
        spec=model.spec,
        images=listing.images,
        predictions=tuple(predictions),
        groups=merge_groups(groups, [found]),
        digests=found,
    )
