"""Keras to the one ONNX file that a workstation needs: converted, compared, chosen, tested, stamped.

Nothing appears under the output's name before it was loaded by the runtime and found to agree with Keras.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from wetread.errors import ExportError
from wetread.evaluate.held_out import set_operating_point
from wetread.export import contract, network
from wetread.export.activation import attach_activation
from wetread.export.assumptions import read_run_spec
from wetread.export.description import PROBES, NetworkDescription, describe_network, draw_probes
from wetread.export.first_convolution import read_blocks_if_same
from wetread.export.float16 import LARGEST, find_largest, halve_graph
from wetread.export.forms.network_files import NetworkSource
from wetread.export.forms.opening import open_network
from wetread.export.images import ExportImages, read_folder_images, read_run_images
from wetread.export.int8_candidates import search_int8
from wetread.export.judging import Candidate, GateError, Judge, time_forms
from wetread.export.keras_to_onnx import build_graph, compare_with_keras
from wetread.export.notes import note_alike_answers, note_only_answer, note_temperature, take_notes
from wetread.export.options import ExportOptions, ExportResult
from wetread.export.scope import attach_scope, note_unmeasured
from wetread.export.scope_file import ScopeRequest, read_scope
from wetread.export.selftest import Inputs, add_unlike_answers, choose_inputs, make_golden
from wetread.export.unlike_output import FIT_IMAGES
from wetread.export.writing import check_places, write_model
from wetread.packages import find_versions
from wetread.runtime.entries import is_bucket_location
from wetread.runtime.model.spec import ModelSpec
from wetread.runtime.scoring.classifier import Classifier

_TOOLS = ("wetread", "keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime", "numpy")
# Of half precision's range, left for images that are not held out.
_HEADROOM = 2


def export_run(
    run: str | os.PathLike[str], *, output: str | os.PathLike[str], options: ExportOptions | None = None
) -> ExportResult:
    """Export the network of a RUN directory.

    Raises ExportError where it cannot be converted or disagrees with its conversion, GateError where no
    int8 or float16 form holds the gate, and DatasetError where the RUN has not what an operating point is
    fitted on; then nothing is written.
    """
    options = options or ExportOptions()
    check_places(Path(output), options)
    run, request = Path(run), read_request(options)
    spec = set_operating_point(run, read_run_spec(run), options.operating)
    model = network.load_network(run / "model.keras")
    images = None
    if options.precision != "float32" or _has_images(run, options):
        options.tell("reading images")
        training = FIT_IMAGES if request is not None and request.unlike is not None else 0
        images = read_run_images(run, spec, calibration=options.calibration, training=training)
    return _export(model, spec, images, Path(output), options)


def read_request(options: ExportOptions) -> ScopeRequest | None:
    """Read the scope's file, before the work; None without one. Raises ConfigError."""
    return None if options.scope is None else read_scope(options.scope)


def _has_images(run: Path, options: ExportOptions) -> bool:
    """Whether a float32 export can be compared on real images: it may also do without."""
    if options.calibration is not None:
        return True
    try:
        data = json.loads((run / "config.json").read_text(encoding="utf-8"))["data"]
        return is_bucket_location(data) or Path(data).is_dir()
    except (OSError, ValueError, KeyError):
        return False


def export_keras(
    file: str | os.PathLike[str] | NetworkSource,
    *,
    network_description: NetworkDescription,
    output: str | os.PathLike[str],
    options: ExportOptions | None = None,
) -> ExportResult:
    """Export a network that was trained anywhere, in any form that `wetread.export.forms` opens.

    Raises as `export_run`, ConfigError, and MissingExtraError where it needs tf_keras.
    """
    options = options or ExportOptions()
    check_places(Path(output), options)
    read_request(options)
    options.tell(f"opening {os.fspath(file)}")
    opened = open_network(file, size=network_description.size)
    model = opened.model
    spec, guesses = describe_network(model, network_description)
    images = None
    if options.calibration is not None:
        options.tell("reading images")
        images = read_folder_images(options.calibration, spec)
    elif options.precision != "float32":
        raise ExportError(
            f"{options.precision} needs images to calibrate on. Say where they are with --calibration."
        )
    result = _export(model, spec, images, Path(output), options)
    return dataclasses.replace(result, notes=(*(f"{guess}." for guess in guesses), *result.notes))


