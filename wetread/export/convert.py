"""Keras to the one ONNX file that a workstation needs: converted, compared, chosen, tested, stamped.

Nothing appears under the output's name before it was loaded by the runtime and found to agree with Keras.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from wetread.errors import ConfigError, ExportError
from wetread.export import graph, layers, network
from wetread.export.candidates import Candidate, Gate, GateError, Judge, classify_all, search_int8
from wetread.export.float16 import halve_graph
from wetread.export.images import ExportImages, read_folder_images, read_run_images
from wetread.export.selftest import Inputs, choose_inputs, make_golden
from wetread.runtime.classifier import Classifier
from wetread.runtime.golden import draw_image
from wetread.runtime.signature import sign_model, signature_path
from wetread.runtime.spec import ModelSpec, PixelRecipe

PRECISIONS = ("float32", "int8", "float16")
# A wrong conversion is off by hundredths; a right one of a deep network by less than this.
CONVERSION_TOLERANCE = 1e-4
_PROBES = 5
_TOOLS = ("wetread", "keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime", "numpy")

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What an export may be asked for.

    `calibration`: a folder of images (or where a RUN's images stand now). `gate`: how far int8 and float16
    may depart from Keras. `sign`: a PEM file with an Ed25519 private key.
    """

    precision: str = "float32"
    calibration: str | os.PathLike[str] | None = None
    gate: Gate = Gate()
    sign: str | os.PathLike[str] | None = None
    on_progress: Progress | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ConfigError(f"Expected a precision: {', '.join(PRECISIONS)}. Received {self.precision!r}.")

    def tell(self, text: str) -> None:
        """Say what is being done."""
        if self.on_progress is not None:
            self.on_progress(text)


@dataclass(frozen=True, kw_only=True)
class NetworkDescription:
    """How a network that was trained elsewhere wants its pixels, and what it says.

    `labels` in the order of its outputs (with one output, that is the probability of the second). Pixels,
    0 to 255, are multiplied by `scale` and then `offset` is added; `mean` and `std`, of scaled pixels, are
    another way to say so. `size` (height, width) where the network leaves it open; `head` ('logits',
    'sigmoid' or 'softmax') where it cannot be told. Without `scale` the network must scale by itself.
    """

    labels: tuple[str, ...]
    positive: str | None = None
    threshold: float = 0.5
    scale: tuple[float, ...] | None = None
    offset: tuple[float, ...] = (0.0,)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    color: str | None = None
    resize: str = "stretch"
    size: tuple[int, int] | None = None
    head: str | None = None


@dataclass(frozen=True)
class ExportResult:
    """An exported model: where it is, its spec, and how it compared.

    `difference`: the largest of a probability from Keras, float32 form, on the images that were compared.
    `candidates`: the forms that were tried, for int8 and float16; the first is float32. `slower`: a sentence
    where the chosen form is slower than float32 on this CPU, else empty.
    """

    path: Path
    spec: ModelSpec
    size: int
    difference: float
    compared: int
    candidates: tuple[Candidate, ...] = ()
    slower: str = ""
    report: Path | None = None
    signature: Path | None = None


def export_run(
    run: str | os.PathLike[str], *, output: str | os.PathLike[str], options: ExportOptions | None = None
) -> ExportResult:
    """Export the network of a RUN directory.

    Raises ExportError where it cannot be converted or disagrees with its conversion, and GateError where
    no int8 or float16 form holds the gate; then nothing is written.
    """
    options = options or ExportOptions()
    run = Path(run)
    spec = read_run_spec(run)
    model = network.load_network(run / "model.keras")
    images = None
    if options.precision != "float32" or _has_images(run, options):
        options.tell("reading images")
        images = read_run_images(run, spec, calibration=options.calibration)
    return _export(model, spec, images, Path(output), options)


def read_run_spec(run: Path) -> ModelSpec:
    """The spec that training wrote into a RUN directory. Raises ExportError."""
    try:
        text = (run / "spec.json").read_text(encoding="utf-8")
    except OSError as error:
        raise ExportError(
            f"Expected a finished RUN directory with spec.json. Received {run}: {error.strerror}. "
            "Finish it with `wetread train --resume`."
        ) from error
    return ModelSpec.from_json(text)


def _has_images(run: Path, options: ExportOptions) -> bool:
    """Whether a float32 export can be compared on real images: it may also do without."""
    if options.calibration is not None:
        return True
    try:
        return Path(json.loads((run / "config.json").read_text(encoding="utf-8"))["data"]).is_dir()
    except (OSError, ValueError, KeyError):
        return False


