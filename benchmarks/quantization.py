"""Int8 on both kinds of CPU: `python benchmarks/quantization.py RUN` prints the docs' tables.

Exports the RUN's network by `wetread export --precision int8`, quantizes it by onnxruntime's own function
too, and counts, over the RUN's validation files, the labels that differ from Keras: on this CPU, in exact
arithmetic (VNNI, ARM) and in saturating arithmetic (x86 without VNNI).
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx

from tests.export.saturating import multiply_saturating
from wetread.export import ExportOptions, export_run
from wetread.export.assumptions import read_run_spec
from wetread.export.contract import finish
from wetread.export.emulation import Emulator
from wetread.export.images import ExportImages, read_run_images
from wetread.export.judging import Gate, Judge, classify_all, time_forms
from wetread.export.network import load_network, predict_network, wrap_network
from wetread.export.selftest import choose_inputs, make_golden
from wetread.runtime.machine import read_processor
from wetread.runtime.model.spec import ModelSpec
from wetread.runtime.model.verify import describe_processor, verify_model
from wetread.runtime.scoring.classifier import Classifier

# How onnxruntime's quantize_static is called: by its defaults, and as its documentation advises.
NAIVE = {
    "quantize_static, defaults (S8S8)": {},
    "quantize_static, U8S8 per channel": {"activation": "QUInt8", "per_channel": True},
    "quantize_static, U8S8 per channel, reduce_range": {
        "activation": "QUInt8",
        "per_channel": True,
        "reduce_range": True,
    },
}


class Form(NamedTuple):
    """A model file by name."""

    name: str
    data: bytes


def quantize_naively(float32: Path, images: ExportImages, spec: ModelSpec, options: dict) -> bytes:
    """Quantize as a user of onnxruntime would, with its own function, and stamp our spec on the result."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    pixels = images.calibration.pixels

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches: Iterator[np.ndarray] = iter(np.array_split(pixels, max(len(pixels) // 8, 1)))

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"image": batch}

    chosen = {key: value for key, value in options.items() if key != "activation"}
    if "activation" in options:
        chosen["activation_type"] = getattr(QuantType, options["activation"])
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "naive.onnx"
        quantize_static(float32, target, Reader(), **chosen)
        model = onnx.load(target)
    logging.disable(logging.NOTSET)
    return finish(model, dataclasses.replace(spec, precision="int8", golden=None))


def add_self_test(form: Form, float32: Path, judge: Judge, keras) -> bytes:
    """Give a file the self-test that export gives its own."""
    calibration = judge.images.calibration.pixels
    inputs = choose_inputs(onnx.load(float32), judge.spec.pixels, calibration)
    golden = make_golden(form.data, inputs, judge.spec.pixels, precision="int8", keras=keras)
    spec = dataclasses.replace(judge.spec, precision="int8", golden=golden)
    return finish(onnx.load_from_string(form.data), spec)


def print_table(header: list[str], rows: list[list[str]]) -> None:
    print("| " + " | ".join(header) + " |")
    print("|" + " --- |" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def print_candidates(result) -> None:
    rows = [
        [
            f"**{c.name}**" if c.chosen else c.name,
            f"{c.flips} of {c.images}",
            "-" if c.auc_change is None else f"{c.auc_change:+.5f}",
            f"{c.mean_difference:.1e}",
            f"{c.max_difference:.1e}",
            f"{c.size / 1000:.0f}",
            f"{c.speedup:.2f}" if c.speedup else "-",
            "yes" if c.safe else "no",
            "yes" if c.holds else "no",
        ]
        for c in result.candidates
    ]
    header = [
        "form",
        "flips",
        "change of AUC",
        "mean \\|dp\\|",
        "max \\|dp\\|",
        "kB",
        "speed",
        "safe",
        "holds",
    ]
    print_table(header, rows)


def describe_form(form: Form, judge: Judge, float32: Path, keras, folder: Path) -> list[str]:
    """One row: flips in each arithmetic, accuracy here, the proof, and what verify says."""
    pixels, targets = judge.images.validation.pixels, judge.images.validation.targets
    expected = judge.spec.decide(judge.keras.astype(np.float32))
    here = judge.spec.decide(classify_all(Classifier(form.data, device="cpu"), pixels))
    exact = judge.spec.decide(Emulator(form.data).classify(pixels))
    saturating = judge.spec.decide(Emulator(form.data, product=multiply_saturating).classify(pixels))
    path = folder / "form.onnx"
    path.write_bytes(add_self_test(form, float32, judge, keras))
    report = verify_model(path)
    failed = [check.name for check in report.checks if not check.passed]
    return [
        form.name,
        *(str(int((labels != expected).sum())) for labels in (here, exact, saturating)),
        f"{(here == targets).mean():.1%}",
        f"{max(report.self_test.exact):.0e}",
        "passes" if report.passed else f"fails: {', '.join(failed)}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    spec = read_run_spec(run)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        float32, int8 = folder / "float32.onnx", folder / "int8.onnx"
        export_run(run, output=float32)
        result = export_run(run, output=int8, options=ExportOptions(precision="int8"))
        print(f"{describe_processor(read_processor())}\n")
        print_candidates(result)
        print(f"{' '.join(result.notes) or 'Not slower than float32 on this CPU.'}\n")
        images = read_run_images(run, spec)
        wrapped = wrap_network(load_network(run / "model.keras"), spec.pixels.shape)

        def keras(pixels: np.ndarray) -> np.ndarray:
            return predict_network(wrapped, pixels, spec)

        judge = Judge(spec, images, keras(images.validation.pixels), Gate())
        forms = [Form("wetread export --precision int8", int8.read_bytes())]
        forms += [Form(n, quantize_naively(float32, images, spec, o)) for n, o in NAIVE.items()]
        rows = [describe_form(form, judge, float32, keras, folder) for form in forms]
        models = [onnx.load(float32), *(onnx.load_from_string(form.data) for form in forms)]
        speeds = time_forms(models, judge)
        for row, form, speed in zip(rows, forms, speeds[1:], strict=True):
            row[5:5] = [f"{len(form.data) / float32.stat().st_size:.2f}", f"{speed / speeds[0]:.2f}"]
        print(f"{len(images.validation)} validation files; size and speed beside float32 in one run.\n")
        header = ["file", "flips here", "flips, exact", "flips, saturating", "accuracy here", "size", "speed"]
        print_table([*header, "self-test off by", "verify"], rows)


if __name__ == "__main__":
    sys.exit(main())
