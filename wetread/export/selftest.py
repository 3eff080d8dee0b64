"""Make the golden self-test of a model: inputs that reach every layer's range, and what they must give."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from wetread.export.emulation import Emulator
from wetread.export.graph import INPUT, OUTPUT, add_outputs, open_plain
from wetread.runtime.images.recipe import PixelRecipe
from wetread.runtime.model.golden_inputs import (
    EVEN_INTENSITIES,
    JPEG,
    MAX_INPUTS,
    QUANTILES,
    draw_image,
    draw_inputs,
)
from wetread.runtime.model.providers import import_onnxruntime
from wetread.runtime.model.session import UNLIKE
from wetread.runtime.model.spec import Golden, ModelSpec

Classify = Callable[[NDArray[np.uint8]], NDArray[np.floating]]

# Multiplications of a self-test: 20 ms or so on one older core, of the 50 ms that a load may take. Counted
# and not timed, so that the same network makes the same file.
_MAX_PRODUCTS = 400_000_000
_OUTPUT_AXIS = {"Conv": 0, "Gemm": -1, "MatMul": -1}
_CANDIDATES = 40
_MAX_LAYERS = 64
_MAX_NUMBERS = 700  # golden answers in a spec of at most 20,000 bytes
# The least tolerance: other processors add floats in another order, and the spec keeps 7 decimals.
_UNLIKE_FLOORS = {"float32": 1e-3, "int8": 0.01, "float16": 0.05}
_FLOORS = {"float32": 1e-4, "int8": 1e-4, "float16": 5e-3}


@dataclass(frozen=True)
class Inputs:
    """The inputs of a self-test before its answers are known: seeds, gray levels, and their pictures."""

    seeds: tuple[int, ...]
    intensities: tuple[int, ...]
    coverage: float


def measure_intensities(images: NDArray[np.uint8] | None) -> tuple[int, ...]:
    """17 quantiles of the gray levels of training images, 0 to 255: no picture can be made from them."""
    if images is None or not len(images):
        return EVEN_INTENSITIES
    levels = np.quantile(images[:256], np.linspace(0, 1, QUANTILES))
    return tuple(int(level) for level in np.rint(levels))


def choose_inputs(model: onnx.ModelProto, recipe: PixelRecipe, images: NDArray[np.uint8] | None) -> Inputs:
    """Choose the drawn inputs that together reach most of the range that every layer takes on `images`.

    As many as a load has time for, 8 with the drawn JPEG at most. `model`: the float graph.
    """
    intensities = measure_intensities(images)
    columns = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    layers, products = _count_products(model, recipe)
    most = min(MAX_INPUTS, _MAX_PRODUCTS // products, _MAX_NUMBERS // (2 * columns))
    if most < 2:
        return Inputs((), intensities, 0.0)
    names = [*layers[:: -(-len(layers) // _MAX_LAYERS) or 1], OUTPUT]
    session = open_plain(add_outputs(model, names).SerializeToString())
    tried = max(min(_CANDIDATES, 50 * _MAX_PRODUCTS // products), most)
    seeds = range(1, tried + 1)
    drawn = [draw_image(seed, shape=recipe.shape, intensities=intensities) for seed in seeds]
    reference = drawn if images is None else list(images[:64])
    wanted = _layer_ranges(session, names, reference)
    lows, highs = wanted[0].min(axis=0), wanted[1].max(axis=0)
    chosen, coverage = _choose_greedily(*_layer_ranges(session, names, drawn), lows, highs, most - 1)
    return Inputs(tuple(seeds[index] for index in chosen), intensities, coverage)


def _count_products(model: onnx.ModelProto, recipe: PixelRecipe) -> tuple[list[str], int]:
    """The outputs of the layers with weights, and how often all of them multiply for one image."""
    sizes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    layers = {
        node.output[0]: int(np.prod(sizes[node.input[1]])) // sizes[node.input[1]][_OUTPUT_AXIS[node.op_type]]
        for node in model.graph.node
        if node.op_type in _OUTPUT_AXIS and node.input[1] in sizes
    }
    if not layers:  # an activation alone; onnxruntime would take no names for all outputs
        return [], 1
    session = open_plain(add_outputs(model, layers).SerializeToString())
    values = session.run(list(layers), {INPUT: np.zeros((1, *recipe.shape), np.uint8)})
    made = sum(value.size * each for value, each in zip(values, layers.values(), strict=True))
    return list(layers), max(int(made), 1)


def _layer_ranges(
    session: Any, names: list[str], images: Sequence[NDArray[np.uint8]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The least and greatest value of each named tensor for each image: two arrays (images, tensors)."""
    lows, highs = [], []
    for image in images:
        values = session.run(names, {INPUT: image[None]})
        lows.append([float(value.min()) for value in values])
        highs.append([float(value.max()) for value in values])
    return np.array(lows), np.array(highs)


