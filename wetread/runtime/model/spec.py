"""ModelSpec: all that a reader of an image must know, kept inside the ONNX file as JSON.

The JSON stands in the ONNX metadata under the key ``wetread.spec``. An unknown version or an unknown
field is refused by name: a reader that ignores a field it does not know computes something else.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import types
from dataclasses import dataclass, field
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ConfigError, ModelError, TamperedModelError
from wetread.runtime.images.recipe import PixelRecipe
from wetread.runtime.model.scope import Scope, strip_scope

METADATA_KEY = "wetread.spec"
# Files without a scope are of the first version, as ever: whoever cannot check a scope must refuse one.
FORMAT_VERSION, SCOPE_VERSION = 1, 2
MAX_JSON_BYTES = 20_000
NO_DIGEST = "0" * 64
# A metadata entry in the file's protobuf: field 1, the key; field 2, the value, led by its length.
_SPEC_MARK = b"\x0a" + bytes([len(METADATA_KEY)]) + METADATA_KEY.encode() + b"\x12"
_DIGEST_MARK = re.compile(rb'"digest":"([0-9a-f]{64})"')


@dataclass(frozen=True, kw_only=True)
class Golden:
    """What the model's author saw: the self-test that `wetread.runtime.model.verify` runs at every load.

    `jpeg` is the name of the drawn JPEG and `pixels` the SHA-256 of what the recipe makes of it; each of
    `seeds` draws one more input, its gray levels spread like `intensities`, 17 quantiles of the training
    images. `exact` are this file's own probabilities in exact arithmetic and `keras` those of the network
    that it came from, one row of K for each input, to 7 decimals. `unlike` are this file's own
    answers of the output of that name, one for each input, where it has one; their tolerance is a share of
    their size.
    """

    jpeg: str
    pixels: str
    seeds: tuple[int, ...]
    intensities: tuple[int, ...]
    exact: tuple[tuple[float, ...], ...]
    keras: tuple[tuple[float, ...], ...]
    exact_tolerance: float
    keras_tolerance: float
    unlike: tuple[float, ...] = ()
    unlike_tolerance: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Band:
    """The positive label's probabilities, `low` to `high`, that are too near the threshold to call.

    `rule` says how they were chosen.
    """

    low: float
    high: float
    rule: str


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """The contract of one model: labels, pixels, the decision rule, and where it comes from.

    `labels` stand in the order of the columns of `probabilities`. `scale` and `offset` (one value, or one
    for each channel) and `head` ('logits', 'sigmoid' or 'softmax': what the Keras network ends in) and
    `temperature` are inside the ONNX graph already; they stand here for people and for parity tests.
    With two labels, `positive` is chosen when its probability is at or above `threshold`; with more, the
    largest wins. Within the band `uncertain`, if there is one, the label is doubtful. `scope`, if there is
    one, says what the model is for; a spec with one is of format version 2.
    """

    labels: tuple[str, ...]
    pixels: PixelRecipe = field(default_factory=PixelRecipe)
    version: int = FORMAT_VERSION
    positive: str | None = None
    threshold: float = 0.5
    threshold_rule: str = "default"
    uncertain: Band | None = None
    scale: tuple[float, ...] = (1 / 255,)
    offset: tuple[float, ...] = (0.0,)
    head: str = "logits"
    temperature: float = 1.0
    precision: str = "float32"
    training: dict[str, Any] = field(default_factory=dict)
    quantization: dict[str, Any] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)
    scope: Scope | None = None
    golden: Golden | None = None
    digest: str = NO_DIGEST

    def __post_init__(self) -> None:
        if self.scope is not None and self.version == FORMAT_VERSION:
            object.__setattr__(self, "version", SCOPE_VERSION)
        if self.version != (FORMAT_VERSION if self.scope is None else SCOPE_VERSION):
            raise _refuse_version(self.version)
        _check_labels(self.labels)
        if len(self.labels) == 2 and self.positive is None:
            object.__setattr__(self, "positive", self.labels[-1])
        if self.positive is not None and (len(self.labels) != 2 or self.positive not in self.labels):
            raise ConfigError(
                f"'positive' must be one of two labels: it is {self.positive!r}, and the labels are "
                f"{', '.join(self.labels)}."
            )
        if not 0 <= self.threshold <= 1:
            raise ConfigError(f"The threshold must be from 0 to 1, not {self.threshold}.")
        if self.uncertain is not None:
            _check_band(self.uncertain, self.threshold, positive=self.positive)
        if not self.temperature > 0:
            raise ConfigError(f"The temperature must be above 0, not {self.temperature}.")
        if self.head not in ("logits", "sigmoid", "softmax"):
            raise ConfigError(f"'head' must be logits, sigmoid or softmax, not {self.head!r}.")
        for name in ("scale", "offset"):
            if len(getattr(self, name)) not in (1, self.pixels.channels):
                raise ConfigError(
                    f"'{name}' must hold one number, or one for each of {self.pixels.channels} channels, "
                    f"not {len(getattr(self, name))}."
                )

    @property
    def positive_index(self) -> int | None:
        """The column of the positive label; None with more than two labels."""
        return None if self.positive is None else self.labels.index(self.positive)

    def decide(self, probabilities: NDArray[np.float32]) -> NDArray[np.intp]:
        """Choose a label for each row.

        `probabilities`: float32 (N, K), 0 to 1. Returns intp (N,), columns of `labels`.
        """
        if self.positive_index is None:
            largest: NDArray[np.intp] = np.argmax(probabilities, axis=1)
            return largest
        yes = probabilities[:, self.positive_index] >= np.float32(self.threshold)
        return np.where(yes, self.positive_index, 1 - self.positive_index).astype(np.intp)

    def find_uncertain(self, probabilities: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Tell which rows, float32 (N, K), lie in the band around the threshold. Returns bool (N,)."""
        if self.uncertain is None or self.positive_index is None:
            return np.zeros(len(probabilities), bool)
        shown = probabilities[:, self.positive_index]
        low, high = np.float32(self.uncertain.low), np.float32(self.uncertain.high)
        within: NDArray[np.bool_] = (low <= shown) & (shown <= high)
        return within

    def to_json(self) -> str:
        """Write the compact JSON that stands in the ONNX metadata.

        Raises ModelError when it is longer than 20,000 bytes.
        """
        values = dataclasses.asdict(self) | {"pixels": self.pixels.to_dict()}
        if self.uncertain is None:
            del values["uncertain"]  # a reader that does not know the band needs none
        text = json.dumps(strip_scope(values), separators=(",", ":"), ensure_ascii=True)
        if len(text) > MAX_JSON_BYTES:
            raise ModelError(f"The spec is too long: {len(text):,} bytes; the limit is {MAX_JSON_BYTES:,}.")
        return text

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Read a spec. Raises ModelError naming what is unknown, missing or malformed."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ModelError(f"The spec is not valid JSON: {error}.") from error
        if isinstance(values, dict):
            _check_version(values)
        try:
            return build_dataclass(cls, values)
        except ConfigError as error:
            raise ModelError(f"This wetread does not understand the model's spec. {error}") from error


