"""What a run tells its caller while it goes on: small frozen events, and each as one line of text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ImagesRead:
    """Images are being read into the cache: `done` of `total`."""

    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """One file that does not train: its name below DATA, a status word, and what was wrong."""

    name: str
    status: str
    message: str


@dataclass(frozen=True, kw_only=True)
class DataFound:
    """The data are read and split.

    `counts` and `patients`: for each split ('train', 'val', and 'cal' where one is set aside) the images of
    each label, and the groups in all. `left_out`: corrupt files. `leaks`: images of DATA/val whose patient
    or whose picture is in DATA/train too (0 where wetread made the split). `alike`: images that are
    near-identical to another, not in their bytes. `unmatched`: images in whose names no patient was found.
    `conflicts`: images whose very bytes stand under another label too, `conflict`: the names of two such.
    `colored`: how many of how many images that were looked at have a colour that the network will not see.
    """

    labels: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    patients: dict[str, int]
    left_out: tuple[LeftOut, ...]
    leaks: int
    alike: int
    unmatched: int
    conflicts: int = 0
    conflict: tuple[str, ...] = ()
    colored: tuple[int, int] = (0, 0)


@dataclass(frozen=True, kw_only=True)
class FoldStarted:
    """The run of a fold begins, `fold` of `folds` counted from 0; it equals `folds` for the run itself."""

    fold: int
    folds: int


@dataclass(frozen=True, kw_only=True)
class TrialStarted:
    """A trial of a search begins, with these options."""

    number: int
    options: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class TrialEnded:
    """A trial is 'complete', 'pruned' or 'failed'; `value`: of the metric searched for."""

    number: int
    state: str
    value: float | None


@dataclass(frozen=True, kw_only=True)
class TrainingStarted:
    """The network stands. `first_epoch` is above 1 where a run goes on."""

    architecture: str
    parameters: int
    epochs: int
    steps: int
    first_epoch: int


@dataclass(frozen=True, kw_only=True)
class StepEnded:
    """`step` of `steps` of an epoch is done; `loss` is the mean so far."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float


@dataclass(frozen=True, kw_only=True)
class EpochEnded:
    """An epoch is done and saved. `metrics`: the row of history.csv."""

    epoch: int
    epochs: int
    metrics: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Doubted:
    """The run is done and gives reason to doubt its network: `reason`, a sentence or two without its end."""

    reason: str


Event = (
    ImagesRead
    | DataFound
    | FoldStarted
    | TrainingStarted
    | StepEnded
    | EpochEnded
    | Doubted
    | TrialStarted
    | TrialEnded
)
OnEvent = Callable[[Event], Any]


def ignore_event(event: Event) -> None:
    """Do nothing with an event: the default listener."""


def describe_event(event: Event) -> str:
    """Write an event as one line, or as a few for the data."""
    match event:
        case ImagesRead():
            return f"reading images: {event.done:,} of {event.total:,}"
        case DataFound():
            return "\n".join(_describe_data(event))
        case FoldStarted():
            if event.fold == event.folds:
                return "the run itself, on the patients of all folds"
            return f"fold {event.fold}, kept from training: {event.fold + 1} of {event.folds}"
        case TrialStarted():
            options = ", ".join(f"{name} {value:.3g}" for name, value in event.options.items())
            return f"trial {event.number}: {options}"
        case TrialEnded():
            value = "" if event.value is None else f", {event.value:.4f}"
            return f"trial {event.number}: {event.state}{value}"
        case TrainingStarted():
            start = f", going on with epoch {event.first_epoch}" if event.first_epoch > 1 else ""
            return f"{event.architecture}: {event.parameters:,} parameters, {event.epochs} epochs{start}"
        case StepEnded():
            return f"epoch {event.epoch}/{event.epochs}: {event.step}/{event.steps}, loss {event.loss:.4f}"
        case EpochEnded():
            return f"epoch {event.epoch}/{event.epochs}: {describe_metrics(event.metrics)}"
        case Doubted():
            return f"warning: {event.reason}"


def describe_metrics(metrics: dict[str, float]) -> str:
    """Write the metrics of an epoch as 'name value' pairs, without what is always there."""
    shown = (
        f"{name} {value:.4f}" for name, value in metrics.items() if name not in ("epoch", "learning_rate")
    )
    return ", ".join(shown)


def _describe_data(found: DataFound) -> list[str]:
    lines = []
    for split, counts in found.counts.items():
        total = sum(counts.values())
        shares = ", ".join(
            f"{label} {count:,} ({count / total:.1%})" for label, count in counts.items() if total
        )
        lines.append(f"{split}: {total:,} images of {found.patients[split]:,} patients: {shares}")
    if found.unmatched:
        lines.append(
            f"warning: no patient was found in the names of {found.unmatched:,} images: each counts as one. "
            "Where patients have several, say how names tell them: --group-regex"
        )
    if found.left_out:
        lines.append(f"left out: {len(found.left_out):,} files that cannot be read (corrupt.csv)")
    if found.alike:
        lines.append(
            f"near-identical: {found.alike:,} images, each with the others of its picture on one side"
        )
    if found.conflicts:
        lines.append(
            f"warning: {found.conflicts:,} images stand under two labels, the same to the byte: "
            f"{' and '.join(found.conflict)}, say. One of the labels is wrong"
        )
    if found.colored[0]:
        lines.append(
            f"warning: {found.colored[0]} of {found.colored[1]} images looked at are in colour, and the "
            "network will not see it: --color rgb keeps it"
        )
    if found.leaks:
        lines.append(
            f"warning: {found.leaks:,} images of val are of a patient of train, or the same picture: "
            "validation will look better than it is"
        )
    return lines
