"""Describe a model file for people, without starting a session."""

from __future__ import annotations

import os
from typing import Any

from wetread.runtime.images.recipe import PixelRecipe
from wetread.runtime.model.file_reading import read_model
from wetread.runtime.model.scope import CHANGES, Scope, Unlike
from wetread.runtime.model.spec import ModelSpec, check_digest, read_spec
from wetread.runtime.wording import pluralize

_HELD_OUT, _GROUP = "held_out", "group"


def inspect_model(model: str | os.PathLike[str]) -> tuple[ModelSpec, int]:
    """Read a model file's spec and size in bytes. Raises ModelError, or TamperedModelError."""
    data, name = read_model(model)
    spec = read_spec(data, name=name)
    check_digest(data, name=name)
    return spec, len(data)


def describe_spec(spec: ModelSpec) -> list[tuple[str, str]]:
    """Return a spec as rows of name and value."""
    return [
        ("labels", ", ".join(spec.labels)),
        ("decision", _describe_decision(spec)),
        *_describe_band(spec),
        *_describe_scope(spec.scope),
        ("pixels", _describe_pixels(spec.pixels)),
        ("scaling", f"pixel x {_numbers(spec.scale)} + {_numbers(spec.offset)}, inside the graph"),
        ("temperature", f"{spec.temperature:g}, inside the graph"),
        ("precision", spec.precision),
        *_describe_fields("training", spec.training),
        *_describe_fields("quantization", spec.quantization),
        ("made with", ", ".join(f"{name} {version}" for name, version in spec.tools.items()) or "unknown"),
        ("golden test", f"{len(spec.golden.exact)} inputs" if spec.golden else "none"),
        ("digest", spec.digest),
    ]


def _describe_decision(spec: ModelSpec) -> str:
    if spec.positive is None:
        return "the label with the largest probability"
    return f"{spec.positive} when its probability is >= {spec.threshold:g} (rule: {spec.threshold_rule})"


def _describe_band(spec: ModelSpec) -> list[tuple[str, str]]:
    band = spec.uncertain
    if band is None:
        return []
    return [("uncertain", f"{spec.positive} from {band.low:g} to {band.high:g} (rule: {band.rule})")]


def _describe_scope(scope: Scope | None) -> list[tuple[str, str]]:
    if scope is None:
        return [("scope", "none: the model cannot say which images it is not made for")]
    rows = [("scope", scope.purpose)]
    rows += [(f"scope {rule.keyword}", rule.describe()) for rule in scope.attributes]
    return [*rows, ("scope unlike", _describe_unlike(scope.unlike))]


def _describe_unlike(unlike: Unlike | None) -> str:
    if unlike is None:
        return "not measured"
    changes = f"; finds {', '.join(CHANGES[name] for name in unlike.changes)}" if unlike.changes else ""
    fitted, held_out = (f"{count:,}" for count in unlike.images)
    return (
        f"{unlike.method} of {', '.join(unlike.features)}, fitted on {fitted} images; outside above "
        f"{unlike.threshold:g}, which keeps {unlike.kept:.1%} of {held_out} held-out images{changes}"
    )


def _describe_pixels(recipe: PixelRecipe) -> str:
    parts = [
        f"{recipe.width} x {recipe.height} {recipe.color}, {recipe.resize}",
        f"orientation {recipe.orientation}",
        f"kernel {recipe.kernel}",
        f"JPEG decoded at >= {recipe.scaled_decoding:g} x"
        if recipe.scaled_decoding
        else "JPEG decoded in full",
    ]
    usual = PixelRecipe()
    parts += [
        f"{name} {getattr(recipe, name)}"
        for name in ("gray", "depth", "alpha", "dct", "equalize")
        if getattr(recipe, name) != getattr(usual, name)
    ]
    return ", ".join(parts)


def _describe_fields(group: str, values: dict[str, Any]) -> list[tuple[str, str]]:
    rows = {name: _say(value) for name, value in values.items() if name != _HELD_OUT}
    if isinstance(held_out := values.get(_HELD_OUT), dict):
        word = pluralize(str(values.get(_GROUP, "patient")))  # what the images are grouped by
        names = {name: word if name == "patients" else name for name in held_out}
        rows |= {f"{_HELD_OUT} {names[name]}": _say_held_out(value) for name, value in held_out.items()}
    return [(f"{group} {name}".replace("_", " "), value) for name, value in rows.items()]


def _say_held_out(value: Any) -> str:
    """Format a metric of held-out images: a pair is before and after temperature, three are an interval."""
    if not isinstance(value, list):
        return _say(value)
    if len(value) == 3:
        return "{}, 95% {} to {}".format(*value)
    return "{} at temperature 1, {} at its own".format(*value) if len(value) == 2 else _say(value)


def _say(value: Any) -> str:
    """Format a value of a spec's free fields: numbers, words, lists and tables of them."""
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_say(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(_say, value)) or "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)
