"""`wetread parity`."""

from __future__ import annotations

from typing import Annotated

import typer

from wetread.cli.app import app
from wetread.cli.options import Project, SourceOptions, expand_options


@app.command(
    short_help="Compare Keras with ONNX files on images.",
    epilog="Example: wetread parity run model.onnx --images FOLDER",
)
@expand_options
def parity(
    reference: Annotated[
        str,
        typer.Argument(metavar="RUN|NETWORK", help="The network in Keras: a RUN, or as `export --keras`."),
    ],
    models: Annotated[list[str], typer.Argument(metavar="MODEL.onnx...", help="The files to compare.")],
    *,
    images: Annotated[
        list[str],
        typer.Option("--images", metavar="FOLDER", help="Image files, folders or globs; repeatable."),
    ],
    tolerance: Annotated[
        float | None,
        typer.Option(metavar="X", help="float32: largest difference of a probability; default 0.0001."),
    ] = None,
    max_flips: Annotated[
        float, typer.Option(metavar="X", help="int8, float16: largest fraction of labels that may change.")
    ] = 0.005,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write all of it as JSON.")
    ] = None,
    certificate: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write a certificate: .json, .txt or .html.")
    ] = None,
    layers: Annotated[
        bool, typer.Option("--by-layer", help="Compare every layer; name the first that differs.")
    ] = False,
    source: SourceOptions,
    project: Project = None,
) -> None:
    """Compare Keras with ONNX files on image files; exit 1 when a tolerance is broken."""
    from dataclasses import replace

    from wetread.cli.tables import print_table
    from wetread.export.certificate import check_name, write_certificate
    from wetread.export.parity import describe_report, measure_parity
    from wetread.export.report import check_folder, tabulate_layers, write_report
    from wetread.export.tolerance import TOLERANCE
    from wetread.runtime.gcs.billing import bill_project
    from wetread.runtime.gcs.mirror import RUN_FILES, stage_file, stage_folder

    if json_file is not None:
        check_folder(json_file)
    if certificate is not None:
        check_name(certificate)
    with bill_project(project), stage_folder(reference, names=RUN_FILES) as staged:
        report = measure_parity(
            source.make(staged.folder) if source != SourceOptions() else staged.folder,
            models=models,
            images=images,
            tolerance=TOLERANCE if tolerance is None else tolerance,
            max_flips=max_flips,
            by_layer=layers,
        )
    report = replace(report, reference=reference)
    if layers:
        header, *rows = tabulate_layers(report)
        print_table(header, rows)
        print()
    print(describe_report(report))
    if json_file is not None:
        with stage_file(json_file, project=project) as file:
            write_report(report, file.path)
    if certificate is not None:
        with stage_file(certificate, project=project) as file:
            write_certificate(report, file.path)
    raise typer.Exit(0 if report.passed else 1)
