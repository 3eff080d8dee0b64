"""Import Keras on TensorFlow late and without its log lines; `train` and `export` use it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from wetread.environment import keep_home_clean
from wetread.errors import ConfigError
from wetread.packages import importing
from wetread.standard_streams import open_missing


def import_keras() -> Any:
    """Import Keras on TensorFlow. Raises MissingExtraError, and ConfigError on another backend."""
    keep_home_clean()
    with importing("tensorflow", extra="train"), _hushed():
        import tensorflow  # noqa: F401
    with importing("keras", extra="train"):
        import keras

    if keras.backend.backend() != "tensorflow":
        raise ConfigError(
            f"Keras runs on {keras.backend.backend()!r} here, and wetread needs TensorFlow. "
            "Set KERAS_BACKEND=tensorflow."
        )
    return keras


@contextmanager
def _hushed() -> Iterator[None]:
    """Silence standard error while TensorFlow loads: no log level stops its lines about absent GPUs."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "tensorflow" in sys.modules:
        yield
        return
    open_missing()  # a program of the user's may run without standard streams, too
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
