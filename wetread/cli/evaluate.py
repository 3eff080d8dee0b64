"""`wetread evaluate`."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

import wetread
from wetread.cli.app import app
from wetread.cli.options import ModelOptions, Project, Workers, expand_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wetread.evaluate.evaluation import Evaluation


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """The images, and how they are evaluated."""

    panel: ClassVar[str] = "Data"

    data: Annotated[
        str | None,
        typer.Argument(metavar="DATA", help="Labelled images, DATA/<label>/*, with the model's labels."),
    ] = None
    split: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Use only the folder DATA/NAME; with --run, only that split of the run."
        ),
    ] = None
    run: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="The run that trained the model; its split and curves are used."),
    ] = None
    group_regex: Annotated[
        str | None,
        typer.Option(
            metavar="RE", help="Regular expression that finds the patient or another group in a name."
        ),
    ] = None
    resamples: Annotated[
        int,
        typer.Option(metavar="N", help="Bootstrap samples of patients or groups for the intervals; 0: none."),
    ] = 2000
    seed: Annotated[int, typer.Option(metavar="N", help="Random seed of the bootstrap samples.")] = 0
    workers: Workers = None


@dataclass(frozen=True, kw_only=True)
class ReviewOptions:
    """Readers' labels, in place of DATA."""

    panel: ClassVar[str] = "Data"

    reviews: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.csv", help="Judge by readers' labels (of wetread review) instead of DATA."
        ),
    ] = None
    scores: Annotated[
        str | None, typer.Option(metavar="FILE", help="With --reviews: the scores file that was reviewed.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Where the report is written."""

    panel: ClassVar[str] = "Output"

    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Write metrics.json, predictions.csv and report.html here; default: print only.",
        ),
    ] = None
    thumbnails: Annotated[
        bool, typer.Option("--thumbnails", help="Include images in report.html: they may show patients.")
    ] = False
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files in DIR.")] = False


@app.command(
    short_help="Evaluate a model on labelled folders.",
    epilog="Example: wetread evaluate DATA --model model.onnx --output report",
)
@expand_options
def evaluate(
    *,
    judging: JudgeOptions,
    reviewed: ReviewOptions,
    chosen: ModelOptions,
    compare: Annotated[
        str | None, typer.Option(metavar="OTHER.onnx", help="Compare with a second model on the same images.")
    ] = None,
    written: ReportOptions,
    project: Project = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not print progress.")] = False,
) -> None:
    """Evaluate a model on labelled folders: metrics with 95% intervals by patient or group, and a report.

    Or evaluate by readers' labels: --reviews reviews.csv --scores scores.csv. Each label is weighted by how
    many scored images it stands for.

    TensorFlow is not needed. Exit code 0 when every image has a score, 3 when some have none.
    """
    from wetread.errors import UsageError

    if reviewed.reviews is not None or reviewed.scores is not None:
        raise typer.Exit(
            _judge_by_readers(judging, reviewed, chosen, written, compare=compare, project=project)
        )
    if judging.data is None:
        raise UsageError("There is nothing to evaluate. Give DATA, or --reviews and --scores.")
    with show_count(quiet=quiet) as on_progress:
        evaluation = wetread.evaluate(
            **vars(judging),
            model=chosen.choose(quiet=quiet),
            device=chosen.device,
            public_key=chosen.public_key,
            compare=compare,
            **vars(written),
            project=project,
            on_progress=on_progress,
        )
    _print_evaluation(evaluation, written.output)
    raise typer.Exit(3 if evaluation.unscored else 0)


def _judge_by_readers(
    judging: JudgeOptions,
    reviewed: ReviewOptions,
    chosen: ModelOptions,
    written: ReportOptions,
    *,
    compare: str | None,
    project: str | None,
) -> int:
    """Evaluate by reviews, and return the exit code. Raises UsageError for options that belong to DATA."""
    from wetread.cli.evaluate_reviews import print_judgement
    from wetread.errors import UsageError

    if reviewed.reviews is None or reviewed.scores is None:
        raise UsageError("--reviews and --scores must be given together.")
    others = (judging.data, judging.split, judging.run, compare, written.thumbnails or None)
    if any(value is not None for value in others):
        raise UsageError(
            "--reviews cannot be used with DATA, --split, --run, --compare or --thumbnails: it uses existing "
            "scores and reads no image."
        )
    found = wetread.evaluate_by_readers(
        reviewed.reviews,
        scores=reviewed.scores,
        model=chosen.model,
        group_regex=judging.group_regex,
        resamples=judging.resamples,
        seed=judging.seed,
        output=written.output,
        overwrite=written.overwrite,
        project=project,
    )
    print_judgement(found, written.output)
    return 3 if found.unscored else 0


@contextmanager
def show_count(*, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Yield a function of (images done, all images) that shows a bar on a terminal; None elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(
        BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task("scoring", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print_evaluation(evaluation: Evaluation, output: str | None) -> None:
    """Print notes, metrics, confusion, labels and the comparison as plain tables."""
    from wetread.cli.tables import print_note, print_rows, print_table
    from wetread.evaluate import tables

    print_rows(tables.describe_data(evaluation))
    print()
    print_table(*tables.tabulate_metrics(evaluation.metrics, evaluation.word))
    print()
    print_table(*tables.tabulate_confusion(evaluation.metrics))
    if evaluation.metrics.positive is None:
        print()
        print_table(*tables.tabulate_labels(evaluation.metrics))
    if evaluation.comparison is not None:
        print()
        print_rows(tables.describe_comparison(evaluation.comparison, evaluation.word))
        print()
        print_table(*tables.tabulate_differences(evaluation.comparison, evaluation.word))
    if evaluation.notes:
        print()
    for note in evaluation.notes:
        print_note(note)
    if output is not None:
        print(f"\nwritten: {output}/report.html, metrics.json, predictions.csv")
