"""The whole way in a few minutes: draw, train, export, compare, score without TensorFlow, verify.

The one room that may call all the others. Each step names the `wetread` command that does the same.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from wetread.demo.events import DemoResult, OnStep, Places, Teller
from wetread.demo.events import describe_event as describe_event
from wetread.demo.inbox import Scored, check_scores, fill_inbox, list_inbox, list_split
from wetread.demo.isolation import TRAINING_PACKAGES, run_without_training
from wetread.demo.phantoms import draw_dataset
from wetread.errors import ExportError, MachineError, OutputError, SetupError

if TYPE_CHECKING:
    from wetread.train.config import TrainConfig

GROUP_REGEX = r"(phantom\d+)-"
"""What finds the patient in a phantom's name."""

_MARK = ".wetread-demo"
_SOME_WITHOUT_SCORE = 3
# Of the user's images: enough to learn something, few enough for minutes.
_SUBSET = 2000


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """How much to do. The defaults take a few minutes on two cores and learn the phantoms."""

    pictures: int = 600
    fresh: int = 60
    epochs: int = 16
    architecture: str = "edge"
    seed: int = 0


def run_demo(
    folder: str | Path, *, data: str | Path | None = None, on_step: OnStep, options: DemoOptions | None = None
) -> DemoResult:
    """Walk the whole way in `folder`, with drawn phantoms or with the labelled folders of `data`.

    A folder that an earlier demo made is emptied first. `on_step` is told what happens. Raises OutputError
    for a folder that holds something else, and what the steps raise (DatasetError, ExportError, ...).
    """
    start, options = perf_counter(), options or DemoOptions()
    places = Places.under(Path(folder), data=None if data is None else Path(data))
    prepare_folder(places)
    tell = Teller(on_step)
    if data is None:
        with tell.step(f"Draw {options.pictures} chest phantoms: X-rays of nobody"):
            draw_dataset(places.data, count=options.pictures, seed=options.seed)
            tell.say(f"{places.data}/NORMAL and {places.data}/PNEUMONIA, one to three")
    metrics = _train(places, options, tell, drawn=data is None)
    refusal = _export(places, tell)
    models = [places.model] if refusal else [places.model, places.int8]
    _compare(places, models, tell, drawn=data is None)
    scored = _score(places, models[-1], options, tell, drawn=data is None)
    _verify(models, tell)
    return DemoResult(
        places=places,
        int8=None if refusal else places.int8,
        refusal=refusal,
        metrics=metrics,
        scored=scored,
        seconds=perf_counter() - start,
    )


def prepare_folder(places: Places) -> None:
    """Make the demo's folder, or empty one that an earlier demo made.

    Raises OutputError for a folder that holds something else, the user's images above all: it is not the
    demo's to delete.
    """
    folder, data = places.folder.resolve(), places.data.resolve()
    if places.data != places.folder / "data" and data.is_relative_to(folder):
        raise OutputError(
            f"Expected images outside {places.folder}, which the demo empties. Received {places.data}."
        )
    if folder.exists():
        if not (folder / _MARK).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
            raise OutputError(
                f"Expected a new folder, or one that an earlier demo made. Received {places.folder}, which "
                "is something else. Choose another --output."
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / _MARK).write_text("wetread demo empties this folder when it runs again.\n", encoding="utf-8")


def _train(places: Places, options: DemoOptions, tell: Teller, *, drawn: bool) -> dict[str, Any]:
    """Train, and return the metrics of the validation images."""
    from wetread.train.events import DataFound, EpochEnded, describe_event
    from wetread.train.fit import train

    config = make_config(places, options, drawn=drawn)

    def listen(event: object) -> None:
        if isinstance(event, DataFound | EpochEnded):
            for line in describe_event(event).splitlines():
                tell.say(line)

    given = ["--group-regex", GROUP_REGEX, "--augment", "light", "--learning-rate", config.learning_rate]
    more = [*given, "--validation", config.validation] if drawn else ["--subset", config.subset]
    command = ("train", places.data, "--output", places.run, "--epochs", config.epochs, *more)
    with tell.step("Train a small CNN, patients on one side of the split", *command):
        metrics: dict[str, Any] = train(config, on_event=listen).metrics["validation"]
    return metrics


