"""Read a model file from this disk or from a bucket."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from wetread.errors import ModelError, SourceError
from wetread.runtime.entries import is_bucket_location

if TYPE_CHECKING:
    pass


def read_model(model: str | os.PathLike[str] | bytes) -> tuple[bytes, str]:
    """Return a model's bytes and its name for messages. Raises ModelError."""
    if isinstance(model, bytes):
        return model, "the model"
    try:
        if is_bucket_location(model):
            from wetread.runtime.gcs.bucket_folder import read_file

            return read_file(model), os.fspath(model)
        return Path(model).read_bytes(), os.fspath(model)
    except SourceError as error:
        raise ModelError(str(error)) from error
    except OSError as error:
        raise ModelError(
            f"The model {os.fspath(model)!r} cannot be read: {error.strerror}. Check the name."
        ) from error
