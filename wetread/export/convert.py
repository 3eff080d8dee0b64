"""Keras to the one ONNX file that a workstation needs: converted, compared, chosen, tested, stamped.

Nothing appears under the output's name before it was loaded by the runtime and found to agree with Keras.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from wetread.errors import ConfigError, ExportError
from wetread.evaluate.held_out import FIT, OperatingRequest, set_operating_point
from wetread.evaluate.temperature import doubt_temperature
from wetread.export import contract, network
from wetread.export.activation import attach_activation
from wetread.export.building import build_graph, compare_with_keras
from wetread.export.candidates import search_int8
from wetread.export.description import PROBES, NetworkDescription, describe_network, draw_probes
from wetread.export.flips import bound_share
from wetread.export.float16 import halve_graph
from wetread.export.forms.opening import open_network
from wetread.export.forms.source import NetworkSource
from wetread.export.images import ExportImages, read_folder_images, read_run_images
from wetread.export.judging import Candidate, Gate, GateError, Judge, measure_speeds
from wetread.export.scope import attach_scope, note_unmeasured
from wetread.export.scope_file import ScopeRequest, read_scope
from wetread.export.selftest import Inputs, add_unlike_answers, choose_inputs, make_golden
from wetread.export.terms import read_run_spec
from wetread.export.unlike import FIT_IMAGES
from wetread.packages import find_versions
from wetread.runtime.entries import is_bucket_location
from wetread.runtime.files.atomic import write_file
from wetread.runtime.machine import read_processor
from wetread.runtime.model.signature import sign_model, signature_path
from wetread.runtime.model.spec import ModelSpec
from wetread.runtime.model.verify import describe_processor
from wetread.runtime.scoring.classifier import Classifier

__all__ = ["ExportOptions", "ExportResult", "NetworkDescription", "export_keras", "export_run"]

PRECISIONS = ("float32", "int8", "float16")
_TOOLS = ("wetread", "keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime", "numpy")

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What an export may be asked for.

    `calibration`: a folder of images (or where a RUN's images stand now). `gate`: how far int8 and float16
    may depart from Keras. `sign`: a PEM file with an Ed25519 private key. `operating`: another temperature,
    threshold or band than a RUN's own, fitted on its held-out predictions. `with_activation`: a further
    output, for `wetread explain --method cam`. `scope`: a file that says what the model is for.
    """

    precision: str = "float32"
    calibration: str | os.PathLike[str] | None = None
    gate: Gate = field(default_factory=Gate)
    sign: str | os.PathLike[str] | None = None
    with_activation: bool = False
    scope: str | os.PathLike[str] | None = None
    operating: OperatingRequest = field(default_factory=OperatingRequest)
    on_progress: Progress | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ConfigError(f"Expected a precision: {', '.join(PRECISIONS)}. Received {self.precision!r}.")

    def tell(self, text: str) -> None:
        """Say what is being done."""
        if self.on_progress is not None:
            self.on_progress(text)


@dataclass(frozen=True)
class ExportResult:
    """An exported model: where it is, its spec, and how it compared.

    `difference`: the largest of a probability from Keras, float32 form, on the images that were compared.
    `candidates`: the forms that were tried, for int8 and float16; the first is float32. `notes`: sentences
    on what its user should know, such as that the chosen form is slower than float32 on this CPU.
    """

    path: Path
    spec: ModelSpec
    size: int
    difference: float
    compared: int
    candidates: tuple[Candidate, ...] = ()
    notes: tuple[str, ...] = ()
    report: Path | None = None
    signature: Path | None = None


