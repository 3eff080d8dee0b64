"""Which way imports may point, proven in fresh interpreters."""

from __future__ import annotations

import ast
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
}
MAY_IMPORT = {
    "errors": set(),
    "environment": set(),
    "runtime": {"errors", "environment", "runtime"},
    "cluster": {"errors", "runtime", "cluster"},
    "evaluate": {"errors", "runtime", "evaluate"},
    "backend": {"errors", "environment"},
    "heads": set(),
    "train": {"errors", "environment", "backend", "heads", "runtime", "evaluate", "train"},
    "bundle": {"errors", "runtime", "bundle"},
    "export": {"errors", "environment", "backend", "heads", "runtime", "evaluate", "export"},
    "demo": {"errors", "runtime", "evaluate", "train", "export", "demo"},
}


def loaded_by(code: str) -> set[str]:
    """The top-level packages that a fresh interpreter has loaded after some code."""
    script = f"{code}\nimport sys; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("code", ["import wetread", "import wetread.cli", "import wetread.errors"])
def test_the_front_door_loads_nothing_heavy(code):
    assert loaded_by(code) & (HEAVY | {"numpy", "cv2", "onnxruntime"}) == set()


def test_the_runtime_loads_only_what_a_workstation_has():
    modules = [f"wetread.runtime.{path.stem}" for path in (PACKAGE / "runtime").glob("*.py")]
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
