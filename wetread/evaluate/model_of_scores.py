"""Which model made the scores: what the record beside them says, and the file itself where it is here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from wetread.errors import ModelError, UsageError, WetreadError
from wetread.runtime.model.file_reading import read_model
from wetread.runtime.model.packaged import choose_model
from wetread.runtime.model.spec import ModelSpec, build_dataclass, check_digest, read_spec


@dataclass(frozen=True, kw_only=True)
class KnownModel:
    """What is known of the scores' model: `digest` ('' if nothing), its spec, and `file`, if it is here."""

    name: str = ""
    digest: str = ""
    spec: ModelSpec | None = None
    file: str | None = None


def find_model(head: Mapping[str, Any], model: str | None) -> KnownModel:
    """Tell which model scored. `head`: what stands beside the scores; `model`: what the user named.

    Without a name, the model that the record names, or the packaged one, is taken where its digest is the
    record's. Raises UsageError where the user names another than the one that scored, and ModelError.
    """
    recorded = _read_head(head)
    if model is not None:
        named = _read_file(model)
        if recorded.digest and named.digest != recorded.digest:
            raise UsageError(
                f"{model} with the digest {named.digest[:12]} did not make these scores: they are from "
                f"{recorded.name or 'a file'} with the digest {recorded.digest[:12]}. Name that model, or "
                "leave --model out."
            )
        return named
    for candidate in _list_candidates(recorded):
        try:
            found = _read_file(candidate)
        except WetreadError:  # it was moved, or has changed: the scores can be looked at without it
            continue
        if recorded.digest and found.digest == recorded.digest:
            return found
    return recorded


def _list_candidates(recorded: KnownModel) -> Iterator[str]:
    if recorded.name and os.path.isfile(recorded.name):
        yield recorded.name
    try:
        yield choose_model(None)
    except ModelError:
        return


def _read_file(model: str) -> KnownModel:
    data, name = read_model(model)
    spec, digest = read_spec(data, name=name), check_digest(data, name=name)
    return KnownModel(name=name, digest=digest, spec=spec, file=model)


def _read_head(head: Mapping[str, Any]) -> KnownModel:
    """What a record, or a run under way, says. One that is damaged says nothing."""
    identity = head.get("identity")
    digest = identity.get("model") if isinstance(identity, dict) else None
    model, spec = head.get("model"), head.get("spec")
    if isinstance(model, dict):
        digest = digest or model.get("sha256")
    name = model.get("name") if isinstance(model, dict) else None
    return KnownModel(
        name=name if isinstance(name, str) else "",
        digest=digest if isinstance(digest, str) else "",
        spec=_read_spec(spec) if isinstance(spec, dict) else None,
    )


def _read_spec(spec: Mapping[str, Any]) -> ModelSpec | None:
    """The spec that a record holds, without its self-test; None where it is of another version."""
    try:
        return build_dataclass(ModelSpec, {**spec, "golden": None})
    except WetreadError:
        return None
