"""`wetread train`."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

import wetread
from wetread.cli.app import app
from wetread.cli.options import Project, TransferOptions, expand_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wetread.train.events import Event, OnEvent
    from wetread.train.fit import TrainResult


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The training images, and which of them are set aside."""

    panel: ClassVar[str] = "Data"

    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="Labelled images, DATA/<label>/* or DATA/{train,val,test}/<label>/*."
        ),
    ]
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.csv", help="Labels of images in DATA, in any folders: reviews.csv, or path,label."
        ),
    ] = None
    validation: Annotated[
        float,
        typer.Option(
            metavar="X", help="Fraction of images held out for validation, if there is no DATA/val."
        ),
    ] = 0.1
    group_regex: Annotated[
        str | None,
        typer.Option(
            metavar="RE", help="Regular expression that finds the patient or another group in a name."
        ),
    ] = None
    subset: Annotated[
        int | None, typer.Option(metavar="N", help="Train on about this many images, for a quick start.")
    ] = None
    positive: Annotated[
        str | None, typer.Option(metavar="LABEL", help="The positive one of two labels; default: the last.")
    ] = None
    seed: Annotated[
        int, typer.Option(metavar="N", help="Random seed; the same seed and data give the same split.")
    ] = 0

    def given(self) -> dict[str, Any]:
        """Return the fields of a TrainConfig; without --group-regex, its default applies."""
        return {name: value for name, value in vars(self).items() if (name, value) != ("group_regex", None)}


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """The network's input."""

    panel: ClassVar[str] = "Images"

    preset: Annotated[
        str | None,
        typer.Option(
            metavar="xray|photo|document|texture",
            help="Kind of images, from which options that are not given follow. Default: look at the images.",
        ),
    ] = None
    size: Annotated[
        int | None,
        typer.Option(metavar="N", help="Width and height of the network's input in pixels; 64 for X-rays."),
    ] = None
    color: Annotated[
        str | None,
        typer.Option(metavar="gray|rgb", help="Color channels of the network's input; gray for X-rays."),
    ] = None
    augment: Annotated[
        str | None,
        typer.Option(
            metavar="POLICY",
            help="Augmentation: xray, photo, document, texture, light, none or FILE.toml; xray:0.5 is half "
            "as strong.",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """The network."""

    panel: ClassVar[str] = "Network"

    architecture: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="edge (for X-rays), photo, model-1, model-2, model-3, stages-W-S-C-D (stages-16-3-2-0.3, "
            "say), or your own module:function.",
        ),
    ] = None
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Use a Keras application instead of --architecture, such as MobileNetV2."
        ),
    ] = None
    weights: Annotated[
        str,
        typer.Option(
            metavar="FILE|RUN|imagenet|none",
            help="Initial weights: a file of Keras' weights, a .keras file, a run, or Keras' own cache.",
        ),
    ] = "none"
    resize: Annotated[
        str,
        typer.Option(
            metavar="stretch|fit|crop",
            help="stretch: ignore the aspect ratio; fit: pad with black; crop: cut out the centre.",
        ),
    ] = "stretch"


@dataclass(frozen=True, kw_only=True)
class FittingOptions:
    """The loss, the optimizer, and which epoch is kept."""

    panel: ClassVar[str] = "Training"

    epochs: Annotated[
        int | None, typer.Option(metavar="N", help="Passes over the training images; 10 for X-rays.")
    ] = None
    batch_size: Annotated[
        int | None, typer.Option(metavar="N", help="Images in one optimizer step; 32 for X-rays.")
    ] = None
    learning_rate: Annotated[
        float | None,
        typer.Option(
            metavar="X", help="Peak learning rate; decays to 0 on a cosine schedule; 0.001 for X-rays."
        ),
    ] = None
    weight_decay: Annotated[float, typer.Option(metavar="X", help="Weight decay of the AdamW optimizer.")] = (
        1e-2
    )
    warmup: Annotated[
        float, typer.Option(metavar="EPOCHS", help="Epochs of linear warm-up before the decay.")
    ] = 0.0
    ema: Annotated[
        float,
        typer.Option(metavar="X", help="Decay of a moving average of the weights, such as 0.999; 0: off."),
    ] = 0.0
    class_weight: Annotated[
        str, typer.Option(metavar="balanced|none", help="balanced: each label has the same total weight.")
    ] = "balanced"
    loss: Annotated[
        str, typer.Option(metavar="crossentropy|focal", help="Loss function; focal uses gamma 2.")
    ] = "crossentropy"
    label_smoothing: Annotated[
        float, typer.Option(metavar="X", help="Label smoothing, such as 0.1; 0: off.")
    ] = 0.0
    best: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC",
            help="Keep the epoch that is best by this validation metric: loss, accuracy, balanced_accuracy, "
            "sensitivity, specificity, f1, auc. Default: the last epoch.",
        ),
    ] = None
    early_stopping: Annotated[
        int | None,
        typer.Option(
            metavar="PATIENCE", help="Stop after N epochs without improvement (by --best, or loss)."
        ),
    ] = None
    mixed_precision: Annotated[
        bool,
        typer.Option("--mixed-precision", help="Compute in float16 on a GPU; weights are saved in float32."),
    ] = False
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write TensorBoard logs to RUN/logs.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class HeldOutOptions:
    """Images set aside in addition to validation, and what is fitted on them."""

    panel: ClassVar[str] = "Data"

    folds: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="Cross-validation: train K more networks and keep their out-of-fold predictions (oof.csv).",
        ),
    ] = None
    near_identical: Annotated[
        bool,
        typer.Option(
            "--near-identical/--no-near-identical",
            help="Keep near-duplicates of an image together in train or in validation.",
        ),
    ] = True
    calibration_split: Annotated[
        float,
        typer.Option(metavar="X", help="Fraction of images held out to fit temperature and threshold."),
    ] = 0.0
    threshold_rule: Annotated[
        str | None,
        typer.Option(
            metavar="RULE",
            help="Threshold rule: balanced, sensitivity>=0.95, specificity>=0.9, cost 5:1, fixed 0.5. "
            "Default: balanced if images are held out, else 0.5.",
        ),
    ] = None


