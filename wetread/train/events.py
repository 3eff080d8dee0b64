"""Progress events of a training run, as frozen dataclasses and as lines of text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wetread.runtime.wording import pluralize

_MANY = 0.25  # of the training images that are wrong to the end: the network, not the labels


class _Told:
    """An event reads as a line: `print` can be the listener."""

    def __str__(self) -> str:
        return describe_event(self)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class ImagesRead(_Told):
    """Images are being read into the cache: `done` of `total`."""

    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """One file that is left out of training: its name below DATA, its status, and what is wrong with it."""

    name: str
    status: str
    message: str


@dataclass(frozen=True, kw_only=True)
class DataFound(_Told):
    """The data are read and split.

    `counts` and `patients`: for each split ('train', 'val', and 'cal' if one is set aside) the images of
    each label, and the number of groups. `left_out`: corrupt files. `leaks`: images of DATA/val whose patient
    or picture is also in DATA/train (0 if wetread made the split). `alike`: images that are near-identical to
    another, but not byte-identical. `unmatched`: images in whose names no patient was found. `conflicts`:
    images that are byte-identical to one with another label; `conflict`: the names of two such images.
    `colored`: how many images are in colour, which training drops, and how many were checked. `word`: what
    images are grouped by, 'patient', 'group' or a word of the regular expression's own.
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
    word: str = "patient"


@dataclass(frozen=True, kw_only=True)
class DefaultsChosen(_Told):
    """Options that were not given are chosen by what the images are.

    `options`: their values, and the preset that they follow; `reasons`: why, for each.
    """

    options: dict[str, Any]
    reasons: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class FoldStarted(_Told):
    """A fold's run begins: `fold`, counted from 0, of `folds`. It equals `folds` for the run itself."""

    fold: int
    folds: int


@dataclass(frozen=True, kw_only=True)
class TrialStarted(_Told):
    """A trial of a search begins, with these options; `left` trials come after it."""

    number: int
    options: dict[str, Any]
    left: int = 0


@dataclass(frozen=True, kw_only=True)
class TrialEnded(_Told):
    """A trial is 'complete', 'pruned' or 'failed'; `value`: its value of the metric."""

    number: int
    state: str
    value: float | None


@dataclass(frozen=True, kw_only=True)
class TrainingStarted(_Told):
    """The network is built. `first_epoch` is above 1 if a run is resumed."""

    architecture: str
    parameters: int
    epochs: int
    steps: int
    first_epoch: int


@dataclass(frozen=True, kw_only=True)
class TeachersFound(_Told):
    """So many `networks` answer for the training images; `share` and `temperature` as in TrainConfig.

    `unknown`: names of model files. What trained them is not known: these patients, perhaps.
    """

    networks: int
    share: float
    temperature: float
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StageStarted(_Told):
    """Of a network that was trained before, `trained` of its `parameters` train from an epoch to another."""

    first_epoch: int
    last_epoch: int
    trained: int
    parameters: int
    learning_rate: float


