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
    """What is explained, how, and where the picture is written."""

    panel: ClassVar[str] = "Output"

    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The picture to write; JSON is printed without it."
        ),
    ] = None
    format_: Annotated[
        str,
        typer.Option(
            "--format", metavar="png|json", help="png: an overlay on the image; json: the map as numbers."
        ),
    ] = "png"
    method: Annotated[
        str,
        typer.Option(
            metavar="occlusion|cam",
            help="cam: class activation map; the model needs --with-activation at export.",
        ),
    ] = "occlusion"
    label: Annotated[
        str | None, typer.Option(metavar="LABEL", help="The label to explain; default: the predicted one.")
    ] = None
    overwrite: Overwrite = False


@app.command(
    short_help="Show which parts of an image decided.",
    epilog="Example: wetread explain xray.jpeg --output where.png",
)
@expand_options
def explain(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="One image file, local or gs://.")],
    *,
    chosen: ModelOptions,
    picture: PictureOptions,
    max_memory: MaxMemory = DEFAULT_MEMORY,
    project: Project = None,
) -> None:
    """Show which parts of an image decided: cover each part in turn and measure the fall of the log-odds.

    With --method cam: a class activation map, which needs only one run of the network. Red parts speak for
    the label, blue parts against it. The map is drawn over the image at its full size.
    """
    from wetread.errors import OutputError, UsageError
    from wetread.runtime.explain import explain_image
    from wetread.runtime.gcs.billing import bill_project
    from wetread.runtime.gcs.bucket_folder import file_exists

    output, kind = picture.output, picture.format_
    if kind not in ("png", "json"):
        raise UsageError(f"--format must be png or json, not {kind!r}.")
    if output is not None and not output.lower().endswith(f".{kind}"):
        raise UsageError(f"--output must end in .{kind} with --format {kind}, and is {output!r}.")
    if output is None and kind == "png":
        raise UsageError("Give --output FILE.png for a picture, or --format json to print the map.")
    with bill_project(project):
        if output is not None and not picture.overwrite and file_exists(output):
            raise OutputError(f"{output} already exists. Replace it with --overwrite.")
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
        raise SourceError(f"explain takes one image file, and {image!r} has {len(entries):,} inputs.")
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
    from wetread.runtime.gcs.bucket_folder import stage_file

    if output is None:
        open_output().write(data)
        return
    try:
        with stage_file(output) as file:
            write_file(file.path, data)
    except OSError as error:
        raise OutputError(
            f"{output} cannot be written: {error.strerror}. Choose another --output."
        ) from error
