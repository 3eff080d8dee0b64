"""The examples of docs/guides/experiment-tracking.md, run as they stand there.

With the real package where it can be imported (MLflow and Weights & Biases are no dependency, so usually it
cannot: `WETREAD_TRACKERS` may name a folder of installed packages), and always with a stand-in that has the
signatures of MLflow 3 and wandb 0.2x and notes what it is given.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tracing import require_strace, trace
from tests.train.drawn import draw_folder

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "experiment-tracking.md"
_NOTE = """
import json
def note(kind, value, step=None):
    with open("noted.jsonl", "a") as file:
        file.write(json.dumps([kind, value, step]) + "\\n")
"""
STAND_INS = {
    "mlflow": """
from contextlib import contextmanager
def set_tracking_uri(uri): note("uri", uri)
def set_experiment(experiment_name=None, experiment_id=None): note("experiment", experiment_name)
@contextmanager
def start_run(run_id=None, experiment_id=None, run_name=None, nested=False): yield
def log_metrics(metrics, step=None, synchronous=None, run_id=None): note("metrics", metrics, step)
def log_metric(key, value, step=None, synchronous=None): note("metric", {key: value}, step)
def log_params(params, synchronous=None, run_id=None): note("params", params)
def log_artifact(local_path, artifact_path=None, run_id=None): note("artifact", local_path)
""",
    "wandb": """
class Config(dict):
    def update(self, d, allow_val_change=None): note("params", d)
class Run:
    config, summary, steps = Config(), {}, 0
    def __enter__(self): return self
    def __exit__(self, *error): note("metric", self.summary)
    def log(self, data, step=None, commit=None):
        Run.steps += 1
        note("metrics", data, Run.steps)
def init(entity=None, project=None, dir=None, id=None, name=None, config=None, mode=None, resume=None):
    note("experiment", project)
    return Run()
""",
}


def read_example(package: str) -> str:
    """The block of the page that imports a package, on data without patients in its names."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (code,) = (block for block in blocks if f"import {package}\n" in block)
    return code


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw_folder(tmp_path / "DATA", counts={"bar": 12, "disc": 12})
    return tmp_path


@pytest.mark.parametrize("package", ["mlflow", pytest.param("wandb", marks=pytest.mark.long)])
def test_the_example_gives_a_tracker_every_epoch(package: str, folder: Path) -> None:
    (folder / f"{package}.py").write_text(_NOTE + STAND_INS[package])
    run_example(package, folder, PYTHONPATH=f"{folder}{os.pathsep}{PAGE.parents[2]}")
    noted = [json.loads(line) for line in (folder / "noted.jsonl").read_text().splitlines()]
    metrics = {step: value for kind, value, step in noted if kind == "metrics"}
    assert sorted(metrics) == [1, 2]
    for value in metrics.values():
        assert {"loss", "val_loss", "val_auc"} <= set(value) and "epoch" not in value
        assert all(math.isfinite(number) for number in value.values())
    params = next(value for kind, value, _ in noted if kind == "params")
    assert params["epochs"] == 2 and params["architecture"] == "edge"
    assert any(kind == "metric" and "validation_auc" in value for kind, value, _ in noted)
    assert ["experiment", "xrays", None] in noted


def run_example(package: str, folder: Path, **more: str) -> None:
    (folder / "example.py").write_text(read_example(package))
    done = subprocess.run(
        [sys.executable, "example.py"],
        cwd=folder,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **more},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.long
@pytest.mark.parametrize("package", STAND_INS)
def test_the_example_runs_with_the_real_package_and_sends_nothing(package: str, tmp_path: Path) -> None:
    """Under strace: the process and its children open no socket that leads off this machine."""
    places = [os.environ.get("WETREAD_TRACKERS", ""), str(PAGE.parents[2])]
    path = os.pathsep.join(filter(None, places))
    find = f"import importlib.util, sys; sys.exit(importlib.util.find_spec('{package}') is None)"
    if subprocess.run([sys.executable, "-c", find], env={**os.environ, "PYTHONPATH": path}).returncode:
        pytest.skip(f"{package} is not installed: WETREAD_TRACKERS may name a folder that holds it")
    strace = require_strace(tmp_path)
    code = tmp_path / "example.py"
    code.write_text(read_example(package))
    traced = trace(strace, package, code, PYTHONPATH=path, TF_CPP_MIN_LOG_LEVEL="3")
    draw_folder(traced.folder / "DATA", counts={"bar": 12, "disc": 12})
    _, said = traced.process.communicate(timeout=600)
    assert traced.process.returncode == 0, said[-3000:]
    log = traced.log.read_text()
    away = [line for line in re.findall(r"connect\(.*sin6?_addr.*", log) if not is_local(line)]
    assert away == []
    assert (traced.folder / ("mlflow.db" if package == "mlflow" else "wandb")).exists()
    shutil.rmtree(traced.folder)


def is_local(line: str) -> bool:
    return "127.0.0.1" in line or '"::1"' in line