def _check_version(values: dict[str, Any]) -> None:
    """Raise ModelError for a version that is unknown, or that its fields are not of."""
    version = values.get("version", FORMAT_VERSION)
    if version not in (FORMAT_VERSION, SCOPE_VERSION) or (version == SCOPE_VERSION) != ("scope" in values):
        raise _refuse_version(version)


def _refuse_version(version: Any) -> ModelError:
    return ModelError(
        f"The model has format version {version!r}. This wetread reads version {FORMAT_VERSION}, and "
        f"{SCOPE_VERSION} with a scope. Use the wetread that wrote it, or export it again."
    )


def _check_labels(labels: tuple[str, ...]) -> None:
    if len(labels) < 2 or len(set(labels)) != len(labels) or not all(labels):
        raise ConfigError(f"A model needs two or more different labels, not {', '.join(labels) or 'none'}.")


def _check_band(band: Band, threshold: float, *, positive: str | None) -> None:
    if positive is None:
        raise ConfigError("Only a model with two labels can have the band 'uncertain'.")
    if not 0 <= band.low <= threshold <= band.high <= 1:
        raise ConfigError(
            f"The band 'uncertain' must lie between 0 and 1 and contain the threshold {threshold}: it is "
            f"{band.low} to {band.high}."
        )


T = TypeVar("T")


