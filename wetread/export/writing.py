"""Write an exported model, its report and its signature: each whole or not at all."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from wetread.errors import ExportError
from wetread.export.options import ExportOptions, ExportResult
from wetread.runtime.files.atomic import write_file
from wetread.runtime.files.json_text import write_record
from wetread.runtime.machine import read_processor
from wetread.runtime.model.signature import sign_model, signature_path
from wetread.runtime.model.verify import describe_processor


def list_companions(output: str | os.PathLike[str]) -> tuple[Path, Path]:
    """What may stand beside a model: the report on its candidates, and its signature."""
    return Path(output).with_suffix(".quantization.json"), signature_path(output)


def write_model(data: bytes, result: ExportResult, options: ExportOptions) -> ExportResult:
    """Write the model, its signature and its report, each whole or not at all; the model last.

    A report and a signature of a model that stood there before go with it.
    """
    report = signature = None
    path, companions = Path(result.path), list_companions(result.path)
    if result.candidates:
        report = companions[0]
        rows = [dataclasses.asdict(candidate) for candidate in result.candidates]
        summary = {
            "gate": dataclasses.asdict(options.gate),
            "machine": describe_processor(read_processor()),
            "chosen": result.spec.quantization,
        }
        _replace(report, write_record({**summary, "candidates": rows}).encode())
    if options.sign is not None:
        signature = companions[1]
        _replace(signature, sign_model(data, key=options.sign))
    _replace(path, data)
    for left in {*companions} - {report, signature}:
        _remove(left)
    return dataclasses.replace(result, report=report, signature=signature)


def _replace(path: Path, data: bytes) -> None:
    try:
        write_file(path, data)
    except OSError as error:
        raise ExportError(f"{path} cannot be written: {error.strerror}. Choose another --output.") from error


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ExportError(
            f"{path}, which belongs to the model that stood there before, cannot be removed: "
            f"{error.strerror}. Remove it: it does not belong to the new one."
        ) from error


def check_places(output: Path, options: ExportOptions) -> None:
    """Before the work: can the output stand where it is wanted, and is the key one? Raises SetupErrors."""
    if options.sign is not None:
        sign_model(b"", key=options.sign)
    if output.suffix != ".onnx" or not output.absolute().parent.is_dir():
        raise ExportError(f"--output must end in .onnx and be in an existing folder, unlike {output}.")
