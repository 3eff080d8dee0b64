"""Find the model that made some scores: by the record beside them, and by the model file."""

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
    """A model as far as it is known: `digest` ('' if not), `spec`, and `file`, its path if it was found."""

    name: str = ""
    digest: str = ""
    spec: ModelSpec | None = None
    file: str | None = None


def find_model(head: Mapping[str, Any], model: str | None) -> KnownModel:
    """Find the model that made the scores. `head`: the record beside the scores; `model`: the user's choice.

    Without `model`, the file that the record names, or the packaged model, is taken if its digest is that in
    the record. Raises UsageError if `model` is not the one in the record, and ModelError.
    """
    recorded = _read_head(head)
    if model is not None:
        named = _read_file(model)
        if recorded.digest and named.digest != recorded.digest:
            raise UsageError(
                f"{model} (digest {named.digest[:12]}) did not make these scores: they are from "
                f"{recorded.name or 'a file'} (digest {recorded.digest[:12]}). Name that model, or leave out "
                "--model."
            )
        return named
    for candidate in _list_candidates(recorded):
        try:
            found = _read_file(candidate)
        except WetreadError:  # it was moved or has changed; the scores can be read without it
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
    """Read the record of a finished or a running run. A damaged one gives an empty KnownModel."""
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
    """Read the spec in a record, without its self-test; None if it is of another version."""
    try:
        return build_dataclass(ModelSpec, {**spec, "golden": None})
    except WetreadError:
        return None
