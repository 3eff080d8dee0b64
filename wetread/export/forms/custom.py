"""The owner's own code, where a network needs it: imported because they said so, and only then."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from wetread.errors import ConfigError


def import_custom(text: str) -> dict[str, Any]:
    """Run the owner's module and return its classes and functions by name.

    `text`: 'module', 'module:Name,Name', or the same with the path of a .py file. A module is looked for in
    the current folder first, as `python -m` does. Raises ConfigError.
    """
    place, names = split_custom(text)
    module = _import_file(Path(place)) if place.endswith(".py") else _import_module(place)
    found = {
        name: value
        for name, value in vars(module).items()
        if callable(value) and not name.startswith("__") and not isinstance(value, ModuleType)
    }
    if not names:
        return found
    missing = [name for name in names if name not in found]
    if missing:
        raise ConfigError(
            f"--custom {place} lacks {missing[0]!r}: it has "
            f"{', '.join(sorted(found)[:8]) or 'no class and no function'}."
        )
    return {name: found[name] for name in names}


def split_custom(text: str) -> tuple[str, tuple[str, ...]]:
    """'module:A,B' as ('module', ('A', 'B')); a drive's colon, as in C:\\my.py, belongs to the path."""
    place, _, names = text.rpartition(":") if ".py:" in text or not text.endswith(".py") else (text, "", "")
    if not place:
        place, names = names, ""
    return place, tuple(name.strip() for name in names.split(",") if name.strip())


def _import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"wetread_custom_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ConfigError(f"--custom {path} does not exist.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with _beside(str(path.absolute().parent)):
        _run(lambda: spec.loader.exec_module(module), str(path))
    return module


def _import_module(name: str) -> ModuleType:
    with _beside(os.getcwd()):
        module: ModuleType = _run(lambda: importlib.import_module(name), name)
    return module


class _beside:  # noqa: N801 - a context manager, which reads as a function
    """Let a module import what is in a folder, for as long as it is imported itself."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        sys.path.insert(0, self._folder)

    def __exit__(self, *_: object) -> None:
        sys.path.remove(self._folder)


def _run(work: Any, name: str) -> Any:
    try:
        return work()
    except Exception as error:
        raise ConfigError(
            f"--custom {name} cannot be imported: {type(error).__name__}: "
            f"{' '.join(str(error).split())[:300]}. Check it: it is looked for in {os.getcwd()} and then in "
            "Python's own path."
        ) from error


def call_custom(config: Any, custom: Mapping[str, Any], *, function: Callable[[str], dict[str, Any]]) -> None:
    """Let each Lambda layer for whose name the owner gave a function call that, not the code in the file.

    Changes a network's description in place. `function`: how the reading Keras writes that a layer calls the
    function of a name.
    """
    if isinstance(config, dict):
        inner = config.get("config")
        if config.get("class_name") == "Lambda" and isinstance(inner, dict) and inner.get("name") in custom:
            inner.update(function(inner["name"]))
        config = list(config.values())
    for value in config if isinstance(config, list) else ():
        call_custom(value, custom, function=function)
