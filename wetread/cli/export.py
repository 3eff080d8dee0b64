"""`wetread export`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from wetread.cli.app import app
from wetread.cli.options import Project, SourceOptions, expand_options

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from wetread.evaluate.held_out import OperatingRequest
    from wetread.export.candidates import Candidate
    from wetread.export.convert import ExportOptions, ExportResult, NetworkDescription
    from wetread.export.forms.source import NetworkSource


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
    max_flips: Annotated[
        float, typer.Option(metavar="X", help="int8, float16: largest fraction of labels that may change.")
    ] = 0.005
    max_auc_change: Annotated[
        float, typer.Option(metavar="X", help="int8, float16: largest change of the AUC that is accepted.")
    ] = 0.002


@dataclass(frozen=True, kw_only=True)
class OperatingOptions:
    """The threshold between two labels. With a RUN, it is chosen on held-out patients."""

    panel: ClassVar[str] = "Threshold"

    threshold_rule: Annotated[
        str | None,
        typer.Option(
            metavar="RULE",
            help="Choose the threshold again on the run's held-out patients: balanced, sensitivity>=0.95, "
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
        typer.Option(metavar="X|fit", help="Set the temperature, or fit it again on the held-out patients."),
    ] = None
    uncertain_band: Annotated[
        str | None,
        typer.Option(
            metavar="RULE", help="Results to mark as uncertain: images 0.05, errors 0.5, width 1 (in logits)."
        ),
    ] = None

    def request(self) -> OperatingRequest:
        """Return what to compute on the run's held-out patients. Raises UsageError."""
        from wetread.errors import UsageError
        from wetread.evaluate.held_out import FIT, OperatingRequest

        number: float | str | None = self.temperature
        if self.temperature not in (None, FIT):
            try:
                number = float(self.temperature)
            except ValueError as error:
                raise UsageError(
                    f"--temperature takes a number or '{FIT}', not {self.temperature!r}."
                ) from error
        return OperatingRequest(
            rule=self.threshold_rule,
            prevalence=self.prevalence,
            temperature=number,
            band=self.uncertain_band,
        )


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
            metavar="LABEL", help="With --keras: the positive one of two labels; default: the last by name."
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

    def describe(self) -> NetworkDescription | None:
        """Return the description of the network, or None without --keras. Raises UsageError."""
        from wetread.errors import UsageError
        from wetread.export.convert import NetworkDescription

        if self.keras is None:
            if self != KerasOptions():
                raise UsageError(
                    "--labels, --scale and the other options of --keras cannot be used with a RUN: its files "
                    "already say how it was trained."
                )
            return None
        return NetworkDescription(
            labels=_find_labels(self.labels, self.keras),
            positive=self.positive,
            threshold=self.threshold,
            scale=_numbers(self.scale, "--scale"),
            offset=_numbers(self.offset, "--offset") or (0.0,),
            mean=_numbers(self.mean, "--mean"),
            std=_numbers(self.std, "--std"),
            color=self.color,
            resize=self.resize or "stretch",
            size=None if self.size is None else (self.size, self.size),
            head=self.head,
            pipeline=self.pipeline,
            resize_kernel=self.resize_kernel,
            preprocessing=self.preprocessing,
        )


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
    from wetread.errors import UsageError
    from wetread.export.candidates import Gate, GateError
    from wetread.export.convert import ExportOptions, list_companions
    from wetread.runtime.gcs.billing import bill_project
    from wetread.runtime.gcs.mirror import RUN_FILES, stage_file, stage_folder

    if (run is None) == (network.keras is None):
        raise UsageError("Give either a RUN or --keras NETWORK: one of them, not both or neither.")
    if network.keras is None and source != SourceOptions():
        raise UsageError("--weights, --custom and --output-name belong to --keras: a RUN needs none of them.")
    options = ExportOptions(
        precision=form.precision,
        calibration=form.calibration,
        gate=Gate(max_flips=form.max_flips, max_auc_change=form.max_auc_change),
        sign=form.sign,
        with_activation=form.with_activation,
        scope=form.scope,
        operating=operating.request(),
        on_progress=None if quiet else _tell,
    )
    if network.keras is not None and operating != OperatingOptions():
        raise UsageError(
            "--threshold-rule, --prevalence, --temperature and --uncertain-band cannot be used with --keras: "
            "they need the held-out predictions of a RUN. Give --threshold."
        )
    description = network.describe()
    try:
        with (
            bill_project(project),
            stage_folder(run or "", names=RUN_FILES) as staged,
            stage_file(output, companions=[path.name for path in list_companions(output)]) as file,
        ):
            opened = None if network.keras is None else source.make(network.keras)
            result = _export(run and staged.folder, opened, description, file.path, options)
    except GateError as error:
        if not quiet:
            _print_candidates(error.candidates)
        raise
    if not quiet:
        _print_result(result, file.name_of)