@dataclass(frozen=True, kw_only=True)
class StepEnded(_Told):
    """`step` of an epoch's `steps` is done; `loss` is the mean so far."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float


@dataclass(frozen=True, kw_only=True)
class EpochEnded(_Told):
    """An epoch is done and saved. `metrics`: the row of history.csv."""

    epoch: int
    epochs: int
    metrics: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class ImagesLearned(_Told):
    """The run is done: of `images` that trained, `wrong` were answered wrongly in the last epoch.

    `file`: the list of the images, those learned last first, in the run directory.
    """

    images: int
    wrong: int
    file: str


@dataclass(frozen=True, kw_only=True)
class Doubted(_Told):
    """The network may be useless, or its figures too good; told at the start, after some epochs or last.

    `reason`: why, and what to try: one or two sentences without a full stop.
    """

    reason: str


Event = (
    ImagesRead
    | DefaultsChosen
    | DataFound
    | FoldStarted
    | TeachersFound
    | TrainingStarted
    | StageStarted
    | StepEnded
    | EpochEnded
    | ImagesLearned
    | Doubted
    | TrialStarted
    | TrialEnded
)
OnEvent = Callable[[Event], Any]


def ignore_event(event: Event) -> None:
    """Ignore an event: the default listener."""


def describe_event(event: Event) -> str:
    """Write an event as one line, or as a few for the data."""
    match event:
        case ImagesRead():
            return f"reading images: {event.done:,} of {event.total:,}"
        case DataFound():
            return "\n".join(_describe_data(event))
        case DefaultsChosen():
            return "\n".join(_describe_defaults(event))
        case FoldStarted():
            if event.fold == event.folds:
                return "training on the images of all folds"
            return f"training without fold {event.fold}: {event.fold + 1} of {event.folds}"
        case TrialStarted():
            options = ", ".join(f"{name} {value:.3g}" for name, value in event.options.items())
            return f"trial {event.number}: {options}"
        case TrialEnded():
            value = "" if event.value is None else f", {event.value:.4f}"
            return f"trial {event.number}: {event.state}{value}"
        case TrainingStarted():
            start = f", resumed at epoch {event.first_epoch}" if event.first_epoch > 1 else ""
            return f"{event.architecture}: {event.parameters:,} parameters, {event.epochs} epochs{start}"
        case TeachersFound():
            return _describe_teachers(event)
        case StageStarted():
            return (
                f"epochs {event.first_epoch} to {event.last_epoch}: {event.trained:,} of "
                f"{event.parameters:,} parameters train, learning rate {event.learning_rate:g}"
            )
        case StepEnded():
            return f"epoch {event.epoch}/{event.epochs}: {event.step}/{event.steps}, loss {event.loss:.4f}"
        case EpochEnded():
            return f"epoch {event.epoch}/{event.epochs}: {describe_metrics(event.metrics)}"
        case ImagesLearned():
            return _describe_learned(event)
        case Doubted():
            return f"warning: {event.reason}"


def _describe_teachers(found: TeachersFound) -> str:
    networks = f"{found.networks} network{'s' if found.networks > 1 else ''}"
    text = f"teachers: {networks}, {found.share:g} of the loss, temperature {found.temperature:g}"
    if not found.unknown:
        return text
    return (
        f"{text}\nwarning: which images trained {', '.join(found.unknown)} is not known. Where they validate "
        "here, the figures are too good"
    )


def _describe_learned(found: ImagesLearned) -> str:
    """Say what the list is good for: of a network that learned little, not for labels."""
    start = f"learned last: {found.wrong:,} of {found.images:,} training images were wrong to the end"
    if found.wrong > _MANY * found.images:
        return f"{start}: too many to say that their labels are wrong. {found.file} lists them"
    return f"{start}. {found.file} lists the images learned last first: look whether their labels are right"


def describe_metrics(metrics: dict[str, float]) -> str:
    """Write the metrics of an epoch as 'name value' pairs, without those that every row has."""
    shown = (
        f"{name} {value:.4f}" for name, value in metrics.items() if name not in ("epoch", "learning_rate")
    )
    return ", ".join(shown)


def _describe_defaults(found: DefaultsChosen) -> list[str]:
    """The preset and its reason, then an option a line."""
    lines = [
        f"{name.replace('_', ' ')} {value}: {found.reasons[name]}" for name, value in found.options.items()
    ]
    return [lines[0], *(f"  {line}" for line in lines[1:])]


def _describe_data(found: DataFound) -> list[str]:
    lines = []
    for split, counts in found.counts.items():
        total = sum(counts.values())
        shares = ", ".join(
            f"{label} {count:,} ({count / total:.1%})" for label, count in counts.items() if total
        )
        lines.append(
            f"{split}: {total:,} images of {found.patients[split]:,} {pluralize(found.word)}: {shares}"
        )
    if found.unmatched:
        lines.append(
            f"warning: no {found.word} was found in the names of {found.unmatched:,} images: each counts as "
            f"one {found.word}. If {pluralize(found.word)} have several images, give --group-regex to find "
            "them in the names"
        )
    if found.left_out:
        lines.append(f"left out: {len(found.left_out):,} files that cannot be read (corrupt.csv)")
    if found.alike:
        lines.append(
            f"near-identical: {found.alike:,} images, each with the others of its picture on one side"
        )
    if found.conflicts:
        lines.append(
            f"warning: {found.conflicts:,} images are byte-identical and have two labels: "
            f"{' and '.join(found.conflict)}, say. One of the labels is wrong"
        )
    if found.colored[0]:
        lines.append(
            f"warning: {found.colored[0]} of {found.colored[1]} images checked are in colour, which the "
            "network will not see. Keep it with --color rgb"
        )
    if found.leaks:
        lines.append(
            f"warning: {found.leaks:,} images of val show a {found.word} of train, or are the same picture: "
            "validation results will be too good"
        )
    return lines
