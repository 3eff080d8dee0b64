from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from wetread.cli import run
from wetread.errors import MissingExtraError
from wetread.packages import find_module
from wetread.runtime import doctor, machine
from wetread.runtime.doctor import NOTE, OK, PROBLEM, Finding

# How a process that aborts ends.
ABORTED = 3 if os.name == "nt" else -6


def install(folder, name: str, version: str) -> None:
    """Leave what pip leaves of an installed package."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@pytest.fixture(autouse=True)
def few_extras(monkeypatch):
    """Importing what all extras bring takes many seconds."""
    monkeypatch.setattr(doctor, "list_extras", lambda: {"dicom": ("pydicom",), "cpu": ("onnxruntime",)})


def by_topic(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.topic: finding for finding in findings}


def test_this_machine_has_no_problem(tmp_path, toy_model):
    findings = by_topic(doctor.examine(toy_model, folder=str(tmp_path)))
    assert [f for f in findings.values() if f.level == PROBLEM] == []
    assert {"python", "system", "processor", "memory", "disk", "opencv", "onnxruntime"} <= set(findings)
    assert findings["device cpu"] == Finding("device cpu", OK, "starts and computes")
    assert findings["model"].found.startswith(f"{toy_model}, digest ")


def test_every_finding_that_is_not_ok_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "list_extras", lambda: {"dicom": ("pydicom", "absent"), "gcs": ("none",)})
    findings = [f for f in doctor.examine(folder=str(tmp_path / "absent")) if f.level != OK]
    assert {f.topic for f in findings} >= {"disk", "extra dicom", "extra gcs"}
    assert [f for f in findings if not f.advice] == []


def test_an_installation_from_a_bundle_is_told_of_bundles_and_of_no_index(tmp_path, monkeypatch):
    (tmp_path / "bundle.json").write_text("{}")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "env"))
    monkeypatch.setattr(doctor, "list_extras", lambda: {"dicom": ("absent",), "train": ("absent",)})
    assert "pip" not in str(MissingExtraError("x", extra="dicom"))
    assert list(doctor._examine_extras()) == [
        Finding(
            "extra dicom",
            NOTE,
            "not installed: absent",
            "If needed: ask for a bundle made with --with dicom",
        )
    ]


@pytest.mark.parametrize(
    ("rival", "topic"), [("opencv-python", "opencv"), ("onnxruntime-gpu", "onnxruntime")]
)
def test_packages_that_overwrite_one_another_are_a_problem(tmp_path, monkeypatch, rival, topic):
    install(tmp_path, rival, "9.9")
    monkeypatch.syspath_prepend(tmp_path)
    finding = by_topic(doctor.examine(folder=str(tmp_path)))[topic]
    assert finding.level == PROBLEM
    assert f"{rival} 9.9" in finding.found
    assert "overwrite one another" in finding.found
    assert finding.advice.startswith("pip uninstall all of them")


@pytest.mark.parametrize("text", [None, "", "\0" * 40, "Version: 1.0\n", "Name: foo\n", "Name: \udce5\n"])
def test_what_an_interrupted_pip_leaves_is_a_note(tmp_path, monkeypatch, text):
    info = tmp_path / "foo-1.0.dist-info"
    info.mkdir()
    if text is not None:
        (info / "METADATA").write_bytes(text.encode("utf-8", "surrogateescape"))
    monkeypatch.syspath_prepend(tmp_path)
    findings = by_topic(doctor.examine(folder=str(tmp_path)))
    assert (findings["packages"].level, findings["packages"].found) == (NOTE, f"{info} has no name")
    assert "delete it" in findings["packages"].advice
    assert [f for f in findings.values() if f.level == PROBLEM] == []


def test_a_package_that_is_half_installed_is_a_problem(tmp_path, monkeypatch):
    (tmp_path / "numpy-1.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    finding = by_topic(doctor.examine(folder=str(tmp_path)))["numpy"]
    assert finding == Finding(
        "numpy", PROBLEM, "left half installed", "pip install --force-reinstall --no-deps numpy"
    )


def test_no_package_at_all_is_a_problem_that_names_what_to_install():
    finding = doctor.judge_rivals("onnxruntime", [], advice="pip uninstall all, then install one")
    assert finding == Finding("onnxruntime", PROBLEM, "none installed", "install one")


def test_a_folder_that_was_copied_and_not_installed_is_told(monkeypatch):
    def find(name: str) -> metadata.Distribution:
        if name == "wetread":
            raise metadata.PackageNotFoundError(name)
        return whole(name)

    whole = metadata.Distribution.from_name
    monkeypatch.undo()  # the extras that all tests here suppose
    monkeypatch.setattr(metadata.Distribution, "from_name", find)
    found = {each.topic: each for each in doctor.examine()}
    assert found["wetread"].level == PROBLEM
    assert found["extras"].level == NOTE and "was copied, not installed" in found["extras"].found
    assert found["extras"].advice == "Install its wheel, or its bundle."


def test_a_changed_model_is_a_problem(tmp_path, toy_model):
    changed = bytearray(toy_model.read_bytes())
    changed[60] ^= 1
    (tmp_path / "changed.onnx").write_bytes(changed)
    (finding,) = doctor.examine_model(tmp_path / "changed.onnx")
    assert (finding.topic, finding.level) == ("model", PROBLEM)
    assert finding.advice


def test_a_provider_that_does_not_start_is_said(monkeypatch):
    def refuse(model, *, device):
        raise RuntimeError(f"no {device} here\nand more")

    monkeypatch.setattr(doctor, "open_session", refuse)
    findings = by_topic(list(doctor._examine_providers()))
    assert findings["device cpu"] == Finding(
        "device cpu", PROBLEM, "does not start: no cpu here", "Use --device cpu."
    )


def test_missing_visual_cpp_libraries_are_named():
    libraries = dict.fromkeys(machine.VISUAL_CPP_LIBRARIES, True)
    assert doctor.judge_visual_cpp(libraries).level == OK
    finding = doctor.judge_visual_cpp(libraries | {"msvcp140.dll": False})
    assert (finding.level, finding.found) == (PROBLEM, "without msvcp140.dll")
    assert "vc_redist.x64.exe" in finding.advice


def test_processors_are_told_apart():
    old = machine.Processor("AMD64", 2, ("SSE4.2",))
    new = machine.Processor("AMD64", 8, ("SSE4.2", "AVX2", "AVX-VNNI"))
    assert doctor._judge_processor(old).level == NOTE
    assert doctor._judge_processor(new) == Finding(
        "processor", OK, "AMD64, 8 usable, SSE4.2, AVX2, AVX-VNNI; int8 runs on AVX-VNNI"
    )


def test_features_are_read_from_linux(tmp_path):
    (tmp_path / "x86").write_text("processor\t: 0\nflags\t\t: fpu sse4_2 avx2 avx512_vnni\n")
    (tmp_path / "arm").write_text("processor\t: 0\nFeatures\t: fp asimd asimddp\n")
    assert machine._features_of_linux(str(tmp_path / "x86")) == {"SSE4.2", "AVX2", "AVX-512 VNNI"}
    assert machine._features_of_linux(str(tmp_path / "arm")) == {"NEON", "NEON dot product"}
    assert machine._features_of_linux(str(tmp_path / "absent")) == set()


def test_the_libraries_that_a_system_lacks_are_found():
    found = machine.find_visual_cpp()
    assert list(found) == list(machine.VISUAL_CPP_LIBRARIES)
    if sys.platform != "win32":
        assert not any(found.values())


def test_the_command_prints_findings_and_json(capsys, monkeypatch):
    assert run(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ok       python")
    assert run(["doctor", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["problems"] == 0
    assert {"topic", "level", "found", "advice"} == set(record["findings"][0])
    monkeypatch.setattr(doctor, "installed_packages", list)
    assert run(["doctor"]) == 1
    assert "problem  onnxruntime" in capsys.readouterr().out


def test_every_extra_is_known_with_every_package_of_it(monkeypatch):
    monkeypatch.undo()
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    extras = {
        extra: tuple(re.match(r"[\w.-]+", wanted).group() for wanted in packages)
        for extra, packages in project["project"]["optional-dependencies"].items()
    }
    found = doctor.list_extras()
    assert {extra: sorted(packages) for extra, packages in found.items()} == {
        extra: sorted(packages) for extra, packages in extras.items()
    }


def plant(folder: Path, package: str, code: str) -> None:
    """Install a package that does this when it is imported."""
    install(folder, package, "9.9")
    module = folder.joinpath(*find_module(package).split("."))
    module.mkdir(parents=True)
    (module / "__init__.py").write_text(code)


@pytest.mark.parametrize(
    ("code", "reason", "advice"),
    [
        (
            "raise ImportError('DLL load failed while importing _x')",
            "ImportError: DLL load failed",
            "vc_redist",
        ),
        ("raise ImportError('libGL.so.1: cannot open shared object file')", "libGL.so.1", "system library"),
        (
            "import absent_part",
            "ModuleNotFoundError: No module named 'absent_part'",
            "--force-reinstall pydicom",
        ),
        (
            "raise TypeError('Descriptors cannot be created directly.')",
            "TypeError",
            "upgrade pydicom protobuf",
        ),
        ("raise RuntimeError('compiled against numpy ABI 1')", "RuntimeError", "upgrade pydicom numpy"),
        ("raise OSError()", "OSError", "Install it again"),
        ("raise SystemExit(3)", "SystemExit: 3", "Install it again"),
        ("import os; os.abort()", f"its import ends the process ({ABORTED})", "Install it again"),
    ],
)
def test_a_broken_package_is_a_problem_with_its_reason(tmp_path, monkeypatch, code, reason, advice):
    plant(tmp_path, "pydicom", code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    monkeypatch.setattr(doctor, "list_extras", lambda: {"dicom": ("imagecodecs", "pydicom", "cryptography")})
    (finding,) = doctor._examine_extras()
    assert (finding.topic, finding.level) == ("extra dicom", PROBLEM)
    assert finding.found.startswith("pydicom does not load: ")
    assert reason in finding.found
    assert advice in finding.advice


@pytest.mark.parametrize("package", ["numpy", "opencv-python-headless", "simplejpeg", "onnxruntime"])
def test_doctor_runs_whatever_is_broken(tmp_path, package):
    """Each of them is imported by what scores; here no file of the package is left but its name."""
    module = tmp_path / f"{find_module(package)}.py"
    module.write_text("raise ImportError('libx.so.1: cannot open shared object file')")
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    code = (
        "import sys; from wetread.runtime import doctor; doctor.list_extras = dict; "
        "from wetread.cli import run; sys.exit(run(['doctor', '--json']))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (1, "")
    findings = {found["topic"]: found for found in json.loads(done.stdout)["findings"]}
    topic = {"opencv-python-headless": "opencv"}.get(package, package)
    assert findings[topic]["level"] == findings["model"]["level"] == PROBLEM
    assert "libx.so.1: cannot open shared object file" in findings[topic]["found"]
    assert "system library" in findings[topic]["advice"]
    assert f"The package '{package}' is installed, but does not load" in findings["model"]["advice"]


@pytest.mark.parametrize(
    ("free", "locked", "level", "found"),
    [
        (
            0,
            True,
            doctor.OK,
            "share the interpreter; workers become processes, soon on 8 processors",
        ),
        (1, False, doctor.OK, "free-threaded Python: all workers are threads"),
        (1, True, doctor.NOTE, "free-threaded Python, but a package switched the interpreter's lock on"),
    ],
)
def test_free_threaded_python_is_named(free, locked, level, found, monkeypatch):
    monkeypatch.setattr(doctor.sysconfig, "get_config_var", lambda name: free)
    monkeypatch.setattr(doctor, "is_locked", lambda: locked)
    threads = next(each for each in doctor._examine_python() if each.topic == "threads")
    assert (threads.level, threads.found) == (level, found)
