"""What a comparison with Keras takes for granted: labels, pixels, scale, offset, head; and who says so.

A `.keras` file says none of it. A RUN does, in spec.json, and a model file of that RUN must say the same:
with its own labels in another order, or its own scale, it would agree with Keras on the wrong answers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wetread.errors import ExportError
from wetread.export.forms.file_kinds import NETWORK_FILES
from wetread.runtime.images.recipe import PixelRecipe
from wetread.runtime.model.description import describe_spec
from wetread.runtime.model.spec import ModelSpec
from wetread.runtime.scoring.classifier import Classifier

RUN, MODEL = "the RUN's spec.json", "the model file"
_SHARED = ("labels", "pixels", "scale", "offset", "head", "temperature")
_CLOSE = 1e-6  # of a scale: what is written with ten digits is the same in float32


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a comparison takes for granted. `source`: who says so; of the temperature, always the files."""

    source: str
    labels: tuple[str, ...]
    positive: str | None
    pixels: PixelRecipe
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    head: str
    temperature: float

    def describe_parts(self) -> dict[str, str]:
        """Labels, pixels, scale (with the offset) and head, each in words."""
        values = {name: getattr(self, name) for name in (*_SHARED, "positive")}
        rows = dict(describe_spec(ModelSpec(**values)))
        positive = "" if self.positive is None else f" (positive: {self.positive})"
        return {
            "labels": f"labels {rows['labels']}{positive}",
            "pixels": rows["pixels"],
            "scale": rows["scaling"],
            "head": f"head {self.head}",
        }


def read_run_spec(run: Path) -> ModelSpec:
    """The spec that training wrote into a RUN directory. Raises ExportError."""
    try:
        text = (run / "spec.json").read_text(encoding="utf-8")
    except OSError as error:
        if _learned_views(run):
            raise ExportError(
                f"The network in {run} was trained without labels, and answers nothing yet. Train on labels "
                f"with: wetread train DATA --output RUN --weights {run}"
            ) from error
        raise ExportError(
            f"{run} is not a finished RUN directory: its spec.json cannot be read: {error.strerror}. "
            "Finish it with `wetread train --resume`."
        ) from error
    return ModelSpec.from_json(text)


def _learned_views(run: Path) -> bool:
    """Whether a RUN is of `wetread pretrain`."""
    try:
        options = json.loads((run / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(options, dict) and options.get("objective") == "views"


def agree_terms(reference: str | os.PathLike[str], classifiers: Sequence[Classifier]) -> Terms:
    """The terms that model files share, and that those of a RUN have from it.

    `reference`: a RUN directory, or a network alone, which holds them to nothing. Raises ExportError naming
    the field that differs.
    """
    _need_one_network(classifiers)
    run = Path(reference)
    if is_run(run):
        expected = read_run_spec(run)
        for classifier in classifiers:
            _hold_to_run(classifier, expected, run)
    spec = classifiers[0].spec
    values = {name: getattr(spec, name) for name in (*_SHARED, "positive")}
    return Terms(source=RUN if is_run(run) else MODEL, **values)


def is_run(path: Path) -> bool:
    """Whether a path is a RUN directory: other folders are networks themselves."""
    return path.is_dir() and not any((path / name).is_file() for name in NETWORK_FILES)


def _need_one_network(classifiers: Sequence[Classifier]) -> None:
    first = classifiers[0]
    for classifier in classifiers[1:]:
        for name in _SHARED:
            one, other = getattr(first.spec, name), getattr(classifier.spec, name)
            if one != other:
                raise ExportError(
                    f"The models are not of one network: {first.name} has {name} {one}, and "
                    f"{classifier.name} has {other}. Compare them one at a time."
                )


def _hold_to_run(classifier: Classifier, expected: ModelSpec, run: Path) -> None:
    for name, wanted in _lay_out(expected).items():
        found = _lay_out(classifier.spec)[name]
        if not _is_same(wanted, found):
            raise ExportError(
                f"{classifier.name} does not have the {name} of {run / 'spec.json'}: {_say(found)} instead "
                "of "
                f"{_say(wanted)}. Export the RUN again: `wetread export {run}`."
            )


def _lay_out(spec: ModelSpec) -> dict[str, Any]:
    """What a RUN's model files must have from it, by name; scale and offset one for each channel."""
    channels = spec.pixels.channels
    return {
        "labels": spec.labels,
        "positive label": spec.positive,
        **{f"pixels' {name}": value for name, value in asdict(spec.pixels).items()},
        "scale": np.broadcast_to(spec.scale, channels),
        "offset": np.broadcast_to(spec.offset, channels),
        "head": spec.head,
    }


def _is_same(wanted: Any, found: Any) -> bool:
    if isinstance(wanted, np.ndarray):
        return wanted.shape == found.shape and np.allclose(found, wanted, rtol=_CLOSE, atol=1e-9)
    return bool(wanted == found)


def _say(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return ", ".join(f"{number:.9g}" for number in value)
    return ", ".join(value) if isinstance(value, tuple) else str(value)