def export_run(
    run: str | os.PathLike[str], *, output: str | os.PathLike[str], options: ExportOptions | None = None
) -> ExportResult:
    """Export the network of a RUN directory.

    Raises ExportError where it cannot be converted or disagrees with its conversion, GateError where no
    int8 or float16 form holds the gate, and DatasetError where the RUN has not what an operating point is
    fitted on; then nothing is written.
    """
    options = options or ExportOptions()
    _check_places(Path(output), options)
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
    _check_places(Path(output), options)
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
            f"Expected a folder of images to make {options.precision} with. Received none. Say where they "
            "are with --calibration."
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
    data = _finish(chosen, spec, inputs, lambda pixels: network.predict_network(wrapped, pixels, spec))
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
            *_note_temperature(spec, options.operating),
            *take_notes(candidates, options.gate),
            *note_unmeasured(spec),
        ),
    )
    return _write(data, result, options)


def _search(
    model: onnx.ModelProto, judge: Judge, options: ExportOptions
) -> tuple[onnx.ModelProto, tuple[Candidate, ...]]:
    if options.precision == "int8":
        choosing, confirming = judge.split()
        return search_int8(model, choosing, confirming=confirming, on_progress=options.on_progress)
    half = halve_graph(model)
    one, measured = judge.measure(model, "float32"), judge.measure(half, "float16")
    speeds = measure_speeds([model, half], judge)
    rows = (
        dataclasses.replace(one, speed=speeds[0], speedup=1.0),
        dataclasses.replace(measured, speed=speeds[1], speedup=speeds[1] / speeds[0], chosen=measured.holds),
    )
    if not measured.holds:
        raise GateError(
            f"Expected a float16 form that flips at most {options.gate.max_flips:.1%} of the labels, besides "
            f"near ties. Received one that flips {measured.flips - measured.near_flips} of "
            f"{measured.images}. No file was written: use float32, allow more with --max-flips, or judge "
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


def note_alike_answers(keras: NDArray[np.float64]) -> tuple[str, ...]:
    """Say so where Keras' answers are all alike, or all 0 and 1: that a file agrees then shows little."""
    if float(np.ptp(keras, axis=0).max()) > 1e-3 and bool(((keras > 1e-4) & (keras < 1 - 1e-4)).any()):
        return ()
    return (
        f"Keras gives all {len(keras)} compared images nearly the same probabilities, or only 0 and 1: that "
        "the file agrees shows little. Is the scale of the pixels right? Compare with `wetread parity`.",
    )


def note_only_answer(
    keras: NDArray[np.float64], spec: ModelSpec, images: ExportImages | None
) -> tuple[str, ...]:
    """Say so where Keras calls every validation image the same although they are of several labels."""
    if images is None or len(set(images.validation.targets.tolist()) - {-1}) < 2:
        return ()
    given = np.unique(spec.decide(keras.astype(np.float32)))
    if len(given) > 1:
        return ()
    label, count = spec.labels[int(given[0])], len(images.validation)
    return (
        f"The network calls all {count:,} validation images {label!r}, although they are of several labels, "
        "and so does the file. Train it for longer or on more images; for a RUN choose another threshold "
        "with --threshold-rule; with --keras check --scale, --offset and the order of --labels.",
    )


def _note_temperature(spec: ModelSpec, request: OperatingRequest) -> tuple[str, ...]:
    """Say so where a temperature that was fitted, not given, ended on its bound."""
    fitted = "held_out" in spec.training and request.temperature in (None, FIT)
    reason = doubt_temperature(spec.temperature) if fitted else None
    return () if reason is None else (f"{reason[0].upper()}{reason[1:]}.",)


def take_notes(candidates: tuple[Candidate, ...], gate: Gate) -> tuple[str, ...]:
    """What to know of the chosen form: that it is slower here, that few images judged it."""
    chosen = next((candidate for candidate in candidates if candidate.chosen), None)
    notes = []
    if chosen is not None and chosen.speedup < 1:
        smaller = chosen.size < candidates[0].size
        gain = "Its gain here is size alone." if smaller else "It gains nothing here: use float32."
        notes.append(
            f"On this CPU {chosen.name} is slower than float32: {chosen.speed:,.0f} images/s on one thread "
            f"against {candidates[0].speed:,.0f}. {gain}"
        )
    if chosen is not None and chosen.floats:
        notes.append(_explain_floats(chosen, candidates))
    if chosen is not None and chosen.confirmed_images:
        low, high = bound_share(chosen.confirmed_flips, chosen.confirmed_images)
        notes.append(
            f"Chosen on {chosen.images} images; of {chosen.confirmed_images} others, which chose nothing, "
            f"{chosen.confirmed_flips} labels flip: {low:.1%} to {high:.1%} of such images, at 95%."
        )
    if chosen is not None and 0 < gate.max_flips * chosen.images < 1:
        notes.append(
            f"Only {chosen.images} images judged it: a share of {gate.max_flips:.1%} can be seen from "
            f"{math.ceil(1 / gate.max_flips):,} on. Give more with --calibration."
        )
    return tuple(notes)


def _explain_floats(chosen: Candidate, candidates: tuple[Candidate, ...]) -> str:
    """Which layers stayed in float, and what they cost in int8."""
    whole = [row for row in candidates if not row.floats and chosen.name.startswith(row.name)]
    words = (
        f": with them in int8 too, {whole[0].flips} of {whole[0].images} labels flip and probabilities are "
        f"off by {whole[0].mean_difference:.1e} in the mean, and so by {chosen.mean_difference:.1e}"
        if whole
        else ", which hurt most in int8"
    )
    return f"Kept in float: {', '.join(chosen.floats)}{words}."


def _finish(model: onnx.ModelProto, spec: ModelSpec, inputs: Inputs, keras: Any) -> bytes:
    """The file's bytes, its self-test inside."""
    bare = contract.finish(model, dataclasses.replace(spec, golden=None))
    golden = make_golden(bare, inputs, spec.pixels, precision=spec.precision, keras=keras)
    spec = dataclasses.replace(spec, golden=golden)
    if spec.scope is not None and spec.scope.unlike is not None:
        spec = dataclasses.replace(spec, golden=add_unlike_answers(bare, spec))
    return contract.finish(model, spec)


def list_companions(output: str | os.PathLike[str]) -> tuple[Path, Path]:
    """What may stand beside a model: the report on its candidates, and its signature."""
    return Path(output).with_suffix(".quantization.json"), signature_path(output)


def _write(data: bytes, result: ExportResult, options: ExportOptions) -> ExportResult:
    """Write the model, its signature and its report, each whole or not at all; the model last.

    A report and a signature of a model that stood there before go with it.
    """
    report = signature = None
    companions = list_companions(result.path)
    if result.candidates:
        report = companions[0]
        rows = [dataclasses.asdict(candidate) for candidate in result.candidates]
        summary = {
            "gate": dataclasses.asdict(options.gate),
            "machine": describe_processor(read_processor()),
            "chosen": result.spec.quantization,
        }
        _replace(report, (json.dumps({**summary, "candidates": rows}, indent=2) + "\n").encode())
    if options.sign is not None:
        signature = companions[1]
        _replace(signature, sign_model(data, key=options.sign))
    _replace(result.path, data)
    for left in {*companions} - {report, signature}:
        _remove(left)
    return dataclasses.replace(result, report=report, signature=signature)


def _replace(path: Path, data: bytes) -> None:
    try:
        write_file(path, data)
    except OSError as error:
        raise ExportError(
            f"Expected to write {path}. Received: {error.strerror}. Choose another --output."
        ) from error


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ExportError(
            f"Expected to remove {path}, which belongs to the model that stood there before. Received: "
            f"{error.strerror}. Remove it: it does not belong to the new one."
        ) from error


def _check_places(output: Path, options: ExportOptions) -> None:
    """Before the work: can the output stand where it is wanted, and is the key one? Raises SetupErrors."""
    if options.sign is not None:
        sign_model(b"", key=options.sign)
    if output.suffix != ".onnx" or not output.absolute().parent.is_dir():
        raise ExportError(
            f"Expected an --output that ends in .onnx, in a folder that is there. Received {output}."
        )
