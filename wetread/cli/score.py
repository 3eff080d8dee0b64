"""`wetread score`."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from wetread.cli.app import app, open_output
from wetread.cli.options import (
    DEFAULT_MEMORY,
    AllowEmpty,
    ColumnOptions,
    Include,
    MaxMemory,
    ModelOptions,
    Overwrite,
    Project,
    Quiet,
    Workers,
    expand_options,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wetread.runtime.scoring.run import ScoreOptions, Tally
    from wetread.runtime.shards.shard import Shard


@dataclass(frozen=True, kw_only=True)
class InputOptions:
    """The inputs to score."""

    panel: ClassVar[str] = "Input"

    sources: Annotated[
        list[str] | None, typer.Argument(metavar="SOURCE...", help="Files, folders or globs, local or gs://.")
    ] = None
    from_file: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Read input names from a file, one per line; '-' is stdin."),
    ] = None
    from_manifest: Annotated[
        str | None, typer.Option(metavar="M", help="Score the inputs of a manifest; see `wetread manifest`.")
    ] = None
    include: Include = None
    allow_empty: AllowEmpty = False


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Where the rows are written."""

    panel: ClassVar[str] = "Output"

    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The file to write: .csv, .jsonl or .parquet, local or gs://; default: CSV to stdout.",
        ),
    ] = None
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted output.")] = False
    overwrite: Overwrite = False


@dataclass(frozen=True, kw_only=True)
class WorkOptions:
    """Workers, batches and memory."""

    panel: ClassVar[str] = "Work"

    workers: Workers = None
    batch_size: Annotated[int, typer.Option(metavar="N", help="Images per batch in each worker.")] = 32
    max_memory: MaxMemory = DEFAULT_MEMORY


@dataclass(frozen=True, kw_only=True)
class ManyMachines:
    """How several machines share one job: a shard for each, or a Ray cluster."""

    panel: ClassVar[str] = "Cluster"

    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N", help="Score only shard I (0 to N-1) of N of a manifest; --output is a folder."
        ),
    ] = None
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="ray", help="Run all shards of a manifest on a Ray cluster; --output is a folder."
        ),
    ] = None
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Address of the Ray cluster; default: RAY_ADDRESS, or this machine."
        ),
    ] = None
    num_actors: Annotated[
        int | None, typer.Option(metavar="N", help="Number of Ray actors; default: as many as fit.")
    ] = None
    shards: Annotated[
        int | None,
        typer.Option(metavar="N", help="Number of shards with --engine; default: from the manifest's size."),
    ] = None

    def choose_shard(self) -> Shard | None:
        """Return the shard of --shard, or None. Raises UsageError for options that contradict each other."""
        from wetread.errors import UsageError

        if self.engine is None and (self.address, self.num_actors, self.shards) != (None, None, None):
            raise UsageError("--address, --num-actors and --shards need --engine ray.")
        if self.engine is not None and (self.engine != "ray" or self.shard is not None):
            raise UsageError("--engine must be ray, and cannot be used with --shard: it runs every shard.")
        if self.shard is None:
            return None
        from wetread.runtime.shards.shard import parse_shard

        return parse_shard(self.shard)