def build_dataclass(kind: type[T], values: Any) -> T:
    """Build a (nested, frozen) dataclass from parsed JSON, strictly.

    Raises ConfigError naming a field that is unknown, missing or of another type.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{kind.__name__} must be a JSON object, not {values!r}.")
    hints = get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name in values:
        if name not in fields:
            raise ConfigError(
                f"Unknown field '{name}' in {kind.__name__}: a newer wetread may know it. This one knows: "
                f"{', '.join(fields)}."
            )
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise ConfigError(f"{kind.__name__} lacks the field '{name}'.")
    return kind(**{name: _convert(value, hints[name], name) for name, value in values.items()})


def _convert(value: Any, hint: Any, name: str) -> Any:
    """One JSON value as the type that a dataclass field declares."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in get_args(hint):
            return None
        return _convert(value, next(a for a in get_args(hint) if a is not type(None)), name)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_convert(item, get_args(hint)[0], name) for item in value)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return build_dataclass(hint, value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    expected = origin or hint
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        raise ConfigError(f"'{name}' must be {getattr(hint, '__name__', hint)}, not {value!r}.")
    return value


def extract_spec(model: bytes, *, name: str) -> ModelSpec:
    """Read the spec from a model's bytes, without onnx or onnxruntime.

    Raises ModelError when there is none, or one that this version does not know.
    """
    at = model.find(_SPEC_MARK)
    if at < 0:
        raise ModelError(
            f"{name}: not a model that wetread exported: its metadata have no '{METADATA_KEY}'. Export it "
            "with `wetread export`, or copy it again: it may be cut."
        )
    start = at + len(_SPEC_MARK)
    size = shift = 0
    while start < len(model):
        byte = model[start]
        start, size, shift = start + 1, size | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            break
    if start + size > len(model):
        raise ModelError(f"{name}: the file is cut: it ends within its '{METADATA_KEY}'. Copy it again.")
    try:
        return ModelSpec.from_json(model[start : start + size].decode("utf-8"))
    except (ModelError, ConfigError, UnicodeDecodeError) as error:
        raise ModelError(f"{name}: {error}") from error


def read_spec(model: bytes, *, name: str) -> ModelSpec:
    """Read the spec as `extract_spec` does; of bytes that changed, say that rather than what they say now.

    Raises ModelError, and TamperedModelError where there is a spec no more and the digest is another.
    """
    try:
        return extract_spec(model, name=name)
    except ModelError as error:
        try:
            check_digest(model, name=name)
        except TamperedModelError as changed:
            raise changed from error
        except ModelError:
            pass  # no digest either: what extract_spec said is nearer
        raise


def compute_digest(model: bytes) -> str:
    """SHA-256 (64 hex characters) of a model's bytes with the digest's own characters zeroed.

    Raises ModelError when the bytes hold no digest field, or more than one.
    """
    found = [match.span(1) for match in _DIGEST_MARK.finditer(model)]
    if len(found) != 1:
        raise ModelError(
            f"Not a model that wetread exported: it has {len(found)} digests instead of one. Export it "
            "with `wetread export`, or copy it again: it may be cut."
        )
    start, end = found[0]
    view = memoryview(model)
    digest = hashlib.sha256(view[:start])
    digest.update(NO_DIGEST.encode())
    digest.update(view[end:])
    return digest.hexdigest()


def stamp_digest(model: bytes) -> bytes:
    """Return the model's bytes with their digest written into the spec's zeroed field."""
    digest = compute_digest(model)
    start, end = next(_DIGEST_MARK.finditer(model)).span(1)
    return model[:start] + digest.encode() + model[end:]


def check_digest(model: bytes, *, name: str) -> str:
    """Return the digest of a model's bytes. Raises TamperedModelError when it is not the one inside."""
    try:
        digest = compute_digest(model)
    except ModelError as error:
        raise ModelError(f"{name}: {error}") from error
    written = next(_DIGEST_MARK.finditer(model)).group(1).decode()
    if digest != written:
        raise TamperedModelError(
            f"{name}: the file changed after it was exported: its digest is {digest[:12]}..., not "
            f"{written[:12]}... Copy it again from where it was made."
        )
    return digest