def make_config(places: Places, options: DemoOptions, *, drawn: bool) -> TrainConfig:
    """The training configuration of a demo: for phantoms, or for the user's own images."""
    from wetread.train.config import TrainConfig

    config = TrainConfig(
        data=str(places.data),
        output=str(places.run),
        architecture=options.architecture,
        epochs=options.epochs,
        seed=options.seed,
    )
    if not drawn:
        return replace(config, subset=_SUBSET)
    return replace(config, group_regex=GROUP_REGEX, augment="light", learning_rate=2e-3, validation=0.2)


def _export(places: Places, tell: Teller) -> str:
    """Export float32 and int8. Returns why there is no int8 file, or ''."""
    from wetread.export.convert import ExportOptions, export_run
    from wetread.export.judging import GateError

    with tell.step("Export to ONNX", "export", places.run, "--output", places.model):
        found = export_run(places.run, output=places.model)
        tell.say(
            f"{found.path.name}: {found.size:,} bytes; largest difference from Keras {found.difference:.1e}"
        )
    command = ("export", places.run, "--output", places.int8, "--precision", "int8")
    with tell.step("Export to int8, calibrated on training images", *command):
        try:
            small = export_run(places.run, output=places.int8, options=ExportOptions(precision="int8"))
        except GateError as error:
            tell.say(str(error))
            return str(error)
        form = small.spec.quantization
        tell.say(
            f"{small.path.name}: {small.size:,} bytes ({small.size / found.size:.0%}); form {form['form']}; "
            f"{form['flips']} of {form['images']} labels differ from Keras"
        )
    return ""


def _compare(places: Places, models: list[Path], tell: Teller, *, drawn: bool) -> None:
    """Hold the files against Keras, on the data or, of the user's own, on the validation images."""
    from wetread.export.parity import measure_parity

    held_out = list_split(places.run, data=places.data, split="val")
    images = [places.data] if drawn else [Path(name) for name in held_out]
    command = ("parity", places.run, *models, "--images", places.data) if drawn else ()
    with tell.step("Compare Keras and ONNX, from image files", *command):
        report = measure_parity(places.run, models=models, images=images)
        tell.say(f"{report.images} images")
        for one in report.models:
            tell.say(
                f"{Path(one.path).name}: largest |dp| {one.max_difference:.1e}, {one.flips} labels differ, "
                f"{one.milliseconds:.2f} ms an image on one core (Keras {report.keras_milliseconds:.2f})"
            )
        if not report.passed:
            raise ExportError(f"Expected {', '.join(map(str, models))} to agree with Keras. Received others.")


def _score(places: Places, model: Path, options: DemoOptions, tell: Teller, *, drawn: bool) -> Scored:
    """Score what arrived, in a Python that has no TensorFlow, and hold it against what is known."""
    if drawn:
        inbox = fill_inbox(places.inbox, count=options.fresh, seed=options.seed)
    else:
        inbox = list_inbox(places.inbox, run=places.run, data=places.data, count=options.fresh)
    command = ("score", *inbox.arguments, "--model", str(model), "--output", str(places.scores), "--quiet")
    with tell.step("Score a fresh folder, broken files among it, without TensorFlow", *command[:-1]):
        tell.say(f"in a Python that cannot import {', '.join(TRAINING_PACKAGES)}")
        done = run_without_training(command)
        if done.returncode != _SOME_WITHOUT_SCORE:
            raise SetupError(
                f"Expected exit code {_SOME_WITHOUT_SCORE} (broken files among them) of `wetread score`. "
                f"Received {done.returncode}: {done.stderr.strip()[-500:]}"
            )
        scored = check_scores(places.scores, inbox)
        statuses = ", ".join(f"{count} {status}" for status, count in sorted(scored.statuses.items()))
        tell.say(f"{scored.rows} rows for {scored.rows} files: {statuses}")
        whose = "drawn" if drawn else "of their folders"
        tell.say(f"{scored.agreed} of {scored.pictures} labels are those {whose}")
    return scored


def _verify(models: list[Path], tell: Teller) -> None:
    """Check each file on this machine."""
    from wetread.runtime.model.verify import verify_model

    for model in models:
        with tell.step(
            f"Verify {model.name}: does this machine compute what its author saw?", "verify", model
        ):
            report = verify_model(model)
            for check in report.checks:
                tell.say(f"{'ok' if check.passed else 'FAILED'}: {check.name}: {check.received}")
            if not report.passed:
                raise MachineError(f"Expected {model} to verify here. Received a failed check.")