@app.command(
    short_help="Score files and folders of images.",
    epilog="Example: wetread score FOLDER --model model.onnx --output scores.csv",
)
@expand_options
def score(
    *,
    inputs: InputOptions,
    chosen: ModelOptions,
    place: OutputOptions,
    columns: ColumnOptions,
    work: WorkOptions,
    machines: ManyMachines,
    project: Project = None,
    quiet: Quiet = False,
) -> None:
    """Score every image under SOURCE: one row for each input, in order, even if it is broken or no image.

    Columns: path, status, label, probability, p_<label> for each label, error; then uncertain and DICOM
    attributes, if asked for, and scope and scope_reason, if the model has a scope. Exit code 0 when every
    input has a score, 3 when some have none.
    """
    from wetread.runtime.scoring.run import ScoreOptions

    options = ScoreOptions(
        **{**vars(inputs), "sources": tuple(inputs.sources or ())},
        **vars(place),
        **{**vars(work), "max_memory": work.max_memory << 20},
        project=project,
        uncertain=columns.uncertain,
        dicom_tags=columns.keywords,
        refuse_outside=columns.refuse_outside,
    )
    if options.output is None:
        open_output()  # fail before the model is loaded
    shard = machines.choose_shard()
    if machines.engine is not None:
        tally, number = _run_on_cluster(options, chosen, machines, quiet=quiet)
    else:
        tally, number = _run(options, chosen, shard, quiet=quiet)
    if tally.interrupted:
        _say_interrupted(options.output, in_shards=bool(machines.engine or shard))
        raise typer.Exit(128 + number)
    if not quiet:
        say_done(tally, options.output)
    raise typer.Exit(3 if tally.failed else 0)


def _run(
    options: ScoreOptions, chosen: ModelOptions, shard: Shard | None, *, quiet: bool
) -> tuple[Tally, int]:
    """Score; return the counts and the signal that ended the run, if any."""
    from wetread.cli.progress import show_progress
    from wetread.runtime.gcs.billing import bill_project
    from wetread.runtime.scoring.run import score_to_file, score_to_stream

    with bill_project(options.project):
        classifier = chosen.load(quiet=quiet)
    if chosen.device == "auto" and not quiet:
        print(f"wetread: running on {classifier.device}: {classifier.reason}", file=sys.stderr)
    # A shard's inputs are not counted beforehand: they are only a part of the manifest.
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


def _run_on_cluster(
    options: ScoreOptions, chosen: ModelOptions, machines: ManyMachines, *, quiet: bool
) -> tuple[Tally, int]:
    """Score every shard; return as `_run` does."""
    from wetread.cli.progress import show_progress
    from wetread.cluster.engine import ClusterOptions, score_on_cluster

    cluster = ClusterOptions(
        model=chosen.choose(quiet=quiet),
        device=chosen.device,
        public_key=chosen.public_key,
        address=machines.address,
        num_actors=machines.num_actors,
        shards=machines.shards,
    )
    with catch_signals(quiet=quiet) as caught, show_progress(options, quiet=quiet) as watch:
        tally = score_on_cluster(options, cluster, watch=watch, stop=_stop(caught))
    return tally, caught[0] if caught else 0


def _stop(caught: list[int]) -> Callable[[], bool]:
    return lambda: bool(caught)


@contextmanager
def catch_signals(*, quiet: bool = True) -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of ending the process; a second one ends it at once.

    Unless `quiet`, the first one prints a line: if a bucket does not answer, the current chunk takes minutes.
    """
    caught: list[int] = []

    def remember(number: int, _frame: object) -> None:
        if caught:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        caught.append(number)
        if not quiet:  # not through sys.stderr, whose write the signal may have interrupted
            os.write(2, b"wetread: stopping after the current images; interrupt again to stop at once\n")

    # SIGBREAK is Ctrl-Break: Windows sends it to a process that has no console of its own.
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
        words = "interrupted; what was scored is kept. Run the same command with --resume to continue "
        words += f"{output}."
    else:
        words = "interrupted"
    print(f"wetread: {words}", file=sys.stderr)


def say_done(tally: Tally, output: str | None) -> None:
    """Print a summary on standard error."""
    found = ", ".join(f"{count:,} {status}" for status, count in sorted(tally.counts.items()))
    if outside := tally.scope.get("outside"):
        found += f", {outside:,} outside the model's scope"
    resumed = f" ({tally.resumed:,} of an earlier run)" if tally.resumed else ""
    where = f" -> {output}" if output else ""
    print(f"wetread: {tally.rows:,} inputs{resumed}: {found or 'nothing to score'}{where}", file=sys.stderr)
