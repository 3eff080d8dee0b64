"""`wetread tune`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from wetread.cli.app import app
from wetread.cli.options import expand_options
from wetread.cli.train import DataOptions, ImageOptions
from wetread.cli.training_progress import show_training

if TYPE_CHECKING:
    from wetread.train.tune import TuneResult

_SHOWN = 10


@app.command(
    short_help="Search for the best training options.",
    epilog="Example: wetread tune DATA --output search --trials 30",
)
@expand_options
def tune(
    *,
    labelled: DataOptions,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="DIR", help="The directory of the search.")
    ],
    trials: Annotated[int, typer.Option(metavar="N", help="Number of networks to train.")] = 30,
    metric: Annotated[
        str,
        typer.Option(
            metavar="METRIC",
            help="Validation metric to optimize: loss, accuracy, balanced_accuracy, sensitivity, "
            "specificity, f1, auc.",
        ),
    ] = "auc",
    epochs: Annotated[int, typer.Option(metavar="N", help="Epochs of each trial.")] = 10,
    images: ImageOptions,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue a search; --trials may be larger than before.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not print progress.")] = False,
) -> None:
    """Search for the best width, depth, dropout, learning rate, weight decay, batch size and augmentation.

    Trains many networks, stops poor ones early, and prints a table and the best `wetread train` command. The
    strength of --augment, xray or light, is part of the search.
    """
    from wetread.train.config import TrainConfig
    from wetread.train.tune import tune as search

    config = TrainConfig(output=output, epochs=epochs, **labelled.given(), **vars(images))
    with show_training(quiet=quiet) as on_event:
        result = search(config, trials=trials, metric=metric, resume=resume, on_event=on_event)
    _print_result(result, metric)


def _print_result(result: TuneResult, metric: str) -> None:
    """Print the best trials and the `wetread train` command of the best one."""
    from wetread.train.tune import write_command

    print(f"{'trial':>5}  {'state':8}  {metric:>8}  {'epochs':>6}  options")
    for one in result.trials[:_SHOWN]:
        value = "" if one.value is None else f"{one.value:.4f}"
        options = (
            f"{one.config.architecture}, learning rate {one.config.learning_rate:g}, weight decay "
            f"{one.config.weight_decay:g}, batches of {one.config.batch_size}, augment {one.config.augment}"
        )
        print(f"{one.number:5}  {one.state:8}  {value:>8}  {one.epochs:6}  {options}")
    print(f"\nthe best: {write_command(result.best, output='RUN')}")
