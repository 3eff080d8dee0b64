"""Which way imports may point, proven in fresh interpreters."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "wetread"
HEAVY = {
    "tensorflow",
    "keras",
    "tf2onnx",
    "onnx",
    "google",
    "obstore",
    "pydicom",
    "sklearn",
    "matplotlib",
    "pyarrow",
    "cryptography",
    "optuna",
    "ray",
    "pynetdicom",
    "highdicom",
    "starlette",
    "uvicorn",
}
# What the rooms that need Keras import besides their own kind.
NEEDS = {
    "errors",
    "environment",
    "keyword_functions",
    "packages",
    "keras_backend",
    "output_activation",
    "runtime",
}
MAY_IMPORT = {
    "errors": set(),
    "environment": set(),
    "keyword_functions": set(),
    "packages": {"errors"},
    "runtime": {"errors", "environment", "packages", "runtime"},
    "cluster": {"errors", "packages", "runtime", "cluster"},
    "evaluate": {"errors", "keyword_functions", "runtime", "evaluate"},
    "keras_backend": {"errors", "environment", "packages", "standard_streams"},
    "output_activation": set(),
    "train": {
        "errors",
        "environment",
        "keyword_functions",
        "packages",
        "keras_backend",
        "output_activation",
        "runtime",
        "evaluate",
        "train",
    },
    "review": {"errors", "packages", "runtime", "evaluate", "review"},
    "bundle": {"errors", "packages", "runtime", "bundle"},
    "export": {
        "errors",
        "environment",
        "keyword_functions",
        "packages",
        "keras_backend",
        "output_activation",
        "runtime",
        "evaluate",
        "export",
    },
    "node": {"errors", "packages", "runtime", "node"},
    "demo": {"errors", "runtime", "evaluate", "train", "export", "demo"},
}


# The rooms of the runtime, lowest first: a module imports from rooms before its own, or from its own.
RUNTIME_ORDER = (
    "wording",
    "entries",
    "processor",
    "allocator",
    "threads",
    "machine",
    "files",
    "images",
    "gcs",
    "sources",
    "model",
    "scoring",
    "watch",
    "shards",
    "explain",
    "overlay",
    "explanation_picture",
    "doctor",
)


def loaded_by(code: str) -> set[str]:
    """The top-level packages that a fresh interpreter has loaded after some code."""
    script = f"{code}\nimport sys; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("code", ["import wetread", "import wetread.cli", "import wetread.errors"])
def test_the_front_door_loads_nothing_heavy(code):
    assert loaded_by(code) & (HEAVY | {"numpy", "cv2", "onnxruntime"}) == set()


def test_the_runtime_loads_only_what_a_workstation_has():
    modules = sorted(name for name in list_modules() if name.startswith("wetread.runtime"))
    loaded = loaded_by("\n".join(f"import {name}" for name in modules))
    assert loaded & (HEAVY | {"onnxruntime"}) == set()
    assert loaded >= {"numpy", "cv2", "simplejpeg"}


def test_help_loads_nothing_heavy():
    code = "from wetread.cli import run\nassert run(['--help']) == 0\nassert run(['score', '--help']) == 0"
    assert loaded_by(code) & (HEAVY | {"numpy", "cv2", "onnxruntime"}) == set()


def test_scoring_loads_no_tensorflow(toy_model, image_folder):
    code = (
        f"from wetread import Classifier\nlist(Classifier({str(toy_model)!r}).score({str(image_folder)!r}))"
    )
    loaded = loaded_by(code)
    assert "onnxruntime" in loaded
    assert loaded & HEAVY == set()


def imported_rooms(path: Path) -> set[str]:
    """The rooms of wetread that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("wetread.")}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_point_one_way(room):
    place = PACKAGE / room
    files = list(place.rglob("*.py")) if place.is_dir() else [PACKAGE / f"{room}.py"]
    assert files
    wrong = {str(f.relative_to(PACKAGE)): imported_rooms(f) - MAY_IMPORT[room] for f in files}
    assert {name: rooms for name, rooms in wrong.items() if rooms} == {}


def list_modules() -> dict[str, Path]:
    """Every module of the package and its file."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(("wetread", *path.relative_to(PACKAGE).with_suffix("").parts))
        found[name.removesuffix(".__init__")] = path
    return found


def imported_modules(path: Path, modules: dict[str, Path]) -> set[str]:
    """The modules of the package that a file imports: inside functions and for type checking as well."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {module for name in names if (module := find_module(name, modules))}


def find_module(name: str, modules: dict[str, Path]) -> str:
    """The module that a dotted name is, or is in; '' for what is not the package's."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name


def test_no_import_cycle():
    modules = list_modules()
    graph = {name: imported_modules(path, modules) - {name, "wetread"} for name, path in modules.items()}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) > 100  # raises CycleError, naming it


def test_the_rooms_of_the_runtime_point_one_way():
    modules = list_modules()
    wrong = []
    for name, path in modules.items():
        if not name.startswith("wetread.runtime."):
            continue
        room = name.split(".")[2]
        for other in imported_modules(path, modules):
            if other.startswith("wetread.runtime."):
                place = other.split(".")[2]
                if RUNTIME_ORDER.index(place) > RUNTIME_ORDER.index(room):
                    wrong.append(f"{name} imports {other}")
    assert wrong == []


def test_the_runtime_has_few_entries():
    shown = {path.name for path in (PACKAGE / "runtime").iterdir() if not path.name.startswith("__pycache__")}
    assert shown == {"__init__.py"} | {
        name if (PACKAGE / "runtime" / name).is_dir() else f"{name}.py" for name in RUNTIME_ORDER
    }
