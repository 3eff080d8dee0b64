"""The output `unlike`: how unlike its training images a picture is, from features that the graph has anyway.

Features are the means, in each quarter of the picture, of the network's last map of each size but the
largest. What counts is the distance to the training images (Mahalanobis in the subspace that they fill, and
how far outside that subspace a picture lies: `docs/scope.md` says what else was measured), and a linear
measure for each change that the scope is asked to find. It is float32 inside the graph, in every precision of
the network, but for the means of an int8 file's maps, which are sums of their integers.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx

from wetread.errors import ExportError
from wetread.export.graph import (
    INPUT,
    add_outputs,
    find_outputs,
    open_plain,
)
from wetread.export.scope_file import UnlikeRequest
from wetread.export.unlike_nodes import (
    CLIP,
    FeatureMap,
    Floats,
    Measure,
    attach_unlike,
    compute_features,
    run_unlike,
)
from wetread.export.versions import change_images, vary_images
from wetread.runtime.images.pixels import Pixels
from wetread.runtime.model.scope import Unlike

METHOD = "Mahalanobis distance and residual"
FIT_IMAGES, COPIES = 2000, 2
_AXES, _MAX_VALUES = 32, 26_000  # of the matrix, 2 bytes each: it stays below 60 kB
_LEAST_MAPS, _MAPS, _CHANNELS, _GRID, _PLAIN_GRID = 2, 5, 256, 2, 8
_RIDGE = 0.05
_LEAST_IMAGES = 20
_LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def fit_unlike(
    model: onnx.ModelProto, request: UnlikeRequest, *, fit: Pixels, held_out: Pixels
) -> tuple[Measure, Unlike]:
    """Fit the measure on images of the training kind and set its threshold on held-out ones.

    `model`: the graph whose tensors are read, in the precision that is at hand. `fit`, `held_out`: uint8
    (N, H, W, C) at the model's size. Raises ExportError for too few images.
    """
    if min(len(fit), len(held_out)) < _LEAST_IMAGES:
        raise ExportError(
            f"The scope needs {_LEAST_IMAGES} images or more to fit, and as many held out; there are "
            f"{len(fit)} and {len(held_out)}. Give more with --calibration, or 'unlike = false' in the scope."
        )
    fit = fit[np.linspace(0, len(fit) - 1, min(len(fit), FIT_IMAGES)).round().astype(int)]
    maps = choose_maps(model, fit[:2])
    usual = np.concatenate([fit, vary_images(fit, copies=COPIES)])
    features = compute_features(model, maps, usual)
    measure = _fit_distance(maps, features)
    own = np.concatenate([held_out, vary_images(held_out, copies=1, seed=1)])
    measure = _scale_distance(measure, compute_features(model, maps, own), request.keep)
    if request.find:
        measure = _fit_heads(measure, model, request, (features, usual, own))
    found = run_unlike(attach_unlike(model, measure), own)
    plain = found[: len(held_out)]
    # Of the images as they are, and with a version of each: what other machines make is like them, too.
    bounds = (float(np.quantile(values, request.keep, method="higher")) for values in (plain, found))
    threshold = max(*bounds, 1e-3)
    described = Unlike(
        threshold=float(f"{np.nextafter(np.float32(threshold), np.float32(np.inf)):.6g}"),
        method=METHOD,
        features=tuple(found.name for found in maps),
        images=(len(fit), len(held_out)),
        kept=round(float((plain <= threshold).mean()), 4),
        changes=request.find,
    )
    return measure, described


def choose_maps(model: onnx.ModelProto, images: Pixels) -> tuple[FeatureMap, ...]:
    """Choose the last map of each size that a weighted layer made; the pixels where there is none."""
    names = _list_weighted(model)
    session = open_plain(add_outputs(model, names).SerializeToString())
    values = dict(zip(names, session.run(names, {INPUT: images}), strict=True))
    last: dict[tuple[int, ...], str] = {}
    for name, value in values.items():
        if value.ndim == 4 and value.dtype.kind == "f" and min(value.shape[2:]) >= _GRID:
            last.pop(value.shape[2:], None)
            last[value.shape[2:]] = name
    sizes = sorted(last, reverse=True)
    if len(sizes) > _LEAST_MAPS:
        del sizes[0]  # the largest costs most, and finds nothing that the next does not
    if not sizes:
        height, width = (max(side // _PLAIN_GRID, 1) for side in images.shape[1:3])
        return (FeatureMap(INPUT, 1, (height, width), (height, width)),)
    chosen = [sizes[at] for at in np.unique(np.linspace(0, len(sizes) - 1, _MAPS).round().astype(int))]
    return tuple(_describe_map(last[size], values[last[size]].shape) for size in chosen)


def _describe_map(name: str, shape: tuple[int, ...]) -> FeatureMap:
    """A grid of four cells, whose middle row and column are left out where a side is odd."""
    height, width = shape[2] // _GRID, shape[3] // _GRID
    stride = (shape[2] - height, shape[3] - width)
    return FeatureMap(name, -(-shape[1] // _CHANNELS), (height, width), stride)


def _list_weighted(model: onnx.ModelProto) -> list[str]:
    """The tensors behind the first layer with weights, in graph order."""
    weighted: set[str] = set()
    for node in model.graph.node:
        if node.op_type in _LINEAR or weighted.intersection(node.input):
            weighted.update(name for name in node.output if name)
    return [name for name in find_outputs(model) if name in weighted]


def _fit_distance(maps: tuple[FeatureMap, ...], features: Floats) -> Measure:
    """Standardize the features and find the axes of the subspace that the training images fill."""
    centre, spread = features.mean(axis=0), features.std(axis=0)
    spread = spread + 1e-3 * spread.mean() + 1e-6
    standard = (features - centre) / spread
    values, axes = np.linalg.eigh(standard.T @ standard / len(standard))
    values, axes = values[::-1], axes[:, ::-1]
    wide = standard.shape[1]
    count = max(1, min(_AXES, _MAX_VALUES // wide, wide // 2, int((values > 1e-6).sum())))
    rest = float(max(values[count:].sum(), 1e-6))
    return Measure(
        maps=maps,
        centre=centre.astype(np.float32),
        spread=(1 / spread).astype(np.float32),
        matrix=axes[:, :count].astype(np.float16),
        weights=(1 / (count * np.maximum(values[:count], 1e-9)))[:, None].astype(np.float32),
        rest=1 / rest,
        heads=np.zeros((wide, 0), np.float16),
        bias=np.zeros(0, np.float32),
    )


def _standardize(measure: Measure, features: Floats) -> Floats:
    return (features - measure.centre) * measure.spread


def _scale_distance(measure: Measure, features: Floats, keep: float) -> Measure:
    """Let both parts of the distance be 1/2 where `keep` of the held-out images are below."""
    standard = _standardize(measure, features)
    along = (standard @ measure.matrix.astype(np.float64)) ** 2
    near = along @ measure.weights.astype(np.float64)
    outside = (standard**2).sum(axis=1) - along.sum(axis=1)
    halves = [2 * max(float(np.quantile(part, keep)), 1e-9) for part in (near, outside)]
    return replace(measure, weights=measure.weights / np.float32(halves[0]), rest=1 / halves[1])


def _fit_heads(
    measure: Measure,
    model: onnx.ModelProto,
    request: UnlikeRequest,
    seen: tuple[Floats, Pixels, Pixels],
) -> Measure:
    """Fit a linear measure for each change: 0 for the training images, 1 for a change, in between the bound.

    `seen`: the features of the training images, those images, and the held-out ones, versions among both.
    """
    features, usual, own = seen
    plain = np.clip(_standardize(measure, features), -CLIP, CLIP)
    held = np.clip(_standardize(measure, compute_features(model, measure.maps, own)), -CLIP, CLIP)
    heads, biases = [], []
    for changed in _list_changes(request, usual):
        other = compute_features(model, measure.maps, changed)
        weights, bias = _discriminate(plain, np.clip(_standardize(measure, other), -CLIP, CLIP))
        small = weights.astype(np.float16).astype(np.float64)
        # Each head may take a share of what may be lost; the threshold of all is set afterwards.
        bound = float(np.quantile(held @ small + bias, 1 - (1 - request.keep) / 4))
        heads.append(small / max(1 - bound, 0.1))
        biases.append(1 + (bias - bound) / max(1 - bound, 0.1))
    return replace(
        measure, heads=np.stack(heads, axis=1).astype(np.float16), bias=np.array(biases, np.float32)
    )


def _list_changes(request: UnlikeRequest, usual: Pixels) -> list[Pixels]:
    """Changed images for each head, a third of them all: each turn has a head of its own."""
    some = usual[::3]
    changed = []
    for change in request.find:
        versions = change_images(some, change)
        changed += [versions[at : at + len(some)] for at in range(0, len(versions), len(some))]
    return changed


def _discriminate(plain: Floats, changed: Floats) -> tuple[Floats, float]:
    """Least squares with a ridge, both kinds weighed alike: weights and bias that give -1 and 1."""
    rows = np.concatenate([plain, changed])
    truth = np.repeat([-1.0, 1.0], [len(plain), len(changed)])
    share = np.repeat([0.5 / len(plain), 0.5 / len(changed)], [len(plain), len(changed)])
    mean = share @ rows
    centred = rows - mean
    square = (centred * share[:, None]).T @ centred + _RIDGE * np.eye(rows.shape[1])
    weights = np.linalg.solve(square, (centred * share[:, None]).T @ truth)
    return weights, float(-mean @ weights)
