"""`wetread explain`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from wetread.cli.app import app, open_output
from wetread.cli.options import DEFAULT_MEMORY, MaxMemory, ModelOptions, Overwrite, Project, expand_options

if TYPE_CHECKING:
    from wetread.runtime.explain import Explanation
    from wetread.runtime.scoring.classifier import Classifier


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """What is explained, how, and where the picture goes."""

    panel: ClassVar[str] = "Output"

    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="The picture; JSON goes to stdout without it."),
    ] = None
    format_: Annotated[
        str, typer.Option("--format", metavar="png|json", help="An overlay, or the raw map.")
    ] = "png"
    method: Annotated[
        str, typer.Option(metavar="occlusion|cam", help="cam: class activation, of a model exported with it.")
    ] = "occlusion"
    label: Annotated[
        str | None, typer.Option(metavar="LABEL", help="The label to explain; default: the one it gets.")
    ] = None
    overwrite: Overwrite = False


@app.command(
    short_help="Show where a model looked.",
    epilog="Example: wetread explain xray.jpeg --output where.png",
)
@expand_options
def explain(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="One image file; gs:// too.")],
    *,
    chosen: ModelOptions,
    picture: PictureOptions,
    max_memory: MaxMemory = DEFAULT_MEMORY,
    project: Project = None,
) -> None:
    """Show where a model looked: hide each place in turn and see how far the label's log-odds fall.

    Or, by --method cam, what the network would say if the whole image looked like each place. Red speaks
    for the label, blue against it, over the original at its full size.
    """
    from wetread.errors import OutputError, UsageError
    from wetread.runtime.explain import explain_image
    from wetread.runtime.gcs.billing import bill_project
    from wetread.runtime.gcs.mirror import file_exists

    output, kind = picture.output, picture.format_
    if kind not in ("png", "json"):
        raise UsageError(f"Expected --format png or json. Received {kind!r}.")
    if output is not None and not output.lower().endswith(f".{kind}"):
        raise UsageError(f"Expected an --output that ends in .{kind}. Received {output!r}.")
    if output is None and kind == "png":
        raise UsageError("Expected --output PNG, or --format json. Received neither.")
    with bill_project(project):
        if output is not None and not picture.overwrite and file_exists(output):
            raise OutputError(f"Expected a new --output. Received {output}. Replace it by --overwrite.")
        classifier = chosen.load(quiet=False)
        found = explain_image(
            classifier,
            _read(image),
            label=picture.label,
            method=picture.method,
            max_memory=max_memory << 20,
        )
        _write(_encode(found, image, classifier, kind), output)


def _read(image: str) -> bytes:
    """The bytes of one file. Raises ImageError and SourceError."""
    from wetread.errors import SourceError
    from wetread.runtime.sources.opening import open_source

    source = open_source(image)
    entries = list(source.entries())
    if len(entries) != 1 or entries[0].name != image:
        raise SourceError(f"Expected one image file. Received {image!r}, with {len(entries):,} inputs.")
    return source.read(entries[0])


def _encode(found: Explanation, image: str, classifier: Classifier, format_: str) -> bytes:
    from wetread.runtime.overlay import draw_explanation, encode_png

    if format_ == "png":
        return encode_png(draw_explanation(found))
    model = {"name": classifier.name, "sha256": classifier.digest}
    return (json.dumps({"image": image, "model": model, **found.to_dict()}) + "\n").encode()


def _write(data: bytes, output: str | None) -> None:
    from wetread.errors import OutputError
    from wetread.runtime.files.atomic import write_file
    from wetread.runtime.gcs.mirror import stage_file

    if output is None:
        open_output().write(data)
        return
    try:
        with stage_file(output) as file:
            write_file(file.path, data)
    except OSError as error:
        raise OutputError(
            f"Expected to write {output}. Received: {error.strerror}. Choose another --output."
        ) from error
