"""Groups of options, each a frozen dataclass that several commands share.

A command takes a group as one parameter, and `expand_options` turns its fields into command-line options:

    @app.command()
    @expand_options
    def score(*, chosen: ModelOptions, quiet: Quiet = False) -> None: ...
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_args, get_type_hints

import typer
from typer.models import OptionInfo

from wetread.errors import UsageError
from wetread.runtime.images.limits import MAX_MEMORY

if TYPE_CHECKING:
    from wetread.export.forms.network_files import NetworkSource
    from wetread.runtime.scoring.classifier import Classifier

Project = Annotated[
    str | None,
    typer.Option(
        "--project", metavar="ID", help="The Google Cloud project to bill for requester-pays buckets."
    ),
]
PublicKey = Annotated[
    str | None,
    typer.Option(
        "--public-key", metavar="KEY", help="Require a signature of the model by this public key (PEM)."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Do not print progress or a summary.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")]
Include = Annotated[
    str | None,
    typer.Option("--include", metavar="GLOB", help="Only inputs whose name matches, such as '*.jpeg'."),
]
AllowEmpty = Annotated[
    bool,
    typer.Option("--allow-empty", help="Accept a source that lists nothing; the output has no rows."),
]
MaxMemory = Annotated[
    int,
    typer.Option(
        "--max-memory",
        min=1,
        metavar="MIB",
        help="Memory limit for decoding one image, in MiB; a larger one is 'too_large'.",
    ),
]
DEFAULT_MEMORY = MAX_MEMORY >> 20
Workers = Annotated[
    int | None,
    typer.Option("--workers", metavar="N", help="Number of workers; default: one per processor."),
]


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The model and the device. Shared by every command that scores."""

    panel: ClassVar[str] = "Model"

    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", metavar="MODEL.onnx", help="The model file; default: the packaged one."
        ),
    ] = None
    device: Annotated[
        str,
        typer.Option(
            metavar="DEVICE",
            help="Device to run on: auto, cpu, cuda, tensorrt, directml, openvino or coreml.",
        ),
    ] = "auto"
    public_key: PublicKey = None

    def choose(self, *, quiet: bool) -> str:
        """Return the named model, or the packaged one with a line about it on standard error."""
        from wetread.runtime.model.packaged import choose_model, say_packaged

        if self.model is None and not quiet:
            print(f"wetread: {say_packaged()}", file=sys.stderr)
        return choose_model(self.model)

    def load(self, *, quiet: bool) -> Classifier:
        """Load the chosen model. Raises ModelError, ProviderError and SignatureError."""
        from wetread.runtime.scoring.classifier import Classifier

        return Classifier(self.choose(quiet=quiet), device=self.device, public_key=self.public_key)


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """What belongs to a Keras network beside its file. Shared by `export`, `parity` and `convert`."""

    panel: ClassVar[str] = "A network of your own"

    weights: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="The weights, where the network is an architecture in JSON."),
    ] = None
    custom: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE[:NAME,...]",
            help="Your own layers and functions that the network needs: a module or .py file, which is run.",
        ),
    ] = None
    output_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which of several outputs: its name or number from 0.")
    ] = None

    def make(self, path: str) -> NetworkSource:
        """Return the network at a path, with what belongs to it."""
        from wetread.export.forms.network_files import NetworkSource

        return NetworkSource(
            path=path, weights=self.weights, custom=self.custom, output_name=self.output_name
        )


