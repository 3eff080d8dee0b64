"""Choose an int8 form that holds its gate: try a few, measure each through the runtime, revert what hurts.

Every candidate is judged by held-out images against Keras: labels that flip, and the change of the area
under the ROC curve. Among those that hold the gate and are not slower than the fastest by more than a
tenth, the one that flips fewest labels is taken, then the one with the least mean difference.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from wetread.errors import ExportError
from wetread.export.graph import finish, optimize_graph
from wetread.export.images import ExportImages
from wetread.export.quantize import Settings, activation_names, quantize_graph, weighted_nodes
from wetread.export.ranges import METHODS, Histogram, collect_histograms
from wetread.runtime.classifier import Classifier
from wetread.runtime.saturation import prove_layers
from wetread.runtime.spec import ModelSpec

Floats = NDArray[np.floating]

_TIMED_IMAGES = 64
_TIMED_BATCH = 8
_ROUNDS = 5
_RANKING_IMAGES = 128
_SLOWER = 0.9


@dataclass(frozen=True)
class Gate:
    """How far a smaller model may depart from Keras: the share of flipped labels, and the change of AUC."""

    max_flips: float = 0.005
    max_auc_change: float = 0.002


@dataclass(frozen=True)
class Candidate:
    """One form of a model and what it measured on the held-out images.

    `speed` is in images/s on one thread, `speedup` beside the float32 form in the same rounds. `safe` says
    whether no CPU can saturate in it, proven from its bytes; `holds` whether it may be used.
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
        flips = int((self.spec.decide(found) != self.spec.decide(self.keras.astype(np.float32))).sum())
        change = _auc_change(found, self.keras, held_out.targets)
        safe = all(proof.holds for proof in prove_layers(data)) and _is_safe_when_fused(model, self.spec)
        holds = flips <= self.gate.max_flips * len(held_out) and abs(change or 0) <= self.gate.max_auc_change
        return Candidate(
            name=name,
            flips=flips,
            images=len(held_out),
            auc_change=change,
            mean_difference=float(difference.mean()),
            max_difference=float(difference.max()),
            size=len(data),
            safe=safe,
            holds=holds and safe,
            floats=floats,
        )


def _is_safe_when_fused(model: onnx.ModelProto, spec: ModelSpec) -> bool:
    """Prove the layers once more as onnxruntime fuses them at load: it quantizes some by itself."""
    fused = optimize_graph(model, "ORT_ENABLE_EXTENDED")
    return all(proof.holds for proof in prove_layers(finish(fused, spec)))


