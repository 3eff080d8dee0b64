"""The owner's own way from a file to probabilities: what a model is judged beside, if it is given.

Keras and the model file read their pixels alike, by wetread, so a comparison of the two cannot see pixels
that were made otherwise in training. An owner's code, or Keras' own loader, can.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ExportError
from wetread.export import network
from wetread.export.loading import Loaded, load_images
from wetread.export.pipelines import LOADERS, Pipeline, read_pipeline
from wetread.export.user_function import import_function
from wetread.keras_backend import import_keras
from wetread.runtime.entries import is_bucket_location
from wetread.runtime.model.spec import ModelSpec

Reference = str | Callable[[str], Any]
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Answers:
    """What the owner's code says of some files.

    `probabilities`: float64 (N, K). `mean`, `largest`: how far its pixels are from the model's for each file,
    in levels of 255; None where it shows no pixels. `named`: every answer said which label is which.
    """

    probabilities: NDArray[np.float64]
    named: bool = False
    mean: NDArray[np.float64] | None = None
    largest: NDArray[np.float64] | None = None


@dataclass(frozen=True, kw_only=True)
class Owner:
    """An owner's code. `answer`: names of files and the model's pixels of them to Answers.

    `whole`: it is all of the owner's way, and not its loader alone. `scales`: it scales its pixels itself.
    `labels`: those that it has of its own, in its order.
    """

    name: str
    answer: Callable[[Sequence[str], NDArray[np.uint8]], Answers]
    whole: bool
    scales: bool
    labels: tuple[str, ...] | None = None


def is_own_code(name: str) -> bool:
    """Whether a reference's name is that of a function, not of a loader."""
    return name.partition(",")[0] not in LOADERS and ":" in name


def open_owner(reference: Reference, *, wrapped: Any, spec: ModelSpec) -> Owner:
    """Open an owner's code: a function, its name `module:function`, or a pipeline's name.

    `wrapped`: the network in Keras, which answers for a pipeline. Raises ExportError and ConfigError.
    """
    if isinstance(reference, str) and reference.partition(",")[0] in LOADERS:
        pipeline = read_pipeline(reference)
        _need_colors(pipeline, spec)
        return Owner(
            name=pipeline.name,
            answer=lambda names, pixels: _answer_by_keras(names, pixels, pipeline, wrapped, spec),
            whole=False,
            scales=pipeline.preprocessing is not None,
        )
    if isinstance(reference, str) and ":" not in reference:
        raise ExportError(
            f"The reference {reference!r} is unknown. Use {', '.join(LOADERS)}, or module:function."
        )
    function = import_function(reference) if isinstance(reference, str) else reference
    labels = getattr(function, "class_names", None) or getattr(function, "labels", None)
    return Owner(
        name=reference if isinstance(reference, str) else getattr(function, "__name__", repr(function)),
        answer=lambda names, pixels: _answer_by_function(names, function, spec),
        whole=True,
        scales=True,
        labels=None if labels is None else tuple(map(str, labels)),
    )


def _answer_by_function(names: Sequence[str], function: Callable[[str], Any], spec: ModelSpec) -> Answers:
    _need_local(names)
    rows, named = [], True
    for name in names:
        try:
            value = function(name)
        except Exception as error:
            raise ExportError(
                f"Expected the reference to answer for {name}. It raised {type(error).__name__}: "
                f"{' '.join(str(error).split())[:300]}. Make it answer, or leave the file out of --images."
            ) from error
        rows.append(read_answer(value, spec, name=name))
        named &= isinstance(value, Mapping)
    return Answers(_set_temperature(np.stack(rows), spec), named)


def _set_temperature(probabilities: NDArray[np.float64], spec: ModelSpec) -> NDArray[np.float64]:
    """What an owner's probabilities are at the file's temperature, which is the file's own choice."""
    if spec.temperature == 1:
        return probabilities
    return network.apply_head(np.clip(probabilities, 0, 1), dataclasses.replace(spec, head="softmax"))


def read_answer(value: Any, spec: ModelSpec, *, name: str) -> NDArray[np.float64]:
    """One answer as probabilities, float64 (K,) in the order of the spec's labels.

    `value`: a mapping of labels to probabilities, an array of K, or one number: that of the second label.
    Raises ExportError for what is none of these.
    """
    if isinstance(value, Mapping):
        if set(map(str, value)) != set(spec.labels):
            raise ExportError(
                f"The reference must name the labels {', '.join(spec.labels)}; for {name} it names "
                f"{', '.join(map(str, value))}."
            )
        value = [{str(label): number for label, number in value.items()}[label] for label in spec.labels]
    row = np.asarray(value, np.float64).reshape(-1)
    if len(row) == 1 and len(spec.labels) == 2:
        row = np.array([1 - row[0], row[0]])
    if len(row) != len(spec.labels) or not np.isfinite(row).all():
        raise ExportError(
            f"The reference must return {len(spec.labels)} probabilities, one for each label, or one for "
            f"two; for {name} it returned {np.shape(value)}: {str(value)[:100]}."
        )
    if row.min() < -_SUM_TOLERANCE or abs(row.sum() - 1) > _SUM_TOLERANCE:
        raise ExportError(
            f"The reference must return probabilities that sum to 1; for {name} it returned {row.tolist()}: "
            "are they logits? Return tf.nn.softmax or tf.sigmoid of them."
        )
    return row


def _answer_by_keras(
    names: Sequence[str], pixels: NDArray[np.uint8], pipeline: Pipeline, wrapped: Any, spec: ModelSpec
) -> Answers:
    """Load by the pipeline's own code, preprocess, and ask Keras; the file's scale where it has no mode."""
    _need_local(names)
    loaded = load_images(names, pipeline, spec.pixels)
    ours = pixels[..., ::-1] if spec.pixels.color == "bgr" else pixels
    off = np.abs(np.clip(loaded, 0, 255) - ours).reshape(len(names), -1)
    inputs = _preprocess(loaded, pipeline, spec)
    with network.quiet():
        outputs = [
            np.asarray(wrapped.predict_on_batch(inputs[start : start + 32]), np.float64)
            for start in range(0, len(inputs), 32)
        ]
    probabilities = network.apply_head(np.concatenate(outputs), spec)
    return Answers(
        probabilities, mean=off.mean(axis=1, dtype=np.float64), largest=off.max(axis=1).astype(np.float64)
    )


def _preprocess(loaded: Loaded, pipeline: Pipeline, spec: ModelSpec) -> Loaded:
    if pipeline.preprocessing is not None:
        keras = import_keras()
        done: Loaded = keras.applications.imagenet_utils.preprocess_input(
            loaded.copy(), mode=pipeline.preprocessing, data_format="channels_last"
        )
        return done
    scale, offset = np.array(spec.scale, np.float32), np.array(spec.offset, np.float32)
    ordered = loaded[..., ::-1] if spec.pixels.color == "bgr" else loaded
    return ordered * scale + offset


def _need_colors(pipeline: Pipeline, spec: ModelSpec) -> None:
    if pipeline.preprocessing in ("caffe", "torch") and spec.pixels.channels != 3:
        raise ExportError(
            f"The preprocessing {pipeline.preprocessing} needs a color model; this one takes gray images."
        )


def _need_local(names: Sequence[str]) -> None:
    if names and is_bucket_location(names[0]):
        raise ExportError(
            f"A reference opens files by path, so they must be on this disk; {names[0]} is not. "
            "Copy them here, and give their folder with --images."
        )