@dataclass(frozen=True, kw_only=True)
class TransferOptions:
    """How a network that was trained before learns other labels."""

    panel: ClassVar[str] = "Network"

    freeze_epochs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="With --weights: epochs in which the new last layer alone trains. Default: half of them.",
        ),
    ] = None
    fine_tune_at: Annotated[
        str | None,
        typer.Option(
            metavar="LAYER",
            help="The first layer, by name or number, that trains after these epochs. Default: the first.",
        ),
    ] = None
    fine_tune_learning_rate: Annotated[
        float | None,
        typer.Option(
            metavar="X", help="Peak learning rate after these epochs. Default: a tenth of --learning-rate."
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class TeacherOptions:
    """Networks from whose answers another one learns."""

    panel: ClassVar[str] = "Training"

    teacher: Annotated[
        str | None,
        typer.Option(
            metavar="RUN[,RUN...]",
            help="Learn from the answers of these runs, or model files, as well as from the labels.",
        ),
    ] = None
    teacher_share: Annotated[
        float,
        typer.Option(
            metavar="X", help="With --teacher: the part of the loss that its answers have, up to 1."
        ),
    ] = 0.7
    teacher_temperature: Annotated[
        float,
        typer.Option(metavar="T", help="With --teacher: above 1, its answers are softened."),
    ] = 1.0


@dataclass(frozen=True, kw_only=True)
class ColumnOptions:
    """Which optional columns a row has."""

    panel: ClassVar[str] = "Output"

    uncertain: Annotated[
        bool, typer.Option("--uncertain", help="Add a column that marks results too close to the threshold.")
    ] = False
    dicom_tags: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...", help="Add DICOM attributes as columns, such as SOPInstanceUID,StudyDate."
        ),
    ] = None

    refuse_outside: Annotated[
        bool,
        typer.Option(
            "--refuse-outside", help="No probability for what is outside the model's scope: 'out_of_scope'."
        ),
    ] = False

    @property
    def keywords(self) -> tuple[str, ...]:
        """The attributes of `dicom_tags`, split at the commas."""
        return tuple(name.strip() for name in self.dicom_tags.split(",")) if self.dicom_tags else ()


@dataclass(frozen=True, kw_only=True)
class GrowingColumns:
    """What belongs to an output that grows for months. Shared by `watch` and `node`."""

    panel: ClassVar[str] = "Output"

    columns: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Add columns: scored_at (UTC, when the row was made), model (the model's SHA-256).",
        ),
    ] = None
    mode: Annotated[
        str,
        typer.Option(metavar="OCTAL", help="Permissions of new outputs and journals, such as 640."),
    ] = "600"
    status: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write a JSON file of how it is going every 10 seconds."),
    ] = None

    def parse(self) -> dict[str, Any]:
        """Return the values as `GrowingOptions` takes them. Raises UsageError."""
        if not self.mode.isascii() or not self.mode.isdigit() or set(self.mode) & {"8", "9"}:
            raise UsageError(f"--mode takes permissions in octal, such as 600 or 640, not {self.mode!r}.")
        names = self.columns.split(",") if self.columns else []
        columns = tuple(name.strip() for name in names)
        return {"columns": columns, "mode": int(self.mode, 8), "status": self.status}


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """The loss of `train`, and the weights of the labels in it."""

    panel: ClassVar[str] = "Training"

    class_weight: Annotated[
        str,
        typer.Option(
            metavar="balanced|none|LABEL=X,...",
            help="balanced: each label has the same total weight; or weights of your own. Also alpha of the "
            "focal loss.",
        ),
    ] = "balanced"
    loss: Annotated[
        str,
        typer.Option(
            metavar="crossentropy|focal", help="Loss function; focal: images that are right count less."
        ),
    ] = "crossentropy"
    focal_gamma: Annotated[
        float, typer.Option(metavar="X", help="Gamma of the focal loss: the larger, the less they count.")
    ] = 2.0
    label_smoothing: Annotated[
        float, typer.Option(metavar="X", help="Label smoothing, such as 0.1; 0: off.")
    ] = 0.0


def expand_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option for each field of the dataclasses among its parameters.

    The command itself receives the dataclasses, filled from the command line.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}

    @wraps(command)
    def run(**values: Any) -> None:
        made = {
            name: group(**{field.name: values.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        command(**made, **values)

    parameters = [
        expanded
        for parameter in inspect.signature(command).parameters.values()
        for expanded in (
            _list_parameters(groups[parameter.name])
            if parameter.name in groups
            else [parameter.replace(annotation=hints[parameter.name])]
        )
    ]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


def _list_parameters(group: Any) -> Iterator[inspect.Parameter]:
    """List the fields of a dataclass as parameters, each option in the group's panel of the help.

    Arguments have a panel of their own: typer prints them apart, and a panel's name would stand there twice.
    """
    hints = get_type_hints(group, include_extras=True)
    for field in fields(group):
        kind, info = get_args(hints[field.name])
        info = copy(info)
        if isinstance(info, OptionInfo):
            info.rich_help_panel = info.rich_help_panel or group.panel
        yield inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=Annotated[kind, info],
        )
