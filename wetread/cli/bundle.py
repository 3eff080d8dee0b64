"""`wetread bundle`."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from typing import Annotated, ClassVar

import typer

from wetread.cli.app import app
from wetread.cli.options import expand_options


@dataclass(frozen=True, kw_only=True)
class TargetOptions:
    """The machine that the bundle is for."""

    panel: ClassVar[str] = "Target"

    platform: Annotated[
        str,
        typer.Option(metavar="PLATFORM", help="Target: win_amd64, manylinux_x86_64 or manylinux_aarch64."),
    ]
    python: Annotated[str, typer.Option(metavar="3.X", help="Python version of the target machine.")] = "3.12"


@dataclass(frozen=True, kw_only=True)
class ContentOptions:
    """What goes into the bundle beside the model, and where its packages come from."""

    panel: ClassVar[str] = "Content"

    extras: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="EXTRA",
            help="Include an extra: dicom, node, parquet, review or sign; repeatable.",
        ),
    ] = None
    wheel: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="wetread's own wheel; default: built from the installed files."),
    ] = None
    python_archive: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Include this Python archive, for a machine without Python."),
    ] = None
    constraint: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Package versions, name==version; default: those installed here."),
    ] = None
    wheels: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Take all wheels from this folder, without a package index."),
    ] = None
    certificate: Annotated[
        str | None, typer.Option(metavar="FILE", help="Include a certificate that `wetread parity` wrote.")
    ] = None
    sign: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Sign the bundle, and its model if that is unsigned (PEM)."),
    ] = None


@app.command(
    short_help="Make one file that installs wetread and a model offline.",
    epilog="Example: wetread bundle model.onnx --output wetread-win.zip --platform win_amd64 --with dicom",
)
@expand_options
def bundle(
    *,
    model: Annotated[str, typer.Argument(metavar="MODEL.onnx", help="The model to put into the bundle.")],
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE.zip", help="The bundle to write.")],
    target: TargetOptions,
    content: ContentOptions,
) -> None:
    """Make one file that installs wetread and a model on a machine without a network.

    Prints the file's SHA-256, so that the receiver can check it.
    """
    from wetread.bundle.build import BundleOptions, build_bundle

    values = asdict(content) | {"extras": tuple(content.extras or ())}
    options = BundleOptions(model=model, output=output, **asdict(target), **values)
    made = build_bundle(options, report=lambda text: print(f"wetread: {text}", file=sys.stderr))
    for one in made.wheels:
        print(f"{one.name} {one.version}")
    if content.sign is not None:
        from wetread.bundle.signing import describe_signer

        print(f"signed by {describe_signer(content.sign)}")
    print(f"{made.size:,} bytes\nsha256 {made.sha256}  {made.path}")
