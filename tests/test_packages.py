"""Packages that are not there, and packages that are there and do not load: one line, the right one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import draw_image
from wetread.errors import BrokenPackageError, MissingExtraError, UsageError
from wetread.packages import explain_import, find_module, importing
from wetread.runtime.model.packaged import choose_model

MISSING_LIBRARY = "raise ImportError('libx.so.1: cannot open shared object file')"


def plant(folder: Path, package: str, code: str = MISSING_LIBRARY) -> None:
    """Put a module in the place of a package's: it does this when it is imported."""
    top, *rest = find_module(package).split(".")
    place = folder / top
    place.mkdir(parents=True)
    (place / "__init__.py").write_text("" if rest else code)
    for name in rest:
        place /= name
        place.mkdir()
        (place / "__init__.py").write_text(code)


def wetread(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)])}
    command = [sys.executable, "-m", "wetread", *map(str, arguments)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, cwd=folder)


def line(done: subprocess.CompletedProcess[str]) -> str:
    (only,) = done.stderr.splitlines()
    return only


@pytest.mark.parametrize("package", ["numpy", "opencv-python-headless", "simplejpeg", "onnxruntime"])
@pytest.mark.parametrize("command", ["score", "explain", "verify"])
def test_what_every_installation_has(tmp_path, toy_model, package, command):
    if (package, command) == ("simplejpeg", "explain"):
        pytest.skip("the same path as score's")
    plant(tmp_path, package)
    (tmp_path / "a.jpg").write_bytes(draw_image(1))
    options = {
        "score": ("a.jpg", "--model", toy_model, "--quiet"),
        "explain": ("a.jpg", "--model", toy_model, "--output", "x.png"),
        "verify": (toy_model,),
    }
    done = wetread(tmp_path, command, *options[command])
    assert done.returncode == 1
    assert done.stdout == "" or package == "numpy"  # OpenCV prints that it lacks it
    assert line(done) == (
        f"wetread: The package '{package}' is installed, but does not load: ImportError: libx.so.1: cannot "
        "open shared object file. Install the system library that it names, or the package again."
    )


@pytest.mark.parametrize(
    ("package", "arguments"),
    [
        ("pyarrow", ("score", "{images}", "--output", "s.parquet")),
        ("pydicom", ("score", "{images}", "--dicom-tags", "StudyDate")),
        ("google-cloud-storage", ("score", "gs://b/x")),
        ("google-crc32c", ("manifest", "{images}", "--checksum", "--output", "m")),
        ("cryptography", ("score", "{images}", "--public-key", "k.pem")),
        ("ray", ("score", "--from-manifest", "m", "--engine", "ray", "--output", "shards")),
        ("packaging", ("bundle", "{model}", "--output", "b.zip", "--platform", "win_amd64")),
        ("optuna", ("tune", "{data}", "--output", "t", "--quiet")),
        ("tensorflow", ("train", "{data}", "--output", "r", "--quiet")),
        ("keras", ("train", "{data}", "--output", "r", "--quiet")),
        ("onnx", ("export", "r", "--output", "m.onnx")),
        ("onnx", ("parity", "r", "{model}", "--images", "{images}")),
    ],
)
def test_what_an_extra_brings(tmp_path, toy_model, package, arguments):
    places = {"model": choose_model(None), "images": "images", "data": "data"}
    (tmp_path / "images").mkdir()
    for at, name in enumerate(
        ("images/a.jpg", *(f"data/{label}/{n}.jpg" for label in "ab" for n in range(8)))
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(draw_image(at))
    (tmp_path / "k.pem").touch()
    if "m" in arguments and "--checksum" not in arguments:
        assert wetread(tmp_path, "manifest", "images", "--output", "m", "--quiet").returncode == 0
    more = ["--model", str(toy_model), "--quiet"] if arguments[0] == "score" else []
    plant(tmp_path, package)
    done = wetread(tmp_path, *(argument.format(**places) for argument in arguments), *more)
    assert done.returncode == 1
    assert f"The package '{package}' is installed, but does not load: ImportError: libx.so.1" in line(done)


@pytest.mark.parametrize("package", ["pydicom", "imagecodecs"])
def test_a_dicom_file_says_that_its_reader_does_not_load(tmp_path, toy_model, known_cases, package):
    plant(tmp_path, package)
    done = wetread(
        tmp_path, "score", known_cases("dicom") / "lossless-plain.dcm", "--model", toy_model, "--quiet"
    )
    assert (done.returncode, done.stderr) == (3, "")
    row = done.stdout.splitlines()[1]
    assert ",unsupported," in row
    assert f"The package '{package}' is installed, but does not load: ImportError: libx.so.1" in row


def test_a_library_that_a_package_loads_itself_and_lacks(tmp_path, toy_model):
    plant(tmp_path, "simplejpeg", "raise OSError('libx.so.1: cannot open shared object file')")
    (tmp_path / "a.jpg").write_bytes(draw_image(1))
    done = wetread(tmp_path, "score", "a.jpg", "--model", toy_model, "--quiet")
    assert done.returncode == 1
    assert "The package 'simplejpeg' is installed, but does not load: OSError: libx.so.1" in line(done)


def test_absent_is_not_broken():
    with (
        pytest.raises(MissingExtraError, match=r"pip install 'wetread\[gcs\]'"),
        importing("absent", extra="gcs"),
    ):
        import absent  # noqa: F401
    with pytest.raises(MissingExtraError), importing("google-cloud-storage", extra="gcs"):
        raise ModuleNotFoundError("No module named 'google'", name="google")
    with pytest.raises(BrokenPackageError, match="pip install --force-reinstall pydicom"):  # noqa: SIM117
        with importing("pydicom", extra="dicom"):
            raise ModuleNotFoundError("No module named 'pydicom_data'", name="pydicom_data")
    with pytest.raises(UsageError), importing("pydicom", extra="dicom"):
        raise UsageError("our own")


def test_a_fault_of_ours_is_no_broken_package():
    """Nor is what a foreign function raises when it is called."""
    for code in ("{}['x']", "import json; json.loads('')", "raise ImportError('ours')"):
        try:
            exec(code)
        except Exception as error:  # noqa: BLE001
            assert explain_import(error) is None
