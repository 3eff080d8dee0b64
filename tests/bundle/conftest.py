"""Wheels that hold nothing but metadata, a folder of them that stands for an index, and a model."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runtime.model.test_verify import with_golden
from wetread.bundle.wheels import Wheel

# What wetread[cpu,dicom] needs, as the real packages say it, at made-up versions.
NATIVE = ("numpy", "opencv_python_headless", "simplejpeg", "onnxruntime", "imagecodecs")
PURE = {
    "typer": ["rich>=12", "shellingham>=1", "annotated-doc"],
    "rich": ["pygments>=2", "markdown-it-py>=2"],
    "markdown_it_py": ["mdurl~=0.1"],
    "mdurl": [],
    "pygments": [],
    "shellingham": [],
    "annotated_doc": [],
    "pydicom": [],
    "packaging": [],
    "flatbuffers": [],
    "protobuf": [],
    "colorama": [],
    "pip": [],
}
NEEDS = {
    "onnxruntime": ["flatbuffers", "numpy>=1.26", "packaging", "protobuf>=4"],
    "simplejpeg": ["numpy"],
    "opencv_python_headless": ['numpy>=2; python_version >= "3.9"', 'numpy<2; python_version < "3.9"'],
    "imagecodecs": ["numpy"],
    "typer": [*PURE["typer"], 'colorama>=0.4; sys_platform == "win32"'],
}
VERSIONS = {
    "numpy": "2.4.6",
    "typer": "0.28.0",
    "pip": "26.3",
    "onnxruntime": "1.32.0",
    "pydicom": "3.0.2",
    "imagecodecs": "2026.3.6",
    "opencv_python_headless": "5.0.0",
    "simplejpeg": "1.9.0",
    "mdurl": "0.1.2",
}
TAGS = {
    "win_amd64": "cp312-cp312-win_amd64",
    "manylinux_x86_64": "cp312-cp312-manylinux_2_27_x86_64.manylinux_2_28_x86_64",
    "manylinux_aarch64": "cp312-cp312-manylinux2014_aarch64",
}


def make_wheel(
    folder: Path,
    name: str,
    version: str = "99.0",
    *,
    needs: list[str] | None = None,
    tag: str = "py3-none-any",
    headers: str = "License-Expression: MIT\n",
) -> Path:
    """Write a wheel that installs a module with nothing in it."""
    info = f"{name}-{version}.dist-info"
    lines = "".join(f"Requires-Dist: {need}\n" for need in needs or [])
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{headers}{lines}"
        )
        wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        wheel.writestr(f"{info}/licenses/LICENSE.txt", f"the licence of {name}")
        wheel.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that a bundle needs, for every platform."""
    folder = tmp_path_factory.mktemp("wheels")
    for name in NATIVE:
        for tag in TAGS.values():
            make_wheel(folder, name, VERSIONS.get(name, "99.0"), needs=NEEDS.get(name), tag=tag)
    for name, needs in PURE.items():
        make_wheel(folder, name, VERSIONS.get(name, "99.0"), needs=NEEDS.get(name, needs))
    return folder


@pytest.fixture
def wheel(tmp_path: Path) -> Callable[..., Wheel]:
    """Make one wheel."""

    def make(name: str, version: str = "1.0", **more) -> Wheel:
        return Wheel(make_wheel(tmp_path, name, version, **more))

    return make


@pytest.fixture(scope="session")
def proven_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy model with a self-test that it passes."""
    path = tmp_path_factory.mktemp("proven") / "model.onnx"
    path.write_bytes(with_golden())
    return path
