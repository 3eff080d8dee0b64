"""`wetread explain`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from wetread.cli.app import app, open_output
from wetread.cli.options import DEFAULT_MEMORY, MaxMemory, ModelOptions, Overwrite, Project, expand_options
from wetread.errors import UsageError

if TYPE_CHECKING:
    from wetread.runtime.explain import Explanation
    from wetread.runtime.scoring.classifier import Classifier


_SHOWN = frozenset({"file", "patient"})


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
            "--format", metavar="png|json", help="png: the image beside its map; json: the map as numbers."
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
    show: Annotated[
        str,
        typer.Option(
            metavar="file,patient",
            help="Write these on the picture, too: the file's name; a DICOM image's patient. Both may name "
            "a patient.",
        ),
    ] = ""
    overwrite: Overwrite = False

    @property
    def shown(self) -> frozenset[str]:
        """`show`, word by word. Raises UsageError."""
        words = frozenset(word.strip() for word in self.show.split(",") if word.strip())
        if words - _SHOWN:
            raise UsageError(f"--show takes {' and '.join(sorted(_SHOWN))}, not {self.show!r}.")
        if words and self.format_ == "json":
            raise UsageError("--show is of a picture: it cannot be used with --format json.")
        return words


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
    the label, blue parts against it. The picture shows the image beside the tinted one, and says what, by
    which model, and when.
    """
    from wetread.errors import OutputError
    from wetread.runtime.explain import explain_image
    from wetread.runtime.gcs.billing import bill_project
    from wetread.runtime.gcs.bucket_folder import file_exists

    output, kind, shown = picture.output, picture.format_, picture.shown
    if kind not in ("png", "json"):
        raise UsageError(f"--format must be png or json, not {kind!r}.")
    if output is not None and not output.lower().endswith(f".{kind}"):
        raise UsageError(f"--output must end in .{kind} with --format {kind}, and is {output!r}.")
    if output is None and kind == "png":
        raise UsageError("Give --output FILE.png for a picture, or --format json to print the map.")
    with bill_project(project):
        if output is not None and not picture.overwrite and file_exists(output):
            raise OutputError(f"{output} already exists. Replace it with --overwrite.")
        classifier, data = chosen.load(quiet=False), _read(image)
        found = explain_image(
            classifier,
            data,
            label=picture.label,
            method=picture.method,
            max_memory=max_memory << 20,
        )
        if kind == "json":
            _write(_encode_numbers(found, image, classifier), output)
        else:
            _write(_draw(found, _identify(found, data, image, shown), classifier), output)


def _read(image: str) -> bytes:
    """The bytes of one file. Raises ImageError and SourceError."""
    from wetread.errors import SourceError
    from wetread.runtime.sources.opening import open_source

    source = open_source(image)
    entries = list(source.entries())
    if len(entries) != 1 or entries[0].name != image:
        raise SourceError(f"explain takes one image file, and {image!r} has {len(entries):,} inputs.")
    return source.read(entries[0])


def _encode_numbers(found: Explanation, image: str, classifier: Classifier) -> bytes:
    model = {"name": classifier.name, "sha256": classifier.digest}
    return (json.dumps({"image": image, "model": model, **found.to_dict()}) + "\n").encode()


def _draw(found: Explanation, identity: str, classifier: Classifier) -> bytes:
    from pathlib import Path

    from wetread.runtime.explanation_picture import draw_explanation, make_caption, make_metadata
    from wetread.runtime.images.png_text import encode_png

    name = Path(classifier.name).stem
    caption = make_caption(classifier.spec, model=name, digest=classifier.digest, identity=identity)
    return encode_png(draw_explanation(found, caption), make_metadata(found, caption))


def _identify(found: Explanation, data: bytes, image: str, shown: frozenset[str]) -> str:
    """Say which image it is: by its UID or digest, by what may name a patient only if that was asked for."""
    from hashlib import sha256

    from wetread.runtime.images.dicom.display import read_patient

    parts = [found.display.uid or f"SHA-256 {sha256(data).hexdigest()}"]
    if "file" in shown:
        parts.append(image)
    if "patient" in shown:
        parts.append(read_patient(data) or "no patient's name in it")
    return ", ".join(parts)


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