def export_keras(
    file: str | os.PathLike[str],
    *,
    network_description: NetworkDescription,
    output: str | os.PathLike[str],
    options: ExportOptions | None = None,
) -> ExportResult:
    """Export a `.keras` file that was trained anywhere. Raises as `export_run`, and ConfigError."""
    options = options or ExportOptions()
    model = network.load_network(file)
    spec = describe_network(model, network_description)
    images = None
    if options.calibration is not None:
        options.tell("reading images")
        images = read_folder_images(options.calibration, spec)
    elif options.precision != "float32":
        raise ExportError(
            f"Expected a folder of images to make {options.precision} with. Received none. Say where they "
            "are with --calibration."
        )
    return _export(model, spec, images, Path(output), options)


def describe_network(model: Any, description: NetworkDescription) -> ModelSpec:
    """Work out the spec of a foreign network: what it tells itself, and what its description adds."""
    height, width, channels = network.network_shape(model)
    size = description.size or (height, width)
    if size[0] is None or size[1] is None or (description.size and (height, width) not in (size, (None, None))):
        raise ExportError(
            f"Expected the size of the images that the network takes. Received {(height, width)} from the "
            f"network and {description.size} by option. Say it with --size."
        )
    color = description.color or {1: "gray", 3: "rgb", None: "rgb"}[channels]
    recipe = PixelRecipe(height=size[0], width=size[1], color=color, resize=description.resize)
    if channels not in (recipe.channels, None):
        raise ExportError(f"Expected images of {channels} channels. Received --color {color}.")
    scale, offset = _scale_and_offset(model, description)
    spec = ModelSpec(
        labels=description.labels,
        pixels=recipe,
        positive=description.positive,
        threshold=description.threshold,
        threshold_rule="default" if description.threshold == 0.5 else "given",
        scale=scale,
        offset=offset,
    )
    head = description.head or _find_head(model, spec)
    return dataclasses.replace(spec, head=head)


