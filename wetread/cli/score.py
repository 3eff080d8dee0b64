"""`wetread score`."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from wetread.cli.app import DEFAULT_MEMORY, MaxMemory, Project, PublicKey, app, open_output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wetread.cluster.engine import ClusterOptions
    from wetread.runtime.scoring.classifier import Classifier
    from wetread.runtime.scoring.run import ScoreOptions, Tally
    from wetread.runtime.shards.shard import Shard


@app.command(short_help="Score files and folders of images.")
def score(
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="SOURCE...", help="Files, folders or globs; gs:// too.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL.onnx", help="The model file; default: the packaged one.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help=".csv, .jsonl or .parquet; default: CSV to stdout."
        ),
    ] = None,
    from_file: Annotated[
        str | None, typer.Option(metavar="LIST", help="Read the names from a file, one a line; '-': stdin.")
    ] = None,
    from_manifest: Annotated[
        str | None, typer.Option(metavar="M", help="Score what a manifest lists; see `wetread manifest`.")
    ] = None,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Only slice I (0 to N-1) of N; --output is a folder.")
    ] = None,
    include: Annotated[
        str | None, typer.Option(metavar="GLOB", help="Only names that match, such as '*.jpeg'.")
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, tensorrt, directml, openvino or coreml.")
    ] = "auto",
    public_key: PublicKey = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Threads; default: one for each processor.")
    ] = None,
    batch_size: Annotated[int, typer.Option(metavar="N", help="Images at a time in each worker.")] = 32,
    max_memory: MaxMemory = DEFAULT_MEMORY,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted output.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
    project: Project = None,
    uncertain: Annotated[
        bool, typer.Option("--uncertain", help="A column that says what is too near the threshold to call.")
    ] = False,
    dicom_tags: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="DICOM attributes as columns: SOPInstanceUID,StudyDate,..."),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(metavar="ray", help="Run all shards of a manifest on a cluster; --output is a folder."),
    ] = None,
    address: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="The Ray cluster; default: RAY_ADDRESS, or here.")
    ] = None,
    num_actors: Annotated[
        int | None, typer.Option(metavar="N", help="Actors, a session each; default: as many as fit.")
    ] = None,
    shards: Annotated[
        int | None, typer.Option(metavar="N", help="Shards to run on the engine; default: by the manifest.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")] = False,
) -> None:
    """Score every image under SOURCE: one row for each input, in order, whatever the input is.

    Columns: path, status, label, probability, p_<label> for each label, error, then uncertain and those of
    --dicom-tags, where asked for. Exit code 0 when every input has a score, 3 when some have none.
    """
    from wetread.runtime.gcs.billing import bill_project
    from wetread.runtime.scoring.run import ScoreOptions

    options = ScoreOptions(
        sources=tuple(sources or ()),
        from_file=from_file,
        from_manifest=from_manifest,
        include=include,
        output=output,
        workers=workers,
        batch_size=batch_size,
        max_memory=max_memory << 20,
        resume=resume,
        overwrite=overwrite,
        project=project,
        uncertain=uncertain,
        dicom_tags=split_names(dicom_tags),
    )
    if output is None:
        open_output()  # or nothing is loaded
    chosen = _choose_shard(shard, engine, for_engine=(address, num_actors, shards) != (None, None, None))
    if engine is not None:
        from wetread.cluster.engine import ClusterOptions

        cluster = ClusterOptions(
            model=_choose_model(model, quiet=quiet),
            device=device,
            public_key=public_key,
            address=address,
            num_actors=num_actors,
            shards=shards,
        )
        tally, number = _run_on_cluster(options, cluster, quiet=quiet)
    else:
        with bill_project(project):
            named = _choose_model(model, quiet=quiet)
            classifier = _open_model(named, device, public_key, quiet=quiet)
        tally, number = _run(options, classifier, chosen, quiet=quiet)
    if tally.interrupted:
        _say_interrupted(output, in_shards=bool(engine or chosen))
        raise typer.Exit(128 + number)
    if not quiet:
        say_done(tally, output)
    raise typer.Exit(3 if tally.failed else 0)


def split_names(text: str | None) -> tuple[str, ...]:
    """The names in a list with commas."""
    return tuple(name.strip() for name in text.split(",")) if text else ()


def _choose_shard(shard: str | None, engine: str | None, *, for_engine: bool) -> Shard | None:
    """Read the shard that was asked for, if one was. Raises UsageError for what does not go together."""
    from wetread.errors import UsageError

    if engine is None and for_engine:
        raise UsageError(
            "Expected --engine ray with --address, --num-actors and --shards. Received no engine."
        )
    if engine is not None and (engine != "ray" or shard is not None):
        raise UsageError("Expected --engine ray, which runs every shard, without --shard. Received another.")
    if shard is None:
        return None
    from wetread.runtime.shards.shard import parse_shard

    return parse_shard(shard)


def _run(
    options: ScoreOptions, classifier: Classifier, shard: Shard | None, *, quiet: bool
) -> tuple[Tally, int]:
    """Score; return what was done and the signal that ended it, if any."""
    from wetread.cli.progress import show_progress
    from wetread.runtime.scoring.run import score_to_file, score_to_stream

    # Nobody counts a shard's inputs beforehand: they are a part of what the options name.
    counted = None if shard else options
    with catch_signals(quiet=quiet) as caught, show_progress(counted, quiet=quiet) as watch:
        stop = _stop(caught)
        if shard is not None:
            from wetread.runtime.shards.shard import ShardScorer

            tally = ShardScorer(classifier, options).score(shard, watch=watch, stop=stop)
        elif options.output is not None:
            tally = score_to_file(classifier, options, watch=watch, stop=stop)
        else:
            tally = score_to_stream(classifier, options, open_output(), watch=watch, stop=stop)
    return tally, caught[0] if caught else 0


def _run_on_cluster(options: ScoreOptions, cluster: ClusterOptions, *, quiet: bool) -> tuple[Tally, int]:
    """Score every shard; return as `_run` does."""
    from wetread.cli.progress import show_progress
    from wetread.cluster.engine import score_on_cluster

    with catch_signals(quiet=quiet) as caught, show_progress(options, quiet=quiet) as watch:
        tally = score_on_cluster(options, cluster, watch=watch, stop=_stop(caught))
    return tally, caught[0] if caught else 0


def _stop(caught: list[int]) -> Callable[[], bool]:
    return lambda: bool(caught)


def _choose_model(model: str | None, *, quiet: bool) -> str:
    """The model that was named, or the packaged one, saying so."""
    from wetread.runtime.model.packaged import choose_model, say_packaged

    if model is None and not quiet:
        print(f"wetread: {say_packaged()}", file=sys.stderr)
    return choose_model(model)


def _open_model(model: str, device: str, public_key: str | None, *, quiet: bool) -> Classifier:
    from wetread.runtime.scoring.classifier import Classifier

    classifier = Classifier(model, device=device, public_key=public_key)
    if device == "auto" and not quiet:
        print(f"wetread: running on {classifier.device}: {classifier.reason}", file=sys.stderr)
    return classifier


@contextmanager
def catch_signals(*, quiet: bool = True) -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying from them; a second one ends the process at once.

    Unless `quiet`, the first says so: where a bucket does not answer, what is at hand takes minutes.
    """
    caught: list[int] = []

    def remember(number: int, _frame: object) -> None:
        if caught:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        caught.append(number)
        if not quiet:  # not through the stream, which the signal may have interrupted
            os.write(2, b"wetread: ending after the images at hand; once more to end at once\n")

    # SIGBREAK is Ctrl-Break, by which Windows asks what has no console of its own.
    names = ("SIGINT", "SIGTERM", "SIGBREAK")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, remember) for number in numbers}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say_interrupted(output: str | None, *, in_shards: bool) -> None:
    if in_shards:
        words = "interrupted; finished shards are kept. Run the same command again."
    elif output:
        words = "interrupted; what was scored is kept. Run the same command with --resume to go on with "
        words += f"{output}."
    else:
        words = "interrupted"
    print(f"wetread: {words}", file=sys.stderr)


def say_done(tally: Tally, output: str | None) -> None:
    """Tell on standard error what was done."""
    found = ", ".join(f"{count:,} {status}" for status, count in sorted(tally.counts.items()))
    resumed = f" ({tally.resumed:,} of an earlier run)" if tally.resumed else ""
    where = f" -> {output}" if output else ""
    print(f"wetread: {tally.rows:,} inputs{resumed}: {found or 'nothing to score'}{where}", file=sys.stderr)
