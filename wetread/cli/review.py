"""`wetread review`."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from typing import Annotated, ClassVar

import typer

from wetread.cli.app import app
from wetread.cli.options import DEFAULT_MEMORY, MaxMemory, Project, expand_options


@dataclass(frozen=True, kw_only=True)
class LookingOptions:
    """The scores and their images."""

    panel: ClassVar[str] = "Input"

    scores: Annotated[
        str,
        typer.Argument(metavar="SCORES", help="A file by score, watch or merge; it may still be growing."),
    ]
    images: Annotated[
        str | None,
        typer.Option(metavar="ROOT", help="Where the scored folder is now, if it was moved."),
    ] = None
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL.onnx",
            help="The model that made the scores, if it is not found: for heat maps.",
        ),
    ] = None
    group_regex: Annotated[
        str | None,
        typer.Option(
            metavar="RE", help="Regular expression that finds the patient or another group in a name."
        ),
    ] = None
    names: Annotated[
        bool, typer.Option("--names", help="Show columns that identify a patient (PatientName, ...).")
    ] = False


@dataclass(frozen=True, kw_only=True)
class ReaderOptions:
    """The reader, the kind of study, and the output."""

    panel: ClassVar[str] = "Reading"

    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", metavar="FILE.csv", help="Write the reviews here; one file for each reader."
        ),
    ] = "reviews.csv"
    reader: Annotated[
        str | None, typer.Option(metavar="NAME", help="The reader's name; default: your login name.")
    ] = None
    blind: Annotated[
        bool, typer.Option("--blind", help="Reader study: hide the model's answers, and sort at random.")
    ] = False
    seed: Annotated[int, typer.Option(metavar="N", help="With --blind: random seed of the order.")] = 0


@dataclass(frozen=True, kw_only=True)
class PageOptions:
    """Where the page is served."""

    panel: ClassVar[str] = "Page"

    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="The port on 127.0.0.1; default: a free one.")
    ] = 0
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address, and do not open a browser.")
    ] = False


@app.command(
    short_help="Review results in a browser.",
    epilog="Example: wetread review scores.csv --reader Kim",
)
@expand_options
def review(
    *,
    looking: LookingOptions,
    reading: ReaderOptions,
    page: PageOptions,
    max_memory: MaxMemory = DEFAULT_MEMORY,
    project: Project = None,
) -> None:
    """Review results in a browser on this machine; your reviews are written to reviews.csv.

    The page is on 127.0.0.1 only, for the browser that opens the printed address. Stop it with Ctrl-C.
    """
    from wetread.review.options import RoomOptions
    from wetread.review.serving import serve_review
    from wetread.runtime.gcs.billing import bill_project

    options = RoomOptions(
        **vars(looking),
        output=reading.output,
        reader=reading.reader or find_login(),
        blind=reading.blind,
        seed=reading.seed,
        max_memory=max_memory << 20,
        project=project,
    )
    with bill_project(project):
        serve_review(
            options,
            port=page.port,
            browser=not page.no_browser,
            report=lambda address: print(address, flush=True),
        )


def find_login() -> str:
    """Return the login name; 'reader' if the system has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "reader"
