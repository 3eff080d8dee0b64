"""The scope of a model, that is, what it is for: in words, by DICOM attributes, by similarity of images."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wetread.errors import ConfigError

INSIDE, OUTSIDE = "inside", "outside"
UNLIKE = "unlike the training images"
# The attributes that a rule may name: group and element, and the type (VR).
ATTRIBUTES: Mapping[str, tuple[int, str]] = {
    "ImageType": (0x00080008, "CS"),
    "SOPClassUID": (0x00080016, "UI"),
    "Modality": (0x00080060, "CS"),
    "ConversionType": (0x00080064, "CS"),
    "PresentationIntentType": (0x00080068, "CS"),
    "PatientAge": (0x00101010, "AS"),
    "BodyPartExamined": (0x00180015, "CS"),
    "ViewPosition": (0x00185101, "CS"),
}
# Changes of an image that can be detected by undoing them, and their names in messages.
CHANGES: Mapping[str, str] = {
    "turned": "turned by 90 or 180 degrees",
    "negative": "a negative",
    "mirrored": "mirrored",
}
_AGE = re.compile(r"(\d{3})([DWMY])")
_DAYS = {"D": 1.0, "W": 7.0, "M": 365.25 / 12, "Y": 365.25}


@dataclass(frozen=True, kw_only=True)
class AttributeRule:
    """The values that one DICOM attribute must or must not have.

    `one_of`: it must have one of these values; `none_of`: it must have none of them. A value with `\\` means
    neighbouring values: DERIVED\\SECONDARY. `least` and `most` limit an age: 001Y, 018M. An attribute that is
    absent or empty satisfies the rule, unless it is `required`.
    """

    keyword: str
    one_of: tuple[str, ...] = ()
    none_of: tuple[str, ...] = ()
    least: str | None = None
    most: str | None = None
    required: bool = False

    def __post_init__(self) -> None:
        if self.keyword not in ATTRIBUTES:
            raise ConfigError(
                f"A scope cannot use the attribute {self.keyword!r}. Use one of "
                f"{', '.join(sorted(ATTRIBUTES))}."
            )
        is_age = ATTRIBUTES[self.keyword][1] == "AS"
        if is_age == bool(self.one_of or self.none_of) or is_age != bool(self.least or self.most):
            wanted = "'least' or 'most'" if is_age else "'one_of' or 'none_of'"
            if is_age or self.least or self.most or not self.required:
                raise ConfigError(f"The rule for {self.keyword} must have {wanted}, and nothing else.")
        for age in filter(None, (self.least, self.most)):
            if count_days(age) is None:
                raise ConfigError(
                    f"The rule for {self.keyword} needs an age such as 001Y or 018M, not {age!r}."
                )

    def describe(self) -> str:
        """Describe the rule in a few words."""
        parts = [f"one of {', '.join(self.one_of)}"] if self.one_of else []
        parts += [f"none of {', '.join(self.none_of)}"] if self.none_of else []
        parts += [f"from {self.least}"] if self.least else []
        parts += [f"to {self.most}"] if self.most else []
        return ", ".join([*parts, "required"] if self.required else parts)


@dataclass(frozen=True, kw_only=True)
class Unlike:
    """How an image that is unlike the training images is detected: by the graph's output `unlike`.

    An image is outside if the output is above `threshold`, under which the share `kept` of the held-out
    images stays inside. `method` and `features`: what the output is computed from; `images`: on how many
    images it was fitted, and on how many the threshold was chosen. `changes`: changes that it was also fitted
    to find (turned, negative, mirrored), which the runtime names by undoing them.
    """

    threshold: float
    method: str
    features: tuple[str, ...]
    images: tuple[int, ...]
    kept: float
    changes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.threshold > 0:
            raise ConfigError(f"The threshold of 'unlike' must be above 0, not {self.threshold}.")
        check_changes(self.changes)


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What a model is for. `purpose` is for people; the other fields are checked for each input."""

    purpose: str
    attributes: tuple[AttributeRule, ...] = ()
    unlike: Unlike | None = None

    def __post_init__(self) -> None:
        if not self.purpose.strip():
            raise ConfigError("The scope has no 'purpose'. Say in words what the model is for.")
        names = [rule.keyword for rule in self.attributes]
        if len(set(names)) != len(names):
            raise ConfigError(
                f"Each attribute may have only one rule, and the rules are for {', '.join(names)}."
            )


def check_changes(changes: tuple[str, ...]) -> None:
    """Raise ConfigError for a change that cannot be detected."""
    unknown = [name for name in changes if name not in CHANGES]
    if unknown or len(set(changes)) != len(changes):
        raise ConfigError(
            f"The changes to find must be {', '.join(CHANGES)}, each at most once, not {', '.join(changes)}."
        )


def count_days(age: str) -> float | None:
    """Return the days of a DICOM age (AS) such as 018M; None for another text."""
    found = _AGE.fullmatch(age)
    return None if found is None else int(found[1]) * _DAYS[found[2]]


def find_breach(rule: AttributeRule, values: list[str]) -> str:
    """Describe how an attribute's values break a rule; '' if they satisfy it.

    `values`: in the form of their type, or empty. An age is not repeated, because it is a patient's.
    """
    if not values:
        return f"{rule.keyword} is missing" if rule.required else ""
    if rule.least or rule.most:
        return _find_age_breach(rule, values[0])
    said = "\\".join(values)
    if rule.one_of and not any(_holds(values, wanted) for wanted in rule.one_of):
        return f"{rule.keyword} is {said}, not {' or '.join(rule.one_of)}"
    refused = next((other for other in rule.none_of if _holds(values, other)), None)
    return f"{rule.keyword} is {said}" if refused is not None else ""


def _find_age_breach(rule: AttributeRule, age: str) -> str:
    days = count_days(age)
    low, high = (count_days(bound) if bound else None for bound in (rule.least, rule.most))
    if days is None or (low is not None and days < low) or (high is not None and days > high):
        return f"{rule.keyword} is not {rule.describe().removesuffix(', required')}"
    return ""


def _holds(values: list[str], wanted: str) -> bool:
    """Whether the parts of a wanted value are neighbours among the values."""
    parts = [part.strip().upper() for part in wanted.split("\\")]
    found = [value.strip().upper() for value in values]
    return any(found[at : at + len(parts)] == parts for at in range(len(found) - len(parts) + 1))


def strip_scope(values: dict[str, Any]) -> dict[str, Any]:
    """Remove empty scope fields from a spec's JSON, so that a file without a scope keeps its bytes."""
    if values["scope"] is None:
        del values["scope"]
    elif values["scope"]["unlike"] is None:
        del values["scope"]["unlike"]
    golden = values["golden"]
    if golden is not None and not golden["unlike"]:
        del golden["unlike"], golden["unlike_tolerance"]
    return values
