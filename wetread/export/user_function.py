"""A function of the user's own, by its name `module:function`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from wetread.errors import ExportError


def import_function(name: str) -> Callable[..., Any]:
    """Import 'module:function', also from the current folder. Raises ExportError."""
    module, _, function = name.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ExportError(
            f"The function {name!r} was not found: {error}. It was looked for in the current folder, "
            f"{os.getcwd()}, and then in Python's own path: start wetread in the folder that holds it."
        ) from error
    finally:
        sys.path.remove(os.getcwd())
    if not callable(found):
        raise ExportError(f"{name!r} must be a function; it is a {type(found).__name__}.")
    return found  # type: ignore[no-any-return]