def _export(
    run: str | None,
    keras: NetworkSource | None,
    description: NetworkDescription | None,
    output: str,
    options: ExportOptions,
) -> ExportResult:
    from wetread.export.convert import export_keras, export_run

    if keras is not None and description is not None:
        return export_keras(keras, network_description=description, output=output, options=options)
    return export_run(run or "", output=output, options=options)


def _tell(text: str) -> None:
    print(f"wetread: {text}", file=sys.stderr, flush=True)


def _find_labels(labels: str | None, keras: str) -> tuple[str, ...]:
    """The labels as given, or those that stand in a file beside the network, as Teachable Machine "
    "leaves it."""
    from wetread.errors import UsageError
    from wetread.export.forms.labels import read_labels

    if labels:
        return tuple(label.strip() for label in labels.split(","))
    found = read_labels(keras)
    if found is None:
        raise UsageError(
            "--keras needs --labels A,B,..., in the order of the network's outputs: it has no labels.txt "
            "beside it."
        )
    _tell(f"labels, in this order, from {found.path}: {', '.join(found.labels)}")
    return found.labels


def _numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    from wetread.errors import UsageError

    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{option} takes numbers separated by commas, not {text!r}.") from error


def _print_candidates(candidates: Sequence[Candidate]) -> None:
    from wetread.cli.tables import print_table

    header = ("form", "flips", "change of AUC", "mean |dp|", "kB", "speed", "safe", "holds")
    rows = [
        (
            f"{'* ' if found.chosen else '  '}{found.name}",
            f"{found.flips} of {found.images}",
            "-" if found.auc_change is None else f"{found.auc_change:+.4f}",
            f"{found.mean_difference:.1e}",
            f"{found.size / 1e3:.0f}",
            f"{found.speedup:.2f} x" if found.speedup else "-",
            "yes" if found.safe else "NO",
            "yes" if found.holds else "NO",
        )
        for found in candidates
    ]
    print_table(header, rows)


def _describe_difference(result: ExportResult) -> list[tuple[str, str]]:
    """The difference between the written form and Keras, and that of the float32 form it was made from."""
    text = f"max |dp| {result.difference:.1e} from Keras over {result.compared:,} images"
    chosen = next((candidate for candidate in result.candidates if candidate.chosen), None)
    if chosen is None:
        return [("conversion", text)]
    own = (
        f"max |dp| {chosen.max_difference:.1e} from Keras, {chosen.flips:,} labels flip, over "
        f"{chosen.images:,} held-out images"
    )
    return [(result.spec.precision, own), ("float32", f"{text} (not written)")]


def _print_result(result: ExportResult, name_of: Callable[[Path], str]) -> None:
    from wetread.cli.tables import print_rows
    from wetread.runtime.model.description import describe_spec

    if result.candidates:
        _print_candidates(result.candidates)
        print()
    shown = {"decision", "uncertain", "temperature"}
    shown |= set() if result.spec.scope is None else {"scope", "scope unlike"}
    rows = [
        ("model", f"{name_of(result.path)} ({result.size:,} bytes, {result.spec.precision})"),
        *_describe_difference(result),
        *(row for row in describe_spec(result.spec) if row[0] in shown),
        ("digest", result.spec.digest),
    ]
    if result.report:
        rows.append(("candidates", name_of(result.report)))
    if result.signature:
        rows.append(("signature", name_of(result.signature)))
    rows += [("note", note) for note in result.notes]
    print_rows(rows)
