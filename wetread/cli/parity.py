"""`wetread parity`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated, ClassVar

import typer

import wetread
from wetread.cli.app import app
from wetread.cli.options import Project, SourceOptions, expand_options


@dataclass(frozen=True, kw_only=True)
class OwnerOptions:
    """What the network's owner knows of it, which neither file says."""

    panel: ClassVar[str] = "The owner's way"

    reference: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Compare with what its owner does: keras:load_img,nearest, keras:dataset,crop, "
            "tf:resize,antialias, ..., or module:function, which takes a path and is run.",
        ),
    ] = None
    expected_labels: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="The labels that the files must have, in order.")
    ] = None
    expected_scale: Annotated[
        str | None, typer.Option(metavar="X[,X,X]", help="The factor on pixels that the files must have.")
    ] = None
    expected_resize: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="How the files must resize: stretch, fit, crop, a kernel, keras:dataset, ..."
        ),
    ] = None

    @property
    def labels(self) -> tuple[str, ...] | None:
        """`expected_labels`, split at the commas."""
        if self.expected_labels is None:
            return None
        return tuple(label.strip() for label in self.expected_labels.split(","))

    @property
    def scale(self) -> tuple[float, ...] | None:
        """`expected_scale` in numbers. Raises UsageError."""
        from wetread.errors import UsageError

        if self.expected_scale is None:
            return None
        try:
            return tuple(float(part) for part in self.expected_scale.split(","))
        except ValueError as error:
            raise UsageError(
                f"--expected-scale must be numbers with commas, not {self.expected_scale!r}."
            ) from error


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """What is written of the comparison, and how much of the network it covers."""

    panel: ClassVar[str] = "Report"

    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write the whole report as JSON.")
    ] = None
    certificate: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write a certificate: .json, .txt or .html.")
    ] = None
    layers: Annotated[
        bool, typer.Option("--by-layer", help="Also compare every layer and name the first that differs.")
    ] = False


@app.command(
    short_help="Compare Keras with ONNX files on images.",
    epilog="Example: wetread parity run model.onnx --images FOLDER",
)
@expand_options
def parity(
    network: Annotated[
        str,
        typer.Argument(
            metavar="RUN|NETWORK", help="The Keras network to compare with: a RUN, or as `export --keras`."
        ),
    ],
    models: Annotated[list[str], typer.Argument(metavar="MODEL.onnx...", help="The ONNX files to check.")],
    *,
    images: Annotated[
        list[str],
        typer.Option(
            "--images", metavar="FOLDER", help="Images to compare on: files, folders or globs; repeatable."
        ),
    ],
    tolerance: Annotated[
        float | None,
        typer.Option(metavar="X", help="float32: largest difference of a probability; default: 0.0001."),
    ] = None,
    max_flips: Annotated[
        float, typer.Option(metavar="X", help="int8, float16: largest fraction of labels that may change.")
    ] = 0.005,
    reporting: ReportOptions,
    owner: OwnerOptions,
    source: SourceOptions,
    project: Project = None,
) -> None:
    """Compare the results of Keras and of ONNX files on images; exit code 1 beyond the tolerance.

    Both use the pixels that wetread makes, unless --reference says how the network's owner makes them. What
    only the files themselves say is printed.
    """
    from wetread.cli.tables import print_table
    from wetread.export.owner_pipeline import is_own_code
    from wetread.export.report import describe_report, tabulate_layers

    if owner.reference is not None and is_own_code(owner.reference):
        print(f"wetread: running your own code, {owner.reference}", file=sys.stderr, flush=True)
    report = wetread.parity(
        network,
        models,
        images=images,
        tolerance=tolerance,
        max_flips=max_flips,
        json=reporting.json_file,
        certificate=reporting.certificate,
        by_layer=reporting.layers,
        reference=owner.reference,
        expected_labels=owner.labels,
        expected_scale=owner.scale,
        expected_resize=owner.expected_resize,
        **vars(source),
        project=project,
    )
    if reporting.layers:
        header, *rows = tabulate_layers(report)
        print_table(header, rows)
        print()
    print(describe_report(report))
    raise typer.Exit(0 if report.passed else 1)
