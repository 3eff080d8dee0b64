"""`wetread export`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import typer

import wetread
from wetread.cli.app import app
from wetread.cli.options import Project, SourceOptions, expand_options


@dataclass(frozen=True, kw_only=True)
class FormOptions:
    """The number format of the file, and how far its results may differ from Keras."""

    panel: ClassVar[str] = "Form"

    precision: Annotated[
        str,
        typer.Option(
            metavar="float32|int8|float16", help="Number format of the weights and the computation."
        ),
    ] = "float32"
    calibration: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER", help="Images to calibrate and compare on; default: the run's own images."
        ),
    ] = None
    with_activation: Annotated[
        bool,
        typer.Option("--with-activation", help="Add a second output for `wetread explain --method cam`."),
    ] = False
    scope: Annotated[
        str | None,
        typer.Option(metavar="FILE.toml", help="What the model is for; what is not is told when it scores."),
    ] = None
    sign: Annotated[
        str | None, typer.Option(metavar="KEY", help="Sign with an Ed25519 private key (PEM).")
    ] = None
    exact_integers: Annotated[
        bool,
        typer.Option(
            "--exact-integers",
            help="int8: integers in every layer but the last, so that all processors round alike.",
        ),
    ] = False
    max_flips: Annotated[
        float, typer.Option(metavar="X", help="int8, float16: largest fraction of labels that may change.")
    ] = 0.005
    max_auc_change: Annotated[
        float, typer.Option(metavar="X", help="int8, float16: largest change of the AUC that is accepted.")
    ] = 0.002


@dataclass(frozen=True, kw_only=True)
class OperatingOptions:
    """The threshold between two labels. With a RUN, it is chosen on held-out images."""

    panel: ClassVar[str] = "Threshold"

    threshold_rule: Annotated[
        str | None,
        typer.Option(
            metavar="RULE",
            help="Choose the threshold again on the run's held-out images: balanced, sensitivity>=0.95, "
            "specificity>=0.9, cost 5:1, fixed 0.5. Default: the run's threshold.",
        ),
    ] = None
    prevalence: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="With a rule 'cost A:B': prevalence of the positive label; default: that in the images.",
        ),
    ] = None
    temperature: Annotated[
        str | None,
        typer.Option(metavar="X|fit", help="Set the temperature, or fit it again on the held-out images."),
    ] = None
    uncertain_band: Annotated[
        str | None,
        typer.Option(
            metavar="RULE", help="Results to mark as uncertain: images 0.05, errors 0.5, width 1 (in logits)."
        ),
    ] = None

    def given(self) -> dict[str, Any]:
        """Return the keywords of `wetread.export`. Raises UsageError."""
        from wetread.errors import UsageError

        values: dict[str, Any] = vars(self).copy()
        if self.temperature not in (None, "fit"):
            try:
                values["temperature"] = float(self.temperature)
            except ValueError as error:
                raise UsageError(
                    f"--temperature takes a number or 'fit', not {self.temperature!r}."
                ) from error
        return values


@dataclass(frozen=True, kw_only=True)
class KerasOptions:
    """A network that was trained without wetread, and how its pixels were made."""

    panel: ClassVar[str] = "A network of your own"

    keras: Annotated[
        str | None,
        typer.Option(
            metavar="NETWORK",
            help="Export this network, trained without wetread, instead of a RUN: .keras, .h5, a SavedModel "
            "folder, or JSON.",
        ),
    ] = None
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="With --keras: the labels, in output order; by default those in labels.txt beside it.",
        ),
    ] = None
    positive: Annotated[
        str | None,
        typer.Option(
            metavar="LABEL",
            help="With --keras: the positive one of two labels; default: the last given.",
        ),
    ] = None
    threshold: Annotated[
        float, typer.Option(metavar="X", help="With --keras: positive at or above this probability.")
    ] = 0.5
    scale: Annotated[
        str | None, typer.Option(metavar="X[,X,X]", help="With --keras: factor applied to pixels (0 to 255).")
    ] = None
    offset: Annotated[
        str | None,
        typer.Option(metavar="X[,X,X]", help="With --keras: added to the pixels after --scale; default: 0."),
    ] = None
    mean: Annotated[
        str | None,
        typer.Option(metavar="X[,X,X]", help="With --keras: mean of the scaled pixels, subtracted."),
    ] = None
    std: Annotated[
        str | None,
        typer.Option(metavar="X[,X,X]", help="With --keras: standard deviation of the scaled pixels."),
    ] = None
    color: Annotated[
        str | None,
        typer.Option(
            metavar="gray|rgb|bgr",
            help="With --keras: color channels and their order, if its input shape does not show them.",
        ),
    ] = None
    resize: Annotated[
        str | None,
        typer.Option(
            metavar="stretch|fit|crop", help="With --keras: how images are resized; default: stretch."
        ),
    ] = None
    size: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="With --keras: width and height, if its input shape does not show them."
        ),
    ] = None
    head: Annotated[
        str | None,
        typer.Option(
            metavar="logits|sigmoid|softmax",
            help="With --keras: type of the last layer, if it cannot be detected.",
        ),
    ] = None
    pipeline: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="With --keras: the code that made its pixels: keras:load_img,nearest, keras:dataset,crop, "
            "tf:resize,antialias, ...",
        ),
    ] = None
    resize_kernel: Annotated[
        str | None,
        typer.Option(
            metavar="KERNEL",
            help="With --keras: how its pixels were resized: nearest, bilinear, bicubic, area or lanczos.",
        ),
    ] = None
    preprocessing: Annotated[
        str | None,
        typer.Option(
            metavar="tf|caffe|torch", help="With --keras: the mode of Keras' preprocess_input, for --scale."
        ),
    ] = None

    def given(self) -> dict[str, Any]:
        """Return the keywords of `wetread.export`. Raises UsageError."""
        values: dict[str, Any] = vars(self).copy()
        if self.labels:
            values["labels"] = tuple(label.strip() for label in self.labels.split(","))
        for name in ("scale", "offset", "mean", "std"):
            values[name] = _numbers(values[name], f"--{name}")
        return values


@app.command(
    short_help="Turn a trained network into one ONNX file.",
    epilog="Example: wetread export run --output model.int8.onnx --precision int8",
)
@expand_options
def export(
    run: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="The run directory of `wetread train`; or give --keras."),
    ] = None,
    *,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="MODEL.onnx",
            help="The model file to write; an existing one is replaced.",
        ),
    ] = "model.onnx",
    form: FormOptions,
    operating: OperatingOptions,
    network: KerasOptions,
    source: SourceOptions,
    project: Project = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Turn a trained network into the one ONNX file that scoring needs.

    The file appears only after its results were compared with Keras. For int8 and float16, several candidate
    forms are compared on held-out images; if none is close enough to Keras, no file is written.
    """
    from wetread.cli.export_output import print_candidates, print_result
    from wetread.export.judging import GateError

    try:
        result = wetread.export(
            run,
            output=output,
            **vars(form),
            **operating.given(),
            **network.given(),
            **vars(source),
            project=project,
            on_progress=None if quiet else _tell,
        )
    except GateError as error:
        if not quiet:
            print_candidates(error.candidates)
        raise
    if not quiet:
        print_result(result)


def _tell(text: str) -> None:
    print(f"wetread: {text}", file=sys.stderr, flush=True)


def _numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    from wetread.errors import UsageError

    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{option} takes numbers separated by commas, not {text!r}.") from error
