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
    """What is looked at."""

    panel: ClassVar[str] = "Input"

    scores: Annotated[
        str, typer.Argument(metavar="SCORES", help="What score, watch or merge wrote; it may still grow.")
    ]
    images: Annotated[
        str | None,
        typer.Option(metavar="ROOT", help="Where the scored folder is now, if it is elsewhere."),
    ] = None
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", metavar="MODEL.onnx", help="The model that scored, for heat maps, if not found."
        ),
    ] = None
    group_regex: Annotated[
        str | None, typer.Option(metavar="RE", help="What finds the patient in a file's name.")
    ] = None
    names: Annotated[
        bool, typer.Option("--names", help="Show columns that say who a patient is (PatientName, ...).")
    ] = False


@dataclass(frozen=True, kw_only=True)
class ReaderOptions:
    """Who reads, how, and where it goes."""

    panel: ClassVar[str] = "Reading"

    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE.csv", help="What the reader said; a file a reader.")
    ] = "reviews.csv"
    reader: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who reads; default: the name you are logged in by.")
    ] = None
    blind: Annotated[
        bool, typer.Option("--blind", help="A reader study: hide the model's answers, in a random order.")
    ] = False
    seed: Annotated[int, typer.Option(metavar="N", help="The seed of that order.")] = 0


@dataclass(frozen=True, kw_only=True)
class PageOptions:
    """Where the page is."""

    panel: ClassVar[str] = "Page"

    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="The port on 127.0.0.1; default: any free one.")
    ] = 0
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address only; open no browser.")
    ] = False


@app.command(
    short_help="Look at results in a browser, and say what is right.",
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
    """Look at results in a browser on this machine, and say what is right: reviews.csv is what you said.

    The page is on 127.0.0.1 alone, for the browser that opens the printed address. Stop it with Ctrl-C.
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
    """The name of who is logged in; 'reader' where the system knows none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "reader"
