"""Results made of an object when they are to be sent: what was scored once gives the same answer again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from wetread.errors import ImageError, WetreadError, make_fault
from wetread.node.results.secondary_capture import make_capture
from wetread.node.results.source_image import Origin, read_origin
from wetread.node.results.structured_report import make_report
from wetread.node.sender import GoneError
from wetread.node.store import Store
from wetread.runtime.explain import explain_image
from wetread.runtime.images.limits import MAX_MEMORY
from wetread.runtime.images.pixels import read_input
from wetread.runtime.model.answers import check_answers
from wetread.runtime.model.scope import INSIDE, OUTSIDE
from wetread.runtime.scoring.classifier import Classifier
from wetread.runtime.scoring.rows import SCOPE, SCOPE_REASON, Prediction, make_predictions
from wetread.runtime.scoring.scope_columns import find_reason

if TYPE_CHECKING:
    from pydicom import Dataset

KINDS = ("sr", "sc")


class ResultMaker:
    """Makes the results of objects in a store."""

    def __init__(
        self,
        classifier: Classifier,
        store: Store,
        *,
        report: Callable[[str], None],
        max_memory: int = MAX_MEMORY,
    ) -> None:
        self._classifier, self._store, self._max_memory = classifier, store, max_memory
        self._report = report

    def make(self, name: str, kind: str) -> Dataset | None:
        """Make a result, 'sr' or 'sc'; None, with a report of why, where there can be none.

        Raises OSError where the object cannot be read, GoneError where somebody removed it.
        """
        try:
            data = self._store.read(name)
        except FileNotFoundError as error:
            raise GoneError from error
        try:
            return make_result(self._classifier, data, kind=kind, max_memory=self._max_memory)
        except ImageError as error:
            reason = str(error)
        except (WetreadError, OSError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - one object's fault of ours must not hold the others
            reason = str(make_fault(error))
        self._report(f"no {kind!r} is sent of {name}: {reason}")
        return None


def make_result(
    classifier: Classifier, data: bytes, *, kind: str, path: str = "", max_memory: int = MAX_MEMORY
) -> Dataset:
    """Score a DICOM file's bytes and make a result, 'sr' or 'sc'.

    Raises ImageError where it has no pixels, gets no answer or lacks what an archive files it by,
    MissingExtraError without pydicom or highdicom.
    """
    origin = read_origin(data, model_digest=classifier.digest)
    spec, name = classifier.spec, Path(classifier.name).stem
    pixels = read_input(data, spec.pixels, max_memory=max_memory)
    found = classifier.classify(pixels[None])
    check_answers(found)
    (prediction,) = make_predictions([path], found, spec)
    reason = find_reason(classifier, data, pixels, max_memory=max_memory)
    if reason is not None:
        scope = {SCOPE: OUTSIDE if reason else INSIDE, SCOPE_REASON: reason or None}
        prediction = replace(prediction, optional={**prediction.optional, **scope})
    if kind == "sr":
        return make_report(origin, prediction, spec=spec, model_name=name)
    return _capture(classifier, origin, prediction, data, name, max_memory)


def _capture(
    classifier: Classifier, origin: Origin, prediction: Prediction, data: bytes, name: str, max_memory: int
) -> Dataset:
    found = explain_image(classifier, data, label=prediction.label, max_memory=max_memory)
    return make_capture(origin, prediction, spec=classifier.spec, model_name=name, found=found)