def _scale_and_offset(
    model: Any, description: NetworkDescription
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Bring scale, offset, mean and std to one scale and one offset. Raises ConfigError without any."""
    if description.scale is None and description.mean is None and description.std is None:
        if not network.scales_itself(model):
            raise ConfigError(
                "Expected the scale of the pixels, 0 to 255, that the network was trained on. Received none, "
                "and the network has no Rescaling or Normalization layer. Say it: --scale 0.00392156862745098 "
                "for 0 to 1, --scale 1 for 0 to 255."
            )
        return (1.0,), description.offset
    values = np.broadcast_arrays(
        np.float64(description.scale or (1.0,)),
        np.float64(description.offset),
        np.float64(description.mean or (0.0,)),
        np.float64(description.std or (1.0,)),
    )
    scale, offset, mean, std = values
    if not np.all(std > 0):
        raise ConfigError(f"Expected --std above 0. Received {description.std}.")
    return tuple((scale / std).tolist()), tuple(((offset - mean) / std).tolist())


def _find_head(model: Any, spec: ModelSpec) -> str:
    wrapped = network.wrap_network(model, spec.pixels.shape)
    inputs = network.scale_pixels(_draw_probes(spec), spec)
    return network.find_head(model, np.asarray(wrapped.predict_on_batch(inputs)), len(spec.labels))


def _draw_probes(spec: ModelSpec) -> NDArray[np.uint8]:
    return np.stack([draw_image(seed, shape=spec.pixels.shape) for seed in range(1, _PROBES + 1)])


def _export(
    model: Any, spec: ModelSpec, images: ExportImages | None, output: Path, options: ExportOptions
) -> ExportResult:
    """The way of every export: convert, compare, choose a form, add its self-test, write."""
    _check_output(output)
    options.tell("converting")
    wrapped = network.wrap_network(model, spec.pixels.shape)
    spec = dataclasses.replace(spec, precision="float32", tools={**spec.tools, **_versions()})
    float_graph = build_graph(wrapped, spec)
    options.tell("comparing with Keras")
    probes = _draw_probes(spec) if images is None else np.concatenate([_draw_probes(spec), images.validation.pixels])
    keras = network.predict_network(wrapped, probes, spec)
    difference = compare_with_keras(float_graph, spec, probes, keras)
    chosen, candidates, facts = float_graph, (), {}
    if options.precision != "float32" and images is not None:
        judge = Judge(spec, images, keras[_PROBES:], options.gate)
        chosen, candidates = _search(float_graph, judge, options)
        facts = _summarize(candidates)
    options.tell("making the self-test")
    calibration = None if images is None else images.calibration.pixels
    inputs = choose_inputs(float_graph, spec.pixels, calibration)
    spec = dataclasses.replace(spec, precision=options.precision, quantization=facts)
    data = _finish(chosen, spec, inputs, lambda pixels: network.predict_network(wrapped, pixels, spec))
    result = ExportResult(
        path=output,
        spec=Classifier(data, device="cpu").spec,
        size=len(data),
        difference=difference,
        compared=len(probes),
        candidates=candidates,
        slower=_say_slower(candidates),
    )
    return _write(data, result, options)


def build_graph(wrapped: Any, spec: ModelSpec) -> onnx.ModelProto:
    """Convert a wrapped network and bring its graph to the contract, in float32, named by its layers."""
    model = network.convert_network(wrapped)
    graph.attach_pixels(model, spec)
    graph.attach_head(model, spec)
    graph.freeze_shapes(model)
    model = graph.simplify(model)
    probes = _draw_probes(spec)[:2]
    recorded = layers.record_layers(wrapped, network.scale_pixels(probes, spec))
    layers.name_layers(model, recorded, probes)
    return model


def compare_with_keras(
    model: onnx.ModelProto, spec: ModelSpec, images: NDArray[np.uint8], keras: NDArray[np.float64]
) -> float:
    """The largest difference of a probability between a float32 graph in the runtime and Keras.

    One at a time and in batches. Raises ExportError where it is more than 1e-4.
    """
    classifier = Classifier(graph.finish(model, spec), device="cpu")
    alone = np.concatenate([classifier.classify(images[i : i + 1]) for i in range(min(_PROBES, len(images)))])
    together = classify_all(classifier, images)
    difference = max(float(np.abs(together - keras).max()), float(np.abs(alone - keras[: len(alone)]).max()))
    if not difference <= CONVERSION_TOLERANCE:
        raise ExportError(
            f"Expected probabilities within {CONVERSION_TOLERANCE:g} of Keras'. Received ones that are off by "
            f"{difference:.2g}: a layer of this network is not converted as Keras computes it. Nothing was "
            "written. Replace unusual layers one by one to find it."
        )
    return difference


def _search(
    model: onnx.ModelProto, judge: Judge, options: ExportOptions
) -> tuple[onnx.ModelProto, tuple[Candidate, ...]]:
    if options.precision == "int8":
        return search_int8(model, judge, on_progress=options.on_progress)
    half = halve_graph(model)
    measured = judge.measure(half, "float16")
    rows = (judge.measure(model, "float32"), dataclasses.replace(measured, chosen=measured.holds))
    if not measured.holds:
        raise GateError(
            f"Expected a float16 form that flips at most {options.gate.max_flips:.1%} of the labels. Received "
            f"one that flips {measured.flips} of {measured.images}. No file was written: use float32.",
            candidates=rows,
        )
    return half, rows


def _summarize(candidates: tuple[Candidate, ...]) -> dict[str, Any]:
    """The choice in short, for the spec."""
    chosen = next(candidate for candidate in candidates if candidate.chosen)
    return {
        "form": chosen.name,
        "tried": len(candidates) - 1,
        "flips": chosen.flips,
        "images": chosen.images,
        "auc_change": None if chosen.auc_change is None else round(chosen.auc_change, 6),
        "mean_difference": round(chosen.mean_difference, 7),
        "size_ratio": round(chosen.size / candidates[0].size, 3),
        "speedup": round(chosen.speedup, 2),
        "float_layers": list(chosen.floats)[:20],
    }


def _say_slower(candidates: tuple[Candidate, ...]) -> str:
    chosen = next((candidate for candidate in candidates if candidate.chosen), None)
    if chosen is None or not chosen.speedup or chosen.speedup >= 1:
        return ""
    return (
        f"On this CPU {chosen.name} is slower than float32: {chosen.speed:,.0f} images/s on one thread against "
        f"{candidates[0].speed:,.0f}. Its gain here is size alone."
    )


def _finish(model: onnx.ModelProto, spec: ModelSpec, inputs: Inputs, keras: Any) -> bytes:
    """The file's bytes, its self-test inside."""
    bare = graph.finish(model, dataclasses.replace(spec, golden=None))
    golden = make_golden(bare, inputs, spec.pixels, precision=spec.precision, keras=keras)
    return graph.finish(model, dataclasses.replace(spec, golden=golden))


def _write(data: bytes, result: ExportResult, options: ExportOptions) -> ExportResult:
    """Write the model, its signature and its report, each whole or not at all; the model last."""
    report = signature = None
    if result.candidates:
        report = result.path.with_suffix(".quantization.json")
        rows = [dataclasses.asdict(candidate) for candidate in result.candidates]
        summary = {"gate": dataclasses.asdict(options.gate), "chosen": result.spec.quantization}
        _replace(report, (json.dumps({**summary, "candidates": rows}, indent=2) + "\n").encode())
    if options.sign is not None:
        signature = signature_path(result.path)
        _replace(signature, sign_model(data, key=options.sign))
    _replace(result.path, data)
    return dataclasses.replace(result, report=report, signature=signature)


def _replace(path: Path, data: bytes) -> None:
    """Write a file under a passing name and give it its own when it is whole."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ExportError(f"Expected to write {path}. Received: {error.strerror}. Choose another --output.") from error


def _check_output(output: Path) -> None:
    if output.suffix != ".onnx" or not output.absolute().parent.is_dir():
        raise ExportError(
            f"Expected an --output that ends in .onnx, in a folder that is there. Received {output}."
        )


def _versions() -> dict[str, str]:
    """The versions of what made the file, where they are installed as packages."""
    found = {}
    for name in _TOOLS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
