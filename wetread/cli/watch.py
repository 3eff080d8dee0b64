"""`wetread watch`."""

from __future__ import annotations

import sys
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from wetread.cli.app import DEFAULT_MEMORY, MaxMemory, PublicKey, app

if TYPE_CHECKING:
    from collections.abc import Callable

    from wetread.runtime.scoring.run import Tally

_LINE_SECONDS = 30.0


@app.command(short_help="Score new files in a folder as they come.")
def watch(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="The folder in which files arrive.")],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help=".csv or .jsonl; rows are appended.")
    ],
    model: Annotated[
        str | None, typer.Option(metavar="MODEL.onnx", help="The model file; default: the packaged one.")
    ] = None,
    include: Annotated[
        str | None, typer.Option(metavar="GLOB", help="Only names that match, such as '*.dcm'.")
    ] = None,
    done: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Move files with a score here, once they have a row.")
    ] = None,
    failed: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Move files without a score here.")
    ] = None,
    poll: Annotated[
        float, typer.Option(metavar="S", help="Seconds between two looks at the folder; 0.05 or more.")
    ] = 1.0,
    settle: Annotated[
        float, typer.Option(metavar="S", help="Seconds for which a file must not change before it is read.")
    ] = 2.0,
    patience: Annotated[
        float, typer.Option(metavar="S", help="Seconds for one without a score: it may be a slow copy.")
    ] = 30.0,
    device: Annotated[
        str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, tensorrt, directml, openvino or coreml.")
    ] = "auto",
    public_key: PublicKey = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Threads; default: one for each processor.")
    ] = None,
    max_memory: MaxMemory = DEFAULT_MEMORY,
    uncertain: Annotated[
        bool, typer.Option("--uncertain", help="A column that says what is too near the threshold to call.")
    ] = False,
    dicom_tags: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="DICOM attributes as columns: SOPInstanceUID,StudyDate,..."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say only what is in the way.")] = False,
) -> None:
    """Score new files in FOLDER once each, when they are completely written, until stopped.

    Stop it with Ctrl-C or SIGTERM (exit code 130 or 143), or however the machine stops: started again, it
    goes on where it was, without a row lost or written twice.
    """
    from wetread.cli.score import catch_signals, split_names
    from wetread.runtime.model.packaged import choose_model, say_packaged
    from wetread.runtime.scoring.classifier import Classifier
    from wetread.runtime.watch.watcher import WatchOptions, watch_folder

    options = WatchOptions(
        folder=folder,
        output=output,
        include=include,
        done=done,
        failed=failed,
        poll=poll,
        settle=settle,
        patience=patience,
        workers=workers,
        max_memory=max_memory << 20,
        uncertain=uncertain,
        dicom_tags=split_names(dicom_tags),
    )
    if model is None and not quiet:
        _say(say_packaged())
    classifier = Classifier(choose_model(model), device=device, public_key=public_key)
    if not quiet:
        _say(f"watching {folder} on {classifier.device} -> {output}")
    with catch_signals() as caught:
        tally = watch_folder(
            classifier,
            options,
            stop=lambda: bool(caught),
            watch=None if quiet else _count_lines(),
            report=_say,
        )
    if not quiet:
        _say(f"stopped: {_describe(tally)}")
    raise typer.Exit(128 + caught[0])


def _count_lines() -> Callable[[Tally], None]:
    """A line every so often with what was scored: counts only, for names may be patients'."""
    last = monotonic() - _LINE_SECONDS

    def show(tally: Tally) -> None:
        nonlocal last
        if monotonic() - last >= _LINE_SECONDS:
            last = monotonic()
            _say(_describe(tally))

    return show


def _describe(tally: Tally) -> str:
    found = ", ".join(f"{count:,} {status}" for status, count in sorted(tally.counts.items()))
    return f"{tally.rows:,} files: {found}" if found else "no files"


def _say(text: str) -> None:
    print(f"wetread: {' '.join(text.split())}", file=sys.stderr, flush=True)