@app.command(
    short_help="Train a network on labelled folders.",
    epilog="Example: wetread train DATA --output run --epochs 20 --calibration-split 0.1",
)
@expand_options
def train(
    *,
    labelled: DataOptions,
    output: Annotated[str, typer.Option("--output", "-o", metavar="RUN", help="The run directory to write.")],
    network: NetworkOptions,
    transfer: TransferOptions,
    images: ImageOptions,
    fitting: FittingOptions,
    held_out: HeldOutOptions,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    project: Project = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not print progress.")] = False,
) -> None:
    """Train a network on labelled folders and write a run directory for `export` and `parity`.

    Images of one patient, or another group, are never in both train and validation. Corrupt files are listed
    and left out. Options that are not given are chosen by what the images are, and printed with the reason.
    """
    with show_training(quiet=quiet) as on_event, _say_resume(output):
        result = wetread.train(
            output=output,
            **labelled.given(),
            **vars(network),
            **vars(transfer),
            **vars(images),
            **vars(fitting),
            **vars(held_out),
            resume=resume,
            project=project,
            on_progress=on_event,
        )
    _print_result(result)


@contextmanager
def _say_resume(output: str) -> Iterator[None]:
    """If a run is interrupted, print what is kept and how to continue."""
    try:
        yield
    except KeyboardInterrupt:
        if _has_begun(output):
            text = f"Every finished epoch is in {output}. Run the same command with --resume to continue."
        else:
            text = "Training had not begun. Run the same command again."
        print(f"wetread: interrupted. {text}", file=sys.stderr, flush=True)
        raise


def _has_begun(output: str) -> bool:
    """Whether a run's directory holds something to resume; a bucket is not asked and counts as such."""
    from wetread.runtime.entries import is_bucket_location
    from wetread.train.run import CONFIG

    folders = [Path(output), *Path(output).glob("fold-*")]
    return is_bucket_location(output) or any((folder / CONFIG).is_file() for folder in folders)


@contextmanager
def show_training(*, quiet: bool) -> Iterator[OnEvent]:
    """Yield the listener of a training run: silent, a bar on a terminal, or a line per epoch elsewhere."""
    from wetread.train.events import ignore_event

    if quiet:
        yield ignore_event
    elif sys.stderr.isatty():
        with _bar() as listen:
            yield listen
    else:
        yield _print_line


def _print_line(event: Event) -> None:
    from wetread.train.events import ImagesRead, StepEnded, describe_event

    if not isinstance(event, ImagesRead | StepEnded):
        print(describe_event(event), file=sys.stderr, flush=True)


@contextmanager
def _bar() -> Iterator[OnEvent]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from wetread.train.events import ImagesRead, StepEnded, describe_event

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading images", total=None, loss="")

        def listen(event: Event) -> None:
            if isinstance(event, ImagesRead):
                progress.update(task, completed=event.done, total=event.total)
            elif isinstance(event, StepEnded):
                what, loss = f"epoch {event.epoch}/{event.epochs}", f"loss {event.loss:.4f}"
                progress.update(task, description=what, completed=event.step, total=event.steps, loss=loss)
            else:
                progress.console.print(describe_event(event), highlight=False, markup=False)

        yield listen


def _print_result(result: TrainResult) -> None:
    """Print the class balance, the validation metrics, and where the run is."""
    from wetread.cli.tables import print_rows

    metrics = result.metrics
    rows = [("network", f"{metrics['architecture']}, {metrics['parameters']:,} parameters")]
    for split, counts in metrics["images"].items():
        total = sum(counts.values())
        shares = [f"{label} {count:,} ({count / total:.1%})" for label, count in counts.items() if total]
        rows.append((split, ", ".join(shares)))
    rows.append(("epochs", f"{metrics['epochs']} in {metrics['seconds']:.0f} s"))
    for split in ("validation", "out_of_fold"):
        word = metrics.get("group", "patient")
        rows += _describe_metrics(split.replace("_", " "), metrics.get(split, {}), word)
    print_rows([*rows, *_describe_operating_point(result), ("run", str(result.run))])


def _describe_metrics(title: str, found: dict[str, Any], word: str) -> list[tuple[str, str]]:
    """The metrics of some images as rows of a table, each with its interval over groups (of that `word`)."""
    rows = []
    intervals = found.get("intervals") or {}
    for name in ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "auc"):
        if found.get(name) is not None:
            interval, kind = intervals.get(name), f"by {word}"
            if interval and interval[0] == interval[1]:  # without errors a bootstrap has no spread
                interval, kind = (found.get("exact_intervals") or {}).get(name), f"exact, by {word}"
            between = f"  (95% {kind} {interval[0]:.4f} to {interval[1]:.4f})" if interval else ""
            rows.append((f"{title} {name}".replace("_", " "), f"{found[name]:.4f}{between}"))
    return rows


def _describe_operating_point(result: TrainResult) -> list[tuple[str, str]]:
    """Rows about temperature, threshold and band fitted on held-out images, or about a given threshold."""
    from wetread.runtime.model.description import describe_spec

    if "operating_point" not in result.metrics and result.spec.threshold_rule == "default":
        return []
    wanted = ("temperature", "decision", "uncertain")
    return [row for row in describe_spec(result.spec) if row[0] in wanted]
