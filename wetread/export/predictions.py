"""What Keras, ONNX files and the network's owner say of images, read once and in order."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ExportError
from wetread.export import network
from wetread.export.assumption_checks import Evidence
from wetread.export.images import read_chunks
from wetread.export.owner_pipeline import Answers, Owner
from wetread.runtime.scoring.classifier import Classifier
from wetread.runtime.sources.opening import open_sources

# Sizes of batches that must give the same answers.
BATCHES = (1, 7, 65)


class Findings:
    """What all models said of all images, and how long they took; pixels only of the first few images."""

    def __init__(self, count: int) -> None:
        self.names: list[str] = []
        self.below: list[str] = []
        self.failures: list[str] = []
        self.listing = hashlib.sha256()
        self.keras: list[NDArray[np.float64]] = []
        self.keras_seconds = 0.0
        self.probabilities: list[list[NDArray[np.float32]]] = [[] for _ in range(count)]
        self.outside: list[list[NDArray[np.bool_]]] = [[] for _ in range(count)]
        self.seconds = [0.0] * count
        self.few: NDArray[np.uint8] = np.empty(0, np.uint8)
        self.answers: list[Answers] = []

    def gather(self) -> Evidence:
        """What terms are judged by."""
        return Evidence(self.names, self.below, np.concatenate(self.keras), self.answers, self.few)


def collect(
    wrapped: Any,
    *,
    classifiers: list[Classifier],
    images: str | os.PathLike[str] | Sequence[Any],
    owner: Owner | None,
    on_progress: Callable[[int], object] | None = None,
) -> Findings:
    """Read images once, and ask Keras, the models and the owner of each. Raises ExportError without any."""
    locations = [images] if isinstance(images, str | os.PathLike) else list(images)
    source, spec = open_sources(locations), classifiers[0].spec
    found = Findings(len(classifiers))
    for chunk in read_chunks(source.read_ahead(source.entries()), spec.pixels, read=source.read):
        found.failures += chunk.failures
        if not chunk.names:
            continue
        if not found.names:
            found.few = chunk.pixels[: BATCHES[-1]]
            network.predict_network(wrapped, chunk.pixels[:32], spec)  # traces the graph: not to be timed
        for name, digest in zip(chunk.names, chunk.digests, strict=True):
            found.below.append(_below(name, locations))
            found.listing.update(f"{digest} {found.below[-1]}\n".encode("utf-8", "surrogateescape"))
        found.names += chunk.names
        if owner is not None:
            found.answers.append(owner.answer(chunk.names, chunk.pixels))
        start = time.perf_counter()
        found.keras.append(network.predict_network(wrapped, chunk.pixels, spec))
        found.keras_seconds += time.perf_counter() - start
        for index, classifier in enumerate(classifiers):
            start = time.perf_counter()
            found.probabilities[index].append(classify(classifier, chunk.pixels, 32))
            found.seconds[index] += time.perf_counter() - start
            found.outside[index] += find_outside(classifier, chunk.pixels)
        if on_progress is not None:
            on_progress(len(found.names))
    if not found.names:
        raise ExportError(f"No image in {', '.join(map(str, locations))} can be decoded.")
    return found


def find_outside(classifier: Classifier, pixels: NDArray[np.uint8]) -> list[NDArray[np.bool_]]:
    """Tell which images are unlike the training images, bool (N,) in a list; [] of a model that cannot."""
    scope = classifier.spec.scope
    if scope is None or scope.unlike is None:
        return []
    return [~(classifier.judge(pixels)[1] <= np.float32(scope.unlike.threshold))]


def _below(name: str, locations: list[Any]) -> str:
    """A name without the folder that was given: the same data set elsewhere has the same listing."""
    for location in map(os.fspath, locations):
        if name.startswith(location):
            return name[len(location) :].lstrip("/") or Path(name).name
    return name


def classify(classifier: Classifier, pixels: NDArray[np.uint8], batch: int) -> NDArray[np.float32]:
    """A model's probabilities of uint8 images (N, H, W, C), so many at a time. float32 (N, K)."""
    parts = [classifier.classify(pixels[start : start + batch]) for start in range(0, len(pixels), batch)]
    return np.concatenate(parts)
