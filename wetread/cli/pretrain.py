"""`wetread pretrain`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

import wetread
from wetread.cli.app import app
from wetread.cli.options import Project, expand_options
from wetread.cli.train import FolderOptions, ImageOptions, say_resume
from wetread.cli.training_progress import show_training

if TYPE_CHECKING:
    from wetread.train.pretraining import PretrainResult


@dataclass(frozen=True, kw_only=True)
class PretrainDataOptions(FolderOptions):
    """The images, divided as `train` divides them."""

    near_identical: Annotated[
        bool,
        typer.Option(
            "--near-identical/--no-near-identical",
            help="Keep near-duplicates of an image together in train or in validation.",
        ),
    ] = True


@dataclass(frozen=True, kw_only=True)
class PretrainFittingOptions:
    """The network and its optimizer."""

    panel: ClassVar[str] = "Training"

    architecture: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Network, as for train: edge, photo, or your own module:function."),
    ] = None
    resize: Annotated[
        str,
        typer.Option(
            metavar="stretch|fit|crop",
            help="stretch: ignore the aspect ratio; fit: pad with black; crop: cut out the centre.",
        ),
    ] = "stretch"
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Passes over the images; default: 30.")] = (
        None
    )
    batch_size: Annotated[
        int | None,
        typer.Option(metavar="N", help="Images in one step, each told from all others; default: 128."),
    ] = None
    learning_rate: Annotated[
        float | None,
        typer.Option(metavar="X", help="Peak learning rate; decays to 0 on a cosine; default: 0.002."),
    ] = None
    weight_decay: Annotated[float, typer.Option(metavar="X", help="Weight decay of the AdamW optimizer.")] = (
        1e-2
    )
    warmup: Annotated[
        float, typer.Option(metavar="EPOCHS", help="Epochs of linear warm-up before the decay.")
    ] = 0.0


@app.command(
    short_help="Train a network's body without labels, for train --weights.",
    epilog="Example: wetread pretrain DATA --output body; wetread train DATA --output run --weights body",
)
@expand_options
def pretrain(
    *,
    labelled: PretrainDataOptions,
    output: Annotated[str, typer.Option("--output", "-o", metavar="RUN", help="The run directory to write.")],
    images: ImageOptions,
    fitting: PretrainFittingOptions,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    project: Project = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not print progress.")] = False,
) -> None:
    """Train a network's body without labels, and write a run directory for train --weights.

    Two views of an image, drawn by the augmentation, must be told from the views of all others. Labels only
    divide the images as train does with the same seed: what validates there is not seen here.
    """
    values = {**labelled.given(), **vars(images), **vars(fitting), "output": output, "project": project}
    with show_training(quiet=quiet) as on_event, say_resume(output):
        result = wetread.pretrain(**values, resume=resume, on_progress=on_event)
    _print_result(result, output)


def _print_result(result: PretrainResult, output: str) -> None:
    from wetread.cli.tables import print_rows

    metrics = result.metrics
    seen = sum(metrics["images"]["train"].values())
    rows = [
        ("network", f"{metrics['architecture']}, {metrics['parameters']:,} parameters"),
        ("images", f"{seen:,}, two views of each"),
        ("epochs", f"{metrics['epochs']} in {metrics['seconds']:.0f} s"),
        ("matched", f"{metrics['matched']:.1%} of the views, in the last epoch"),
        ("run", str(result.run)),
        ("next", f"wetread train DATA --output RUN --weights {output}"),
    ]
    print_rows(rows)
