"""Run every step in a few minutes: draw, train, export, compare, score without TensorFlow, verify.

This package may import all others. Each step prints the equivalent `wetread` command.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from wetread.demo.blocked_imports import TRAINING_PACKAGES, run_without_training
from wetread.demo.events import DemoResult, OnStep, Places, Teller
from wetread.demo.events import describe_event as describe_event
from wetread.demo.inbox import Scored, check_scores, fill_inbox, list_inbox, list_split
from wetread.demo.phantoms import draw_dataset
from wetread.errors import ExportError, MachineError, OutputError, SetupError

if TYPE_CHECKING:
    from wetread.train.config import TrainConfig

GROUP_REGEX = r"(phantom\d+)-"
"""The regular expression that finds the patient in a phantom's name."""

_MARK = ".wetread-demo"
_SOME_WITHOUT_SCORE = 3
# Number of the user's images: enough to learn something, few enough for minutes.
_SUBSET = 2000


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """The size of a demo. The defaults take a few minutes on two cores and learn the phantoms."""

    pictures: int = 600
    fresh: int = 60
    epochs: int = 16
    architecture: str = "edge"
    seed: int = 0


def run_demo(
    folder: str | Path, *, data: str | Path | None = None, on_step: OnStep, options: DemoOptions | None = None
) -> DemoResult:
    """Run every step in `folder`, with drawn phantoms or with the labelled folders of `data`.

    A folder of an earlier demo is emptied first. `on_step` is called with each event. Raises OutputError for
    a folder that holds something else, and what the steps raise (DatasetError, ExportError, ...).
    """
    start, options = perf_counter(), options or DemoOptions()
    places = Places.under(Path(folder), data=None if data is None else Path(data))
    prepare_folder(places)
    tell = Teller(on_step)
    if data is None:
        with tell.step(f"Draw {options.pictures} chest phantoms: X-rays of no real person"):
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
    """Make the demo's folder, or empty that of an earlier demo.

    Raises OutputError for a folder that holds something else, such as the user's images: the demo must not
    delete it.
    """
    folder, data = places.folder.resolve(), places.data.resolve()
    if places.data != places.folder / "data" and data.is_relative_to(folder):
        raise OutputError(
            f"The demo empties {places.folder}, and {places.data} is inside it. Choose another --output."
        )
    if folder.exists():
        if not (folder / _MARK).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
            raise OutputError(
                f"{places.folder} exists and is not from an earlier demo, so it is not emptied. Choose "
                "another --output."
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
    with tell.step("Train a small CNN, each patient in train or in validation", *command):
        metrics: dict[str, Any] = train(config, on_event=listen).metrics["validation"]
    return metrics


def make_config(places: Places, options: DemoOptions, *, drawn: bool) -> TrainConfig:
    """Return the training configuration of a demo: for phantoms, or for the user's own images."""
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
    from wetread.export import ExportOptions, GateError, export_run

    with tell.step("Export to ONNX", "export", places.run, "--output", places.model):
        found = export_run(places.run, output=places.model)
        tell.say(
            f"{places.model.name}: {found.size:,} bytes; largest difference from Keras {found.difference:.1e}"
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
            f"{places.int8.name}: {small.size:,} bytes ({small.size / found.size:.0%}); form {form['form']}; "
            f"{form['flips']} of {form['images']} labels differ from Keras"
        )
    return ""


def _compare(places: Places, models: list[Path], tell: Teller, *, drawn: bool) -> None:
    """Compare the files with Keras, on all images or, for the user's own, on the validation images."""
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
            raise ExportError(f"{', '.join(map(str, models))} and Keras give different results.")


def _score(places: Places, model: Path, options: DemoOptions, tell: Teller, *, drawn: bool) -> Scored:
    """Score the new images in a Python without TensorFlow, and compare with the expected results."""
    if drawn:
        inbox = fill_inbox(places.inbox, count=options.fresh, seed=options.seed)
    else:
        inbox = list_inbox(places.inbox, run=places.run, data=places.data, count=options.fresh)
    command = ("score", *inbox.arguments, "--model", str(model), "--output", str(places.scores), "--quiet")
    with tell.step("Score a folder of new images and broken files, without TensorFlow", *command[:-1]):
        tell.say(f"in a Python that cannot import {', '.join(TRAINING_PACKAGES)}")
        done = run_without_training(command)
        if done.returncode != _SOME_WITHOUT_SCORE:
            raise SetupError(
                f"`wetread score` ended with exit code {done.returncode} instead of {_SOME_WITHOUT_SCORE} "
                f"(some files are broken): {done.stderr.strip()[-500:]}"
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
            f"Verify {model.name}: does this machine compute its recorded results?", "verify", model
        ):
            report = verify_model(model)
            for check in report.checks:
                tell.say(f"{'ok' if check.passed else 'FAILED'}: {check.name}: {check.received}")
            if not report.passed:
                raise MachineError(f"{model} failed a check on this machine: run `wetread verify` with it.")
