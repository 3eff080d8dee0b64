"""`wetread report`."""

from __future__ import annotations

from typing import Annotated

import typer

from wetread.cli.app import app
from wetread.cli.options import DEFAULT_MEMORY, MaxMemory, ModelOptions, expand_options
from wetread.errors import OutputError, SourceError, UsageError


@app.command(
    short_help="Make a DICOM object of one image's score.",
    epilog="Example: wetread report image.dcm --format sr --output result.dcm",
)
@expand_options
def report(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="A DICOM image.")],
    *,
    kind: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="sr|sc",
            help="sr: a structured report (TID 1500). sc: a picture of where the model looked.",
        ),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="The object's file, usually in .dcm.")
    ],
    chosen: ModelOptions,
    max_memory: MaxMemory = DEFAULT_MEMORY,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing --output.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print problems only.")] = False,
) -> None:
    """Score one DICOM image and write the result as a DICOM object that an archive shows beside it."""
    import os

    from wetread.node.results.making import KINDS, make_result
    from wetread.runtime.files.atomic import replace_file
    from wetread.runtime.files.reading import read_local

    if kind not in KINDS:
        raise UsageError(f"--format takes {' or '.join(KINDS)}; {kind!r} is neither.")
    if os.path.exists(output) and not overwrite:
        raise OutputError(f"{output} exists. Replace it with --overwrite, or choose another --output.")
    if not os.path.isfile(image):
        raise SourceError(f"{image} is no file. Check the name.")
    data = read_local(image)
    made = make_result(chosen.load(quiet=quiet), data, kind=kind, path=image, max_memory=max_memory << 20)
    try:
        with replace_file(output) as staged:
            made.save_as(staged, enforce_file_format=True)
    except OSError as error:
        raise OutputError(
            f"{output} cannot be written: {error.strerror}. Choose another --output."
        ) from error
