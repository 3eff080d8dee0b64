"""Check whether an input is in the model's scope: the columns `scope` and `scope_reason`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wetread.errors import Status, UsageError
from wetread.runtime.images.dicom import looks_like_dicom
from wetread.runtime.model.scope import ATTRIBUTES, INSIDE, OUTSIDE, UNLIKE, Unlike, find_breach
from wetread.runtime.model.spec import ModelSpec
from wetread.runtime.scoring.rows import SCOPE, SCOPE_REASON, UNCERTAIN, Prediction

if TYPE_CHECKING:
    from wetread.runtime.images.dicom.values import DicomObject

Images = NDArray[np.uint8]
# For each change that a scope can name: what the reason says, and how the change is undone.
_UNDONE: dict[str, tuple[tuple[str, Callable[[Images], Images]], ...]] = {
    "turned": (
        ("turned by 90 degrees to the right", lambda image: np.rot90(image)),
        ("turned by 180 degrees", lambda image: np.rot90(image, 2)),
        ("turned by 90 degrees to the left", lambda image: np.rot90(image, 3)),
    ),
    "negative": (("a negative", lambda image: np.invert(image)),),
    "mirrored": (("mirrored", lambda image: image[:, ::-1]),),
}


class Judge(Protocol):
    """The part of a model that the scope check uses."""

    spec: ModelSpec

    def judge(self, images: Images) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Compute probabilities (N, K) and the output `unlike` (N,): how unlike training images each is."""
        ...


def check_scope(spec: ModelSpec) -> None:
    """Check that a model has a scope. Raises UsageError."""
    if spec.scope is None:
        raise UsageError(
            "--refuse-outside needs a model with a scope, and this one has none. Export it with "
            "--scope FILE.toml."
        )


class AttributeCheck:
    """Checks files' DICOM attributes against the rules of a model's scope.

    A file that is not DICOM, or is damaged before its pixels, breaks no rule.
    """

    def __init__(self, spec: ModelSpec, *, max_memory: int) -> None:
        self._rules = () if spec.scope is None else spec.scope.attributes
        self._max_memory = max_memory

    @property
    def has_rules(self) -> bool:
        """Whether there is anything to check."""
        return bool(self._rules)

    def parse(self, data: bytes | DicomObject | Images) -> bytes | DicomObject | Images:
        """Parse a DICOM file once, for its attributes and its pixels, if there are rules."""
        if not self._rules or not isinstance(data, bytes) or not looks_like_dicom(data):
            return data
        from wetread.runtime.images.dicom.tags import parse_once

        return parse_once(data, max_memory=self._max_memory)

    def find_breaches(self, data: bytes | DicomObject | Images) -> str:
        """Describe how the result of `parse` breaks the rules; '' if it does not."""
        if not self._rules or isinstance(data, bytes | np.ndarray):
            return ""
        from wetread.runtime.images.dicom.tags import Tag, read_tags

        found = read_tags(data, [Tag(rule.keyword, *ATTRIBUTES[rule.keyword]) for rule in self._rules])
        breaches = (find_breach(rule, _split(found[rule.keyword])) for rule in self._rules)
        return "; ".join(filter(None, breaches))


def _split(said: str | None) -> list[str]:
    return [] if said is None else said.split("\\")


def find_reason(model: Judge, data: bytes, pixels: Images, *, max_memory: int) -> str | None:
    """Describe why a file is outside the scope; '' inside, None if the model has no scope.

    `data`: the file's bytes; `pixels`: uint8 (H, W, C), from `read_input`.
    """
    scope = model.spec.scope
    if scope is None:
        return None
    unlike = None if scope.unlike is None else model.judge(pixels[None])[1]
    check = AttributeCheck(model.spec, max_memory=max_memory)
    breach = check.find_breaches(check.parse(data))
    return _list_reasons(model, pixels, breach, None if unlike is None else unlike[0])


def _list_reasons(model: Judge, image: Images, breach: str, unlike: np.float32 | None) -> str:
    """Join all reasons why an image is outside the scope, '' if there is none."""
    rule = None if model.spec.scope is None else model.spec.scope.unlike
    reasons = [breach] if breach else []
    if rule is not None and unlike is not None and exceeds(rule, unlike):
        reasons.append(tell_change(model, rule, image))
    return "; ".join(reasons)


def exceeds(rule: Unlike, unlike: Any) -> Any:
    """Tell whether one or more values of `unlike`, float32, are outside: boolean, of the same shape.

    NaN, if the graph overflows on a very unusual image, is outside too.
    """
    return np.logical_not(unlike <= np.float32(rule.threshold))


def judge_scope(
    model: Judge,
    predictions: Sequence[Prediction],
    images: Images,
    unlike: NDArray[np.float32] | None,
    breaches: Sequence[str],
) -> list[Prediction]:
    """Add to each prediction whether its input is inside the scope, and if not, why.

    `images`: uint8 (N or more, H, W, C); `unlike`: float32, as many, None if the graph has no such output;
    `breaches`: how each input's attributes break the rules.
    """
    return [
        _set_scope(prediction, _list_reasons(model, image, breach, None if unlike is None else unlike[at]))
        for at, (prediction, image, breach) in enumerate(zip(predictions, images, breaches, strict=False))
    ]


def tell_change(model: Judge, rule: Unlike, image: Images) -> str:
    """Describe why an image, uint8 (H, W, C), is unlike the training images, by undoing known changes."""
    square = image.shape[0] == image.shape[1]
    tried = [
        (name, np.ascontiguousarray(undo(image)))
        for change in rule.changes
        for name, undo in _UNDONE[change]
        if square or undo(image).shape == image.shape
    ]
    if tried:
        _, unlike = model.judge(np.stack([undone for _, undone in tried]))
        best = int(np.argmin(unlike))
        if unlike[best] <= np.float32(rule.threshold):
            return f"{UNLIKE}: looks {tried[best][0]}"
    return UNLIKE


def _set_scope(prediction: Prediction, reason: str) -> Prediction:
    scope = {SCOPE: OUTSIDE if reason else INSIDE, SCOPE_REASON: reason or None}
    return replace(prediction, optional={**prediction.optional, **scope})


def refuse_outside(predictions: Iterable[Prediction]) -> list[Prediction]:
    """Replace label and probabilities of inputs outside the scope by the status 'out_of_scope'."""
    return [_refuse(prediction) if prediction.scope == OUTSIDE else prediction for prediction in predictions]


def _refuse(prediction: Prediction) -> Prediction:
    kept = {name: value for name, value in prediction.optional.items() if name != UNCERTAIN}
    return Prediction(
        prediction.path,
        Status.OUT_OF_SCOPE,
        error=f"The model is not for this input: {prediction.scope_reason}.",
        optional=kept,
    )