def _export(
    model: Any, spec: ModelSpec, images: ExportImages | None, output: Path, options: ExportOptions
) -> ExportResult:
    """The way of every export: convert, compare, choose a form, add its self-test, write."""
    options.tell("converting")
    wrapped = network.wrap_network(model, spec.pixels.shape)
    spec = dataclasses.replace(spec, precision="float32", tools={**spec.tools, **find_versions(_TOOLS)})
    float_graph = build_graph(wrapped, spec)
    options.tell("comparing with Keras")
    probes = (
        draw_probes(spec) if images is None else np.concatenate([draw_probes(spec), images.validation.pixels])
    )
    keras = network.predict_network(wrapped, probes, spec)
    difference = compare_with_keras(float_graph, spec, probes, keras)
    chosen, facts = float_graph, {}
    candidates: tuple[Candidate, ...] = ()
    if options.precision != "float32" and images is not None:
        judge = Judge(spec, images, keras[PROBES:], options.gate)
        chosen, candidates = _search(float_graph, judge, options)
        facts = _summarize(candidates)
    options.tell("making the self-test")
    calibration = None if images is None else images.calibration.pixels
    inputs = choose_inputs(float_graph, spec.pixels, calibration)
    spec = dataclasses.replace(spec, precision=options.precision, quantization=facts)
    chosen, spec = attach_scope(chosen, spec, images, read_request(options), source=float_graph)
    if options.with_activation:
        chosen = attach_activation(chosen, spec, source=float_graph, images=probes[:PROBES])
    spec = _add_golden(chosen, spec, inputs, lambda pixels: network.predict_network(wrapped, pixels, spec))
    data = contract.finish(read_blocks_if_same(chosen, probes[: 2 * PROBES]), spec)
    result = ExportResult(
        path=output,
        spec=Classifier(data, device="cpu").spec,
        size=len(data),
        difference=difference,
        compared=len(probes),
        candidates=candidates,
        notes=(
            *note_alike_answers(keras),
            *note_only_answer(keras[PROBES:], spec, images),
            *note_temperature(spec, options.operating),
            *take_notes(candidates, options.gate),
            *note_unmeasured(spec),
        ),
    )
    return write_model(data, result, options)


def _search(
    model: onnx.ModelProto, judge: Judge, options: ExportOptions
) -> tuple[onnx.ModelProto, tuple[Candidate, ...]]:
    if options.precision == "int8":
        choosing, confirming = judge.split()
        return search_int8(
            model,
            choosing,
            confirming=confirming,
            exact_integers=options.exact_integers,
            on_progress=options.on_progress,
        )
    half, pixels = halve_graph(model), judge.images.validation.pixels
    layer, largest = find_largest(model, pixels)
    one, measured = judge.measure(model, "float32"), judge.measure(half, "float16")
    speeds, overflows = time_forms([model, half], judge), largest > LARGEST / _HEADROOM
    holds = measured.holds and not overflows
    rows = (
        dataclasses.replace(one, speed=speeds[0], speedup=1.0),
        dataclasses.replace(
            measured, speed=speeds[1], speedup=speeds[1] / speeds[0], holds=holds, chosen=holds
        ),
    )
    if overflows:
        raise GateError(
            f"float16 ends at {LARGEST:,.0f}, and {layer} reaches {largest:,.6g} on {len(pixels)} images: "
            "less than half is left for others, and on a GPU the network may overflow. No file was written: "
            "use float32, or train the network with batch normalization.",
            candidates=rows,
        )
    if not holds:
        raise GateError(
            f"float16 changes too many labels: {measured.flips - measured.near_flips} of {measured.images}, "
            f"besides near ties, where {options.gate.max_flips:.1%} are accepted. No file was written: use "
            "float32, allow more with --max-flips, or judge "
            "with more images (--calibration).",
            candidates=rows,
        )
    return half, rows


def _summarize(candidates: tuple[Candidate, ...]) -> dict[str, Any]:
    """The choice in short, for the spec."""
    chosen = next(candidate for candidate in candidates if candidate.chosen)
    return {
        "form": chosen.name,
        "tried": len(candidates) - 1,
        "flips": chosen.flips - chosen.near_flips,
        "near_flips": chosen.near_flips,
        "images": chosen.images,
        "confirmed_flips": chosen.confirmed_flips,
        "confirmed_images": chosen.confirmed_images,
        "auc_change": None if chosen.auc_change is None else round(chosen.auc_change, 6),
        "mean_difference": round(chosen.mean_difference, 7),
        "size_ratio": round(chosen.size / candidates[0].size, 3),
        "speedup": round(chosen.speedup, 2),
        "float_layers": list(chosen.floats)[:20],
    }


def _add_golden(model: onnx.ModelProto, spec: ModelSpec, inputs: Inputs, keras: Any) -> ModelSpec:
    """The spec with the self-test of a graph.

    The graph is as it was before its first convolution read blocks. That changes no integer, but the order in
    which floats would be added: the self-test would allow for it.
    """
    bare = contract.finish(model, dataclasses.replace(spec, golden=None))
    golden = make_golden(bare, inputs, spec.pixels, precision=spec.precision, keras=keras)
    spec = dataclasses.replace(spec, golden=golden)
    if spec.scope is not None and spec.scope.unlike is not None:
        spec = dataclasses.replace(spec, golden=add_unlike_answers(bare, spec))
    return spec