def _choose_greedily(
    lows: NDArray[np.float64],
    highs: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    count: int,
) -> tuple[list[int], float]:
    """Add, one at a time, the input that covers most more of all ranges; rows are inputs."""
    width = np.maximum(high - low, 1e-9)
    chosen: list[int] = []
    reached_low, reached_high = np.full_like(low, np.inf), np.full_like(high, -np.inf)
    coverage = 0.0
    for _ in range(count):
        least = np.maximum(np.minimum(lows, reached_low), low)
        most = np.minimum(np.maximum(highs, reached_high), high)
        covered = np.clip((most - least) / width, 0, 1).mean(axis=1)
        covered[chosen] = -1
        best = int(np.argmax(covered))
        chosen.append(best)
        reached_low, reached_high = np.minimum(reached_low, lows[best]), np.maximum(reached_high, highs[best])
        coverage = float(covered[best])
    return chosen, coverage


def make_golden(
    model: bytes, inputs: Inputs, recipe: PixelRecipe, *, precision: str, keras: Classify
) -> Golden:
    """Work out what the self-test's inputs must give.

    `model`: the bytes of a file that is finished but for its self-test. `keras`: images to the original
    network's probabilities. 'Exact' is the file's own graph without any rearrangement, and for int8 in
    exact whole numbers; the tolerance is four times what rounding in another order changes.
    """
    empty = Golden(
        jpeg=JPEG,
        pixels="",
        seeds=inputs.seeds,
        intensities=inputs.intensities,
        exact=(),
        keras=(),
        exact_tolerance=0.0,
        keras_tolerance=0.0,
    )
    images, digest = draw_inputs(empty, recipe)
    plain = _classify_plainly(model, images)
    exact = Emulator(model).classify(images) if precision == "int8" else plain
    here = open_plain(model).run([OUTPUT], {INPUT: images})[0]
    other = plain if precision == "int8" else here
    original = np.asarray(keras(images), np.float64)
    tight = max(_FLOORS[precision], 4 * float(np.abs(exact - other).max()))
    loose = max(tight, 2 * float(np.abs(exact - original).max()), 0.01 if precision == "int8" else 0.0)
    return Golden(
        jpeg=JPEG,
        pixels=digest,
        seeds=inputs.seeds,
        intensities=inputs.intensities,
        exact=_round_rows(exact),
        keras=_round_rows(original),
        exact_tolerance=float(f"{min(tight, 0.02):.2g}"),
        keras_tolerance=float(f"{loose:.2g}"),
    )


def add_unlike_answers(model: bytes, spec: ModelSpec) -> Golden:
    """Work out what the output `unlike` must give for the self-test's inputs, beside the answers it has.

    `model`: the bytes of a file that is finished but for these. The tolerance is a share of each answer's
    size: four times what rounding in another order changes.
    """
    assert spec.golden is not None
    images, _ = draw_inputs(spec.golden, spec.pixels)
    plain = _run_plainly(model, images, UNLIKE)
    exact = Emulator(model).compute(images, UNLIKE) if spec.precision == "int8" else plain
    here = open_plain(model).run([UNLIKE], {INPUT: images})[0]
    apart = np.maximum(np.abs(exact - plain), np.abs(exact - here)) / np.maximum(np.abs(exact), 1e-3)
    tolerance = min(max(_UNLIKE_FLOORS[spec.precision], 4 * float(apart.max())), 0.2)
    answers = tuple(float(f"{value:.7g}") for value in exact)
    return dataclasses.replace(spec.golden, unlike=answers, unlike_tolerance=float(f"{tolerance:.2g}"))


def _classify_plainly(model: bytes, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return _run_plainly(model, images, OUTPUT)


def _run_plainly(model: bytes, images: NDArray[np.uint8], output: str) -> NDArray[np.float32]:
    """Run the graph node by node as it is written, in float32: nothing fused, nothing rearranged."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    result: NDArray[np.float32] = open_plain(model, options).run([output], {INPUT: images})[0]
    return result


def _round_rows(rows: NDArray[np.floating]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(round(float(value), 7) for value in row) for row in rows)