def classify_all(classifier: Classifier, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities of any number of images, in batches."""
    parts = [classifier.classify(pixels[start : start + 32]) for start in range(0, len(pixels), 32)]
    return np.concatenate(parts)


def _auc_change(found: Floats, keras: Floats, targets: NDArray[np.intp]) -> float | None:
    """The change of AUC (the mean over labels, with more than two) from Keras; None without two labels."""
    known = targets >= 0
    if len(np.unique(targets[known])) < 2:
        return None
    columns = [1] if keras.shape[1] == 2 else [k for k in range(keras.shape[1]) if (targets[known] == k).any()]
    changes = [
        _area(found[known, k], targets[known] == k) - _area(keras[known, k], targets[known] == k)
        for k in columns
    ]
    return float(np.mean(changes))


def _area(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """The area under the ROC curve: how often a positive scores above a negative, ties counting half."""
    _, ranks, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    positives, negatives = int(positive.sum()), int((~positive).sum())
    above = middle[ranks][positive].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def search_int8(
    model: onnx.ModelProto, judge: Judge, *, on_progress: Callable[[str], None] | None = None
) -> tuple[onnx.ModelProto, tuple[Candidate, ...]]:
    """Find the int8 form to ship of a float graph. Returns it, and every candidate's figures.

    The first row is the float32 form, for comparison. Raises GateError when no form holds the gate.
    """
    tell = on_progress or (lambda text: None)
    histograms = collect_histograms(model, activation_names(model), judge.images.calibration.pixels)
    tried: dict[Settings, Candidate] = {}

    def measure(settings: Settings) -> None:
        if settings not in tried:
            tell(f"measuring {settings.describe()}")
            quantized = quantize_graph(model, histograms, settings)
            tried[settings] = judge.measure(quantized, settings.describe(), settings.excluded)

    for method in METHODS:
        measure(Settings(method=method))
    best = min(tried, key=lambda settings: _rank(tried[settings]))
    for settings in _variants(best, weighted_nodes(model)):
        measure(settings)
    if not any(candidate.holds for candidate in tried.values()):
        _revert_nodes(model, histograms, judge, tried, tell)
    tell("timing")
    return _choose(model, histograms, judge, tried)


def _variants(best: Settings, nodes: Sequence[str]) -> list[Settings]:
    """The best way of choosing ranges with the first or last layer in float, and with full-range weights."""
    found = [dataclasses.replace(best, weights="u8")]
    if len(nodes) > 2:
        ends = ((nodes[0],), (nodes[-1],), (nodes[0], nodes[-1]))
        found += [dataclasses.replace(best, excluded=excluded) for excluded in ends]
    return found


def _rank(candidate: Candidate) -> tuple[bool, int, float]:
    return (not candidate.holds, candidate.flips, candidate.mean_difference)


def _revert_nodes(
    model: onnx.ModelProto,
    histograms: Mapping[str, Histogram],
    judge: Judge,
    tried: dict[Settings, Candidate],
    tell: Callable[[str], None],
) -> None:
    """Give the layers that hurt most back to float, one more at a time, until the gate holds.

    How much a layer hurts is what the mean difference falls by when it alone goes back.
    """
    best = min(tried, key=lambda settings: _rank(tried[settings]))
    start = dataclasses.replace(best, weights="s8", excluded=())
    few = _shorten(judge)
    hurts: dict[str, float] = {}
    for node in weighted_nodes(model):
        alone = dataclasses.replace(start, excluded=(node,))
        try:
            hurts[node] = few.measure(quantize_graph(model, histograms, alone), node).mean_difference
        except ExportError:  # the only layer there is
            return
    order = sorted(hurts, key=lambda node: hurts[node])
    for count in range(1, len(order)):
        settings = dataclasses.replace(start, excluded=tuple(order[:count]))
        tell(f"reverting {count} of {len(order)} layers to float")
        quantized = quantize_graph(model, histograms, settings)
        tried[settings] = judge.measure(quantized, settings.describe(), settings.excluded)
        if tried[settings].holds:
            return


def _shorten(judge: Judge) -> Judge:
    """The same judge with few images: enough to rank layers by."""
    held_out = judge.images.validation
    few = dataclasses.replace(
        held_out,
        names=held_out.names[:_RANKING_IMAGES],
        pixels=held_out.pixels[:_RANKING_IMAGES],
        targets=held_out.targets[:_RANKING_IMAGES],
    )
    images = dataclasses.replace(judge.images, validation=few)
    return dataclasses.replace(judge, images=images, keras=judge.keras[:_RANKING_IMAGES])


def _choose(
    model: onnx.ModelProto,
    histograms: Mapping[str, Histogram],
    judge: Judge,
    tried: Mapping[Settings, Candidate],
) -> tuple[onnx.ModelProto, tuple[Candidate, ...]]:
    """Time the forms that hold the gate beside float32, and choose among the fast ones the most faithful."""
    holding = [settings for settings, candidate in tried.items() if candidate.holds]
    forms = {settings: quantize_graph(model, histograms, settings) for settings in holding}
    speeds = measure_speeds([model, *forms.values()], judge)
    float32 = dataclasses.replace(judge.measure(model, "float32"), speed=speeds[0], speedup=1.0)
    timed = dict(tried)
    for settings, speed in zip(holding, speeds[1:], strict=True):
        timed[settings] = dataclasses.replace(tried[settings], speed=speed, speedup=speed / speeds[0])
    if not holding:
        raise GateError(_explain_refusal(judge.gate, timed.values()), candidates=(float32, *timed.values()))
    fastest = max(timed[settings].speed for settings in holding)
    fast = [settings for settings in holding if timed[settings].speed >= _SLOWER * fastest]
    best = min(fast, key=lambda settings: _rank(timed[settings]))
    timed[best] = dataclasses.replace(timed[best], chosen=True)
    return forms[best], (float32, *timed.values())


def _explain_refusal(gate: Gate, candidates: object) -> str:
    tried = list(candidates)  # type: ignore[call-overload]
    best = min(tried, key=_rank)
    change = "unknown" if best.auc_change is None else f"{best.auc_change:+.4f}"
    return (
        f"Expected an int8 form that flips at most {gate.max_flips:.1%} of the labels and changes the AUC by at "
        f"most {gate.max_auc_change:g}. Received {len(tried)} forms, of which the best ({best.name}) flips "
        f"{best.flips} of {best.images}, AUC {change}. No int8 file was written: use --precision float32, or "
        "train the network with batch normalization and without channels of very different sizes."
    )


def measure_speeds(models: Sequence[onnx.ModelProto], judge: Judge) -> list[float]:
    """Images/s of each model on one thread of the runtime: the best of interleaved rounds."""
    classifiers = [Classifier(finish(model, judge.spec), device="cpu") for model in models]
    pixels = judge.images.validation.pixels[:_TIMED_IMAGES]
    best = [np.inf] * len(models)
    for _ in range(_ROUNDS):
        for index, classifier in enumerate(classifiers):
            start = time.perf_counter()
            for first in range(0, len(pixels), _TIMED_BATCH):
                classifier.classify(pixels[first : first + _TIMED_BATCH])
            best[index] = min(best[index], time.perf_counter() - start)
    return [len(pixels) / seconds for seconds in best]
