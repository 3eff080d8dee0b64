"""Choose an int8 form that holds its gate: try a few, measure each through the runtime, revert what hurts.

Every candidate is judged by held-out images against Keras: labels that flip, and the change of the area
under the ROC curve. Among those that hold the gate and are not slower than the fastest by more than a
tenth, the one that flips fewest labels is taken, then the one with the least mean difference.

Where a layer in float stands before layers in integers, processors that add its products in another order
round some of its results to another integer. With `exact_integers` no such form is tried: all layers but the
last compute in whole numbers, and say the same on every machine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

import onnx

from wetread.errors import ExportError
from wetread.export.judging import Candidate, Gate, GateError, Judge, time_forms
from wetread.export.quantize import Settings, activation_names, quantize_graph, weighted_nodes
from wetread.export.ranges import METHODS, Histogram, collect_histograms

__all__ = ["Candidate", "Gate", "GateError", "search_int8"]

_RANKING_IMAGES = 128
# Forms that are tried on the images that confirm, best first: each further one is nearly a choice again.
_CONFIRMED = 3
_SLOWER = 0.9


def search_int8(
    model: onnx.ModelProto,
    judge: Judge,
    *,
    confirming: Judge | None = None,
    exact_integers: bool = False,
    on_progress: Callable[[str], object] | None = None,
) -> tuple[onnx.ModelProto, tuple[Candidate, ...]]:
    """Find the int8 form to ship of a float graph. Returns it, and every candidate's figures.

    `confirming`: a judge with other images, on which the chosen form must hold as well. The first row is the
    float32 form, for comparison. Raises GateError when no form holds the gate.
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
    for settings in _variants(best, weighted_nodes(model), exact_integers=exact_integers):
        measure(settings)
    first = list(tried)
    if not exact_integers and not any(candidate.holds for candidate in tried.values()):
        _revert_nodes(model, histograms, judge, tried, tell)
    tell("timing")
    timed = [settings for settings in tried if settings in first or tried[settings].holds]
    forms = {settings: quantize_graph(model, histograms, settings) for settings in timed}
    return _choose(model, judge, tried, forms, confirming=confirming)


def _variants(best: Settings, nodes: Sequence[str], *, exact_integers: bool) -> list[Settings]:
    """The best way of choosing ranges with the first or last layer in float, and with full-range weights."""
    found = [dataclasses.replace(best, weights="u8")]
    if len(nodes) > 2:
        last = (nodes[-1],)
        ends = (last,) if exact_integers else ((nodes[0],), last, (nodes[0], *last))
        found += [dataclasses.replace(best, excluded=excluded) for excluded in ends]
    return found


def _rank(candidate: Candidate) -> tuple[bool, int, float]:
    return (not candidate.holds, candidate.flips - candidate.near_flips, candidate.mean_difference)


def _revert_nodes(
    model: onnx.ModelProto,
    histograms: Mapping[str, Histogram],
    judge: Judge,
    tried: dict[Settings, Candidate],
    tell: Callable[[str], object],
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
    judge: Judge,
    tried: Mapping[Settings, Candidate],
    forms: Mapping[Settings, onnx.ModelProto],
    *,
    confirming: Judge | None = None,
) -> tuple[onnx.ModelProto, tuple[Candidate, ...]]:
    """Time the forms beside float32; of the fast ones that hold the gate, choose the most faithful."""
    speeds = time_forms([model, *forms.values()], judge)
    float32 = dataclasses.replace(judge.measure(model, "float32"), speed=speeds[0], speedup=1.0)
    timed = dict(tried)
    for settings, speed in zip(forms, speeds[1:], strict=True):
        timed[settings] = dataclasses.replace(tried[settings], speed=speed, speedup=speed / speeds[0])
    holding = [settings for settings, candidate in tried.items() if candidate.holds]
    if not holding:
        raise GateError(_explain_refusal(judge.gate, timed.values()), candidates=(float32, *timed.values()))
    fastest = max(timed[settings].speed for settings in holding)
    fast = [settings for settings in holding if timed[settings].speed >= _SLOWER * fastest]
    slow = [settings for settings in holding if settings not in fast]
    for settings in [*_order(fast, timed), *_order(slow, timed)][:_CONFIRMED]:
        confirmed = confirming and confirming.measure(forms[settings], timed[settings].name)
        if confirmed:
            timed[settings] = dataclasses.replace(
                timed[settings],
                confirmed_flips=confirmed.flips - confirmed.near_flips,
                confirmed_images=confirmed.images,
                holds=confirmed.holds,
            )
        if timed[settings].holds:
            timed[settings] = dataclasses.replace(timed[settings], chosen=True)
            return forms[settings], (float32, *timed.values())
    raise GateError(_explain_refusal(judge.gate, timed.values()), candidates=(float32, *timed.values()))


def _order(forms: Sequence[Settings], rows: Mapping[Settings, Candidate]) -> list[Settings]:
    return sorted(forms, key=lambda settings: _rank(rows[settings]))


def _explain_refusal(gate: Gate, candidates: Iterable[Candidate]) -> str:
    tried = list(candidates)
    best = max(tried, key=lambda row: (row.confirmed_images, *(-number for number in _rank(row))))
    other = (
        f", and {best.confirmed_flips} of {best.confirmed_images} that chose nothing"
        if best.confirmed_images
        else ""
    )
    change = "unknown" if best.auc_change is None else f"{best.auc_change:+.4f}"
    return (
        f"No int8 form is close enough to Keras: besides near ties {gate.max_flips:.1%} of the labels may "
        f"change, and the AUC by {gate.max_auc_change:g}. Of {len(tried)} forms the best "
        f"({best.name}) changes {best.flips - best.near_flips} of {best.images}{other}, AUC {change}. No "
        "int8 "
        "file was written: allow more with --max-flips, judge with more images (--calibration), "
        "leave out --exact-integers if it was given, use "
        "--precision float16 or float32, or train the network with batch normalization and without channels "
        "of very different sizes."
    )
