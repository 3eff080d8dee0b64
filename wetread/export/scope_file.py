"""The file that says what a model is for: TOML, read strictly.

purpose = "Frontal chest X-rays of children of one to five years"

[unlike]
find = ["turned", "negative", "mirrored"]

[dicom.Modality]
one_of = ["CR", "DX"]
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wetread.errors import ConfigError
from wetread.runtime.model.scope import AttributeRule, Scope, check_changes
from wetread.runtime.model.spec import build_dataclass

KEEP = 0.99


@dataclass(frozen=True, kw_only=True)
class UnlikeRequest:
    """What is asked of the output `unlike`: the changes to find, and the share of held-out images to keep."""

    find: tuple[str, ...] = ()
    keep: float = KEEP

    def __post_init__(self) -> None:
        check_changes(self.find)
        if not 0.5 <= self.keep < 1:
            raise ConfigError(f"'keep' must be at least 0.5 and below 1, not {self.keep}.")


@dataclass(frozen=True, kw_only=True)
class ScopeRequest:
    """A scope as its file asks for it: the words and rules, and the measure that is fitted; None without."""

    scope: Scope
    unlike: UnlikeRequest | None


def read_scope(file: str | os.PathLike[str]) -> ScopeRequest:
    """Read a scope's file. Raises ConfigError naming the file and what is unknown, missing or malformed."""
    try:
        values = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The scope file {os.fspath(file)} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"{os.fspath(file)} is not valid TOML: {error}.") from error
    try:
        return build_request(values)
    except ConfigError as error:
        raise ConfigError(f"{os.fspath(file)}: {error}") from error


def build_request(values: dict[str, Any]) -> ScopeRequest:
    """Build a scope from parsed TOML. Raises ConfigError."""
    unknown = sorted({*values} - {"purpose", "unlike", "dicom"})
    if unknown:
        raise ConfigError(f"Unknown: {', '.join(unknown)}. A scope has 'purpose', 'unlike' and 'dicom'.")
    purpose, unlike, rules = values.get("purpose", ""), values.get("unlike", {}), values.get("dicom", {})
    if not isinstance(purpose, str) or not isinstance(rules, dict):
        raise ConfigError("'purpose' must be a text, and 'dicom' hold tables [dicom.KEYWORD].")
    attributes = tuple(
        build_dataclass(AttributeRule, {"keyword": keyword, **_need_table(rule, f"dicom.{keyword}")})
        for keyword, rule in rules.items()
    )
    request = None if unlike is False else build_dataclass(UnlikeRequest, _need_table(unlike, "unlike"))
    return ScopeRequest(scope=Scope(purpose=purpose, attributes=attributes), unlike=request)


def _need_table(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict) or "keyword" in value:
        raise ConfigError(f"[{name}] must be a table of rules, not {value!r}.")
    return value
