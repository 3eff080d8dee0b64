"""Predictions as lines for people: the best labels first, with their probabilities.

inbox/phantom001-1.png: NORMAL 72.3%, PNEUMONIA 27.7%; in scope
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from itertools import chain

from wetread.errors import SourceError, Status, UsageError
from wetread.runtime.entries import is_bucket_location
from wetread.runtime.files.long_paths import reach
from wetread.runtime.images.limits import MAX_MEMORY
from wetread.runtime.model.scope import INSIDE
from wetread.runtime.model.spec import ModelSpec
from wetread.runtime.scoring.batches import score_entries
from wetread.runtime.scoring.classifier import Classifier
from wetread.runtime.scoring.rows import Prediction
from wetread.runtime.sources.opening import open_sources
from wetread.runtime.wording import make_printable


def check_images(images: Sequence[str]) -> None:
    """Refuse folders and buckets, which `score` takes. Raises UsageError."""
    for name in images:
        kind = "in a bucket" if is_bucket_location(name) else "a folder"
        if is_bucket_location(name) or os.path.isdir(reach(name)):
            raise UsageError(
                f"predict takes image files, and {name!r} is {kind}. Score it with: "
                f"wetread score {shlex.quote(name)}"
            )


def predict_images(
    classifier: Classifier, images: Sequence[str], *, max_memory: int = MAX_MEMORY
) -> Iterator[Prediction]:
    """Yield one Prediction for each image file or match of a glob, in the order given.

    A broken file is a Prediction with a status. Raises UsageError for a folder or a bucket, and SourceError
    for a name that does not exist or a glob that matches nothing.
    """
    check_images(images)
    source = open_sources(images)
    entries = source.entries()
    first = next(entries, None)
    if first is None:
        raise SourceError(f"There is no image: {source.explain_empty()}. Check the name.")
    return score_entries(classifier, chain((first,), entries), read=source.read, max_memory=max_memory)


def rank_labels(prediction: Prediction, spec: ModelSpec, *, top: int) -> list[tuple[str, float]]:
    """Return up to `top` labels with their probabilities: the chosen one, then the most probable; [] without.

    The chosen label of two is not the more probable one where the model's threshold is not 0.5.
    """
    pairs = list(zip(spec.labels, prediction.probabilities, strict=False))
    return sorted(pairs, key=lambda pair: (pair[0] != prediction.label, -pair[1]))[:top]


def describe_prediction(prediction: Prediction, spec: ModelSpec, *, top: int = 3) -> str:
    """Write one line: the path, the best labels or the status, and whether it is in the model's scope.

    Characters that a terminal would not show, such as a line break in a name, are written as escapes.
    """
    if prediction.status != Status.OK:
        return make_printable(f"{prediction.path}: {prediction.status}. {prediction.error}")
    ranked = rank_labels(prediction, spec, top=top)
    text = ", ".join(f"{label} {write_percent(value)}" for label, value in ranked)
    notes = [text + _explain_choice(prediction, spec), *_list_notes(prediction)]
    return make_printable(f"{prediction.path}: {'; '.join(notes)}")


def write_percent(probability: float) -> str:
    """Write a probability as a percentage; only 0 and 1 themselves are '0.0%' and '100.0%'."""
    text = f"{probability:.1%}"
    if text == "100.0%" and probability < 1:
        return ">99.9%"
    return "<0.1%" if text == "0.0%" and probability > 0 else text


def _explain_choice(prediction: Prediction, spec: ModelSpec) -> str:
    """Name the threshold where the chosen label is not the more probable one."""
    if prediction.probability == max(prediction.probabilities) or spec.positive is None:
        return ""
    return f" (the threshold of {spec.positive} is {write_percent(spec.threshold)})"


def _list_notes(prediction: Prediction) -> Iterator[str]:
    """What the model says besides: too close to its threshold, in or out of its scope."""
    if prediction.uncertain:
        yield "uncertain: close to the threshold"
    if prediction.scope is not None:
        yield "in scope" if prediction.scope == INSIDE else f"out of scope: {prediction.scope_reason}"
