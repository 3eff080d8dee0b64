"""`wetread.export` and `wetread.parity`: the commands as functions."""

from __future__ import annotations

import os
from dataclasses import replace

from wetread.export.convert import export_keras, export_run
from wetread.export.keywords import ExportKeywords, ParityKeywords
from wetread.export.options import ExportResult
from wetread.export.parity import measure_parity
from wetread.export.parity_certificate import write_certificate
from wetread.export.report import ParityReport, write_report
from wetread.export.tolerance import TOLERANCE
from wetread.export.writing import list_companions
from wetread.keyword_functions import take_fields
from wetread.runtime.entries import is_bucket_location
from wetread.runtime.gcs.billing import bill_project
from wetread.runtime.gcs.bucket_folder import RUN_FILES, StagedFile, stage_file, stage_folder


@take_fields(ExportKeywords)
def export(keywords: ExportKeywords) -> ExportResult:
    """Turn a trained network into the one ONNX file that scoring needs, as the command `export` does.

        wetread.export("run", output="model.onnx", precision="int8")
        wetread.export(keras="net.keras", labels=["cat", "dog"], scale=1 / 255, output="net.onnx")

    The file appears only after its results were compared with Keras. `on_progress` is called with a sentence
    for each step. Raises ExportError, GateError (with the `candidates` that were tried) where no int8 or
    float16 form is close enough, UsageError, ConfigError and DatasetError; then nothing is written.
    """
    companions = [path.name for path in list_companions(keywords.output)]
    options = keywords.choose()
    with (
        bill_project(keywords.project),
        stage_folder(keywords.run or "", names=RUN_FILES) as staged,
        stage_file(keywords.output, companions=companions) as file,
    ):
        if keywords.keras is None:
            result = export_run(staged.folder, output=file.path, options=options)
        else:
            result = export_keras(
                keywords.name(keywords.keras),
                network_description=keywords.describe(options),
                output=file.path,
                options=options,
            )
    return _rename(result, file) if is_bucket_location(keywords.output) else result


def _rename(result: ExportResult, file: StagedFile) -> ExportResult:
    """Name the files of a bucket as the user knows them."""
    return replace(
        result,
        path=file.name_of(result.path),
        report=None if result.report is None else file.name_of(result.report),
        signature=None if result.signature is None else file.name_of(result.signature),
    )


@take_fields(ParityKeywords)
def parity(keywords: ParityKeywords) -> ParityReport:
    """Compare the results of Keras and of ONNX files on images, as the command `parity` does.

        report = wetread.parity("run", "model.onnx", images="folder")
        report.passed, report.models[0].flips, report.trusted

    A model beyond its limits is a report that did not pass, not an error; `wetread.export.assert_parity`
    raises. `on_progress` is called with the number of images compared so far. Raises ExportError,
    ConfigError, SourceError and ModelError where there is nothing to compare.
    """
    with bill_project(keywords.project):
        with stage_folder(keywords.network, names=RUN_FILES) as staged:
            report = replace(_measure(keywords, staged.folder), reference=os.fspath(keywords.network))
        for path, write in ((keywords.json, write_report), (keywords.certificate, write_certificate)):
            if path is not None:
                with stage_file(path) as file:
                    write(report, file.path)
    return report


def _measure(keywords: ParityKeywords, network: str) -> ParityReport:
    """Compare a network, on this disk, with the models."""
    models, beside = keywords.models, (keywords.weights, keywords.custom, keywords.output_name)
    return measure_parity(
        network if beside == (None, None, None) else keywords.name(network),
        models=[models] if isinstance(models, str | os.PathLike) else models,
        images=keywords.images,
        tolerance=TOLERANCE if keywords.tolerance is None else keywords.tolerance,
        max_flips=keywords.max_flips,
        by_layer=keywords.by_layer,
        reference=keywords.reference,
        expected_labels=keywords.expected_labels,
        expected_scale=keywords.expected_scale,
        expected_resize=keywords.expected_resize,
        on_progress=keywords.on_progress,
    )
