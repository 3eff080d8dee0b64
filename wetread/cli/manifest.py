"""`wetread manifest`."""

from __future__ import annotations

import sys
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from wetread.cli.app import app
from wetread.cli.options import AllowEmpty, Include, Overwrite, Project, Quiet

if TYPE_CHECKING:
    from collections.abc import Callable

_LINE_SECONDS = 30.0


@app.command(
    short_help="List inputs once, for many machines.",
    epilog="Example: wetread manifest FOLDER --output images.manifest",
)
def manifest(
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE...", help="Files, folders or globs, local or gs://.")
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="The manifest to write, local or gs://.")
    ],
    include: Include = None,
    allow_empty: AllowEmpty = False,
    checksum: Annotated[
        bool,
        typer.Option(
            "--checksum", help="Read local files to compute their crc32c; gs:// objects already have one."
        ),
    ] = False,
    overwrite: Overwrite = False,
    project: Project = None,
    quiet: Quiet = False,
) -> None:
    """List the inputs under SOURCE, in order, with sizes, versions and checksums, in one file.

    `wetread score --from-manifest` scores that list, whole or in shards. An input that has changed since gets
    a row that says so, and no score.
    """
    from wetread.runtime.sources.manifest_writing import ManifestOptions, make_manifest

    options = ManifestOptions(
        sources=tuple(sources),
        output=output,
        include=include,
        allow_empty=allow_empty,
        checksum=checksum,
        overwrite=overwrite,
        project=project,
    )
    made = make_manifest(options, watch=None if quiet else _count_lines())
    if not quiet:
        _say(f"{made.names:,} inputs, digest {made.digest} -> {output}")


def _count_lines() -> Callable[[int], None]:
    last = monotonic()

    def show(names: int) -> None:
        nonlocal last
        if monotonic() - last >= _LINE_SECONDS:
            last = monotonic()
            _say(f"{names:,} inputs so far")

    return show


def _say(text: str) -> None:
    print(f"wetread: {text}", file=sys.stderr, flush=True)
