"""Judge a form of a model through the real runtime: how far from Keras, how large, how fast, how safe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray

from wetread.errors import ExportError
from wetread.export.contract import finish
from wetread.export.first_convolution import read_blocks
from wetread.export.flips import BAND, allow_flips, count_flips
from wetread.export.graph import optimize_graph
from wetread.export.images import ExportImages
from wetread.runtime.model.saturation import prove_layers
from wetread.runtime.model.spec import ModelSpec
from wetread.runtime.model.speed import measure_speeds
from wetread.runtime.scoring.classifier import Classifier

Floats = NDArray[np.floating]

_TIMED_IMAGES = 64


@dataclass(frozen=True)
class Gate:
    """How far a smaller model may depart from Keras: the share of flipped labels, and the change of AUC."""

    max_flips: float = 0.005
    max_auc_change: float = 0.002


@dataclass(frozen=True)
class Candidate:
    """One form of a model and what it measured on the held-out images.

    `speed` is in images/s on one thread, `speedup` beside the float32 form in the same rounds. `safe` says
    whether no CPU can saturate in it, proven from its bytes; `holds` whether it may be used. `near_flips`: of
    the flips, those on which Keras is within 0.02 of deciding otherwise, which do not count. `confirmed_...`:
    the flips that count on images that chose nothing. `unanswered`: images for which it has no probabilities,
    such as NaN; it may not be used if there is one.
    """

    name: str
    flips: int
    images: int
    auc_change: float | None
    mean_difference: float
    max_difference: float
    size: int
    safe: bool
    holds: bool
    floats: tuple[str, ...] = ()
    speed: float = 0.0
    speedup: float = 0.0
    chosen: bool = False
    near_flips: int = 0
    confirmed_flips: int = 0
    confirmed_images: int = 0
    unanswered: int = 0


class GateError(ExportError):
    """No form of the network holds the gate; `candidates` are those that were tried."""

    def __init__(self, message: str, *, candidates: tuple[Candidate, ...]) -> None:
        super().__init__(message)
        self.candidates = candidates


@dataclass(frozen=True)
class Judge:
    """What candidates are judged by: held-out images, Keras' probabilities for them, and the gate."""

    spec: ModelSpec
    images: ExportImages
    keras: Floats
    gate: Gate

    def measure(self, model: onnx.ModelProto, name: str, floats: tuple[str, ...] = ()) -> Candidate:
        """Run a form of the model through the real runtime and compare it with Keras."""
        data = finish(model, self.spec)
        held_out = self.images.validation
        found = classify_all(Classifier(data, device="cpu"), held_out.pixels)
        difference = np.abs(found - self.keras)
        flips = count_flips(found, self.keras, self.spec)
        change = measure_auc_change(found, self.keras, held_out.targets)
        safe = all(proof.holds for proof in prove_layers(data)) and _is_safe_when_fused(model, self.spec)
        few = flips.far <= allow_flips(len(held_out), self.gate.max_flips) and not flips.unanswered
        holds = few and abs(change or 0) <= self.gate.max_auc_change
        return Candidate(
            name=name,
            flips=flips.flips,
            near_flips=flips.near,
            images=len(held_out),
            auc_change=change,
            mean_difference=float(difference.mean()),
            max_difference=float(difference.max()),
            size=len(data),
            safe=safe,
            holds=holds and safe,
            floats=floats,
            unanswered=flips.unanswered,
        )

    def split(self) -> tuple[Judge, Judge]:
        """Two judges with half of the images each, alike in their labels: one to choose, one to confirm."""
        order = np.argsort(self.images.validation.targets, kind="stable")
        if len(order) < 2:
            return self, self
        return self._keep(np.sort(order[::2])), self._keep(np.sort(order[1::2]))

    def _keep(self, rows: NDArray[np.intp]) -> Judge:
        held_out = self.images.validation
        names = tuple(held_out.names[row] for row in rows)
        part = replace(held_out, names=names, pixels=held_out.pixels[rows], targets=held_out.targets[rows])
        return replace(self, images=replace(self.images, validation=part), keras=self.keras[rows])


def _is_safe_when_fused(model: onnx.ModelProto, spec: ModelSpec) -> bool:
    """Prove the layers once more as onnxruntime fuses them at load: it quantizes some by itself."""
    fused = optimize_graph(model, "ORT_ENABLE_EXTENDED")
    return all(proof.holds for proof in prove_layers(finish(fused, spec)))


def classify_all(classifier: Classifier, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities of any number of images, in batches."""
    parts = [classifier.classify(pixels[start : start + 32]) for start in range(0, len(pixels), 32)]
    return np.concatenate(parts)


def measure_auc_change(found: Floats, keras: Floats, targets: NDArray[np.intp]) -> float | None:
    """The change of AUC from Keras besides near ties, of several labels the largest; None without two labels.

    A mean over labels would hide one that gains behind another that loses. Near ties are pairs of images that
    Keras itself hardly tells apart (flips.BAND): among 40 images one such pair that changes places moves the
    AUC by more than the gate allows, and says nothing of other images.
    """
    known = targets >= 0
    if len(np.unique(targets[known])) < 2:
        return None
    columns = (
        [1] if keras.shape[1] == 2 else [k for k in range(keras.shape[1]) if (targets[known] == k).any()]
    )
    band = BAND * 2 / keras.shape[1]  # among many labels a probability of 0.02 is no small one
    changes = [
        _compare_areas(found[known, k], keras[known, k], targets[known] == k, band=band) for k in columns
    ]
    return float(max(changes, key=abs))


def _compare_areas(found: Floats, keras: Floats, positive: NDArray[np.bool_], *, band: float) -> float:
    """The difference of the areas of scores, float (N,), besides pairs within the band in Keras."""
    order = np.argsort(keras[~positive], kind="stable")
    below, found_below = keras[~positive][order], found[~positive][order]
    first = np.searchsorted(below, keras[positive] - band, side="left")
    last = np.searchsorted(below, keras[positive] + band, side="right")
    near = 0.0
    for score, own, start, end in zip(found[positive], keras[positive], first, last, strict=True):
        moved = np.sign(score - found_below[start:end]) - np.sign(own - below[start:end])
        near += float(moved.sum()) / 2
    whole = measure_area(found, positive) - measure_area(keras, positive)
    return whole - near / (len(below) * int(positive.sum()))


def measure_area(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """The area under the ROC curve: how often a positive scores above a negative, ties counting half."""
    _, ranks, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    positives, negatives = int(positive.sum()), int((~positive).sum())
    above = middle[ranks][positive].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def time_forms(models: Sequence[onnx.ModelProto], judge: Judge) -> list[float]:
    """Return the images/s of each model, as `export` writes it, on validation images: `measure_speeds`."""
    sessions = [Classifier(finish(read_blocks(model), judge.spec), device="cpu") for model in models]
    return measure_speeds(sessions, judge.images.validation.pixels[:_TIMED_IMAGES])
