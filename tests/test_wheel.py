"""The built wheel with the extra `cpu` alone, in an environment of its own: what a workstation has."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def workstation(tmp_path_factory) -> Path:
    """The `bin` folder of an environment that holds only the wheel with the extra `cpu`."""
    place = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", place, ROOT]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = place.glob("*.whl")
    venv.create(place / "env", with_pip=True)
    scripts = place / "env" / ("Scripts" if os.name == "nt" else "bin")
    install = [scripts / "python", "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt"]
    done = subprocess.run([*install, f"{wheel}[cpu]"], capture_output=True, text=True)
    if done.returncode and "No matching distribution" in done.stderr:
        pytest.skip(f"no package index to install from: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return scripts


def test_a_workstation_scores_without_tensorflow(workstation, toy_model, image_folder):
    def run(*command: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=workstation)

    (image_folder / "中,x.jpg").write_text("text")
    scored = run(workstation / "wetread", "score", image_folder, "--model", toy_model)
    assert scored.returncode == 3
    assert [line.split(",")[1] for line in scored.stdout.splitlines()[1:13]] == ["ok"] * 12
    packaged = run(workstation / "wetread", "score", image_folder)
    assert packaged.returncode == 3
    assert "packaged chest-xray.onnx" in packaged.stderr
    assert run(workstation / "wetread", "--help").returncode == 0
    assert "NORMAL, PNEUMONIA" in run(workstation / "wetread", "inspect", toy_model).stdout
    # `google` itself is a bare namespace there: onnxruntime brings protobuf.
    for absent in ("tensorflow", "keras", "onnx", "google.cloud", "obstore", "sklearn"):
        done = run(workstation / "python", "-c", f"import {absent}")
        assert done.returncode == 1
        assert "ModuleNotFoundError" in done.stderr
