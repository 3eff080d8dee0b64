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
from wetread.cli.options import LossOptions, Project, TeacherOptions, TransferOptions, expand_options
from wetread.cli.training_progress import show_training

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wetread.train.fit import TrainResult
    from wetread.train.learning_rate import RateSearch


@dataclass(frozen=True, kw_only=True)
class FolderOptions:
    """The images, and which of them are set aside."""

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
    seed: Annotated[
        int, typer.Option(metavar="N", help="Random seed; the same seed and data give the same split.")
    ] = 0

    def given(self) -> dict[str, Any]:
        """Return the fields of a TrainConfig; without --group-regex, its default applies."""
        return {name: value for name, value in vars(self).items() if (name, value) != ("group_regex", None)}


@dataclass(frozen=True, kw_only=True)
class DataOptions(FolderOptions):
    """The training images, which of them are set aside, and what their labels mean."""

    positive: Annotated[
        str | None, typer.Option(metavar="LABEL", help="The positive one of two labels; default: the last.")
    ] = None


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
    """The optimizer, and which epoch is kept."""

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


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run begins, and what it prints."""

    panel: ClassVar[str] = "Options"  # typer's own

    find_learning_rate: Annotated[
        bool,
        typer.Option(
            "--find-learning-rate",
            help="Do not train: try learning rates, draw the loss (RUN/learning_rate.png) and suggest one.",
            rich_help_panel="Training",
        ),
    ] = False
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False
    project: Project = None
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not print progress.")] = False


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
    loss: LossOptions,
    teacher: TeacherOptions,
    held_out: HeldOutOptions,
    run: RunOptions,
) -> None:
    """Train a network on labelled folders and write a run directory for `export` and `parity`.

    Images of one patient, or another group, are never in both train and validation. Corrupt files are listed
    and left out. Options that are not given are chosen by what the images are, and printed with the reason.
    """
    groups = (network, transfer, images, fitting, loss, teacher, held_out)
    values = {name: value for group in groups for name, value in vars(group).items()}
    values |= {"output": output, "project": run.project, **labelled.given()}
    if run.find_learning_rate:
        _find_rate(values, resume=run.resume, quiet=run.quiet)
        return
    with show_training(quiet=run.quiet) as on_event, say_resume(output):
        result = wetread.train(**values, resume=run.resume, on_progress=on_event)
    _print_result(result)


def _find_rate(values: dict[str, Any], *, resume: bool, quiet: bool) -> None:
    """Search for a learning rate, and print it with its reason and the command that uses it."""
    from wetread.errors import UsageError

    rate = values.pop("learning_rate")
    if resume or rate is not None:
        name = "--resume" if resume else "--learning-rate"
        raise UsageError(f"{name} cannot be used with --find-learning-rate, which trains no run.")
    with show_training(quiet=quiet) as on_event:
        found = wetread.find_learning_rate(**values, on_progress=on_event)
    _print_rate(found, values)


def _print_rate(found: RateSearch, values: dict[str, Any]) -> None:
    from dataclasses import replace

    from wetread.cli.tables import print_rows
    from wetread.train.interface import RateKeywords
    from wetread.train.tune import write_command

    asked = RateKeywords(**values).configure()
    best, project = replace(asked, learning_rate=found.rate), values.get("project")
    command = write_command(best, output=values["output"], project=project)
    rows = [("learning rate", f"{found.rate:g}"), ("reason", found.reason), ("picture", str(found.picture))]
    print_rows([*rows, ("use it", command)])


@contextmanager
def say_resume(output: str) -> Iterator[None]:
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
