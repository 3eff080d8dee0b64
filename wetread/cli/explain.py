"""`wetread explain`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wetread.cli.app import DEFAULT_MEMORY, MaxMemory, Project, PublicKey, app, open_output

if TYPE_CHECKING:
    from wetread.runtime.explain import Explanation
    from wetread.runtime.scoring.classifier import Classifier


@app.command(short_help="Show where a model looked.")
def explain(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="One image file; gs:// too.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", metavar="MODEL.onnx", help="The model file; default: the packaged one."
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="The picture; JSON goes to stdout without it."),
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", metavar="png|json", help="An overlay, or the raw map.")
    ] = "png",
    method: Annotated[
        str, typer.Option(metavar="occlusion|cam", help="cam: class activation, of a model exported with it.")
    ] = "occlusion",
    label: Annotated[
        str | None, typer.Option(metavar="LABEL", help="The label to explain; default: the one it gets.")
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, tensorrt, directml, openvino or coreml.")
    ] = "auto",
    public_key: PublicKey = None,
    max_memory: MaxMemory = DEFAULT_MEMORY,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
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
    from wetread.runtime.model.packaged import choose_model, say_packaged
    from wetread.runtime.scoring.classifier import Classifier

    if format_ not in ("png", "json"):
        raise UsageError(f"Expected --format png or json. Received {format_!r}.")
    if output is not None and not output.lower().endswith(f".{format_}"):
        raise UsageError(f"Expected an --output that ends in .{format_}. Received {output!r}.")
    if output is None and format_ == "png":
        raise UsageError("Expected --output PNG, or --format json. Received neither.")
    if model is None:
        print(f"wetread: {say_packaged()}", file=sys.stderr)
    with bill_project(project):
        if output is not None and not overwrite and file_exists(output):
            raise OutputError(f"Expected a new --output. Received {output}. Replace it by --overwrite.")
        classifier = Classifier(choose_model(model), device=device, public_key=public_key)
        found = explain_image(
            classifier, _read(image), label=label, method=method, max_memory=max_memory << 20
        )
        _write(_encode(found, image, classifier, format_), output)


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
    from wetread.runtime.gcs.mirror import stage_file

    if output is None:
        open_output().write(data)
        return
    try:
        with stage_file(output) as file:
            Path(file.path).write_bytes(data)
    except OSError as error:
        raise OutputError(
            f"Expected to write {output}. Received: {error.strerror}. Choose another --output."
        ) from error
