"""What is installed here, what clashes, and what really works; each finding says what to do."""

from __future__ import annotations

import base64
import os
import platform
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import Any

import numpy as np

from wetread.errors import WetreadError, advise_extra, is_from_bundle
from wetread.runtime import machine
from wetread.runtime.model.packaged import choose_model
from wetread.runtime.model.providers import DEVICES, import_onnxruntime, installed_packages, open_session

OK, NOTE, PROBLEM = "ok", "note", "problem"
# A 2 x 2 cast and matrix product, enough to see a provider start and compute.
_PROBE = base64.b64decode(
    "CAgSADpZChcKAXgSAWYiBENhc3QqCQoCdG8YAaABAgoRCgFmCgFmEgF5IgZNYXRNdWwSAWRaEwoBeBIOCgwIAhIICgIIAgoCCAJi"
    "EwoBeRIOCgwIARIICgIIAgoCCAJCBAoAEBE="
)
# What each extra brings: the packages by which its presence is told.
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "dicom": ("pydicom", "imagecodecs"),
    "parquet": ("pyarrow",),
    "gcs": ("google.cloud.storage", "google_crc32c"),
    "train": ("tensorflow", "keras", "tf2onnx", "onnx"),
    "sign": ("cryptography",),
    "ray": ("ray",),
    "bundle": ("pip", "packaging"),
}
# Those that a bundle may bring: an installation from one has no index to take others from.
_BUNDLED = ("dicom", "parquet", "sign")
_MEMORY_WANTED = 2 << 30
_DISK_WANTED = 1 << 30
_VISUAL_CPP = "the Microsoft Visual C++ Redistributable (x64, 2015-2022): vc_redist.x64.exe from Microsoft"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: its topic, 'ok', 'note' or 'problem', what was found, what to do."""

    topic: str
    level: str
    found: str
    advice: str = ""


def examine(model: str | os.PathLike[str] | None = None, *, folder: str = ".") -> list[Finding]:
    """Look at this machine and installation, and at a model file: the one named, or the packaged one.

    `folder`: whose disk is looked at. A part that cannot be looked at is a finding, not an error.
    """
    findings = [
        *_examine_python(),
        *_examine_machine(folder),
        *_examine_visual_cpp(),
        *_examine_packages(),
        *_examine_providers(),
        *_examine_extras(),
    ]
    return [*findings, *examine_model(model)]


def count_problems(findings: list[Finding]) -> int:
    """Count what must be mended before results can be trusted."""
    return sum(finding.level == PROBLEM for finding in findings)


def to_record(findings: list[Finding]) -> dict[str, object]:
    """Lay findings out for JSON."""
    return {"problems": count_problems(findings), "findings": [asdict(finding) for finding in findings]}


def _examine_python() -> Iterator[Finding]:
    bits = struct.calcsize("P") * 8
    found = f"{platform.python_implementation()} {platform.python_version()}, {bits} bits, {sys.executable}"
    if bits != 64:
        yield Finding("python", PROBLEM, found, "Install a 64-bit Python: no wheels exist for 32 bits.")
    else:
        yield Finding("python", OK, found)


def _examine_machine(folder: str) -> Iterator[Finding]:
    yield Finding("system", OK, ", ".join(machine.read_system().values()))
    yield _judge_processor(machine.read_processor())
    yield _judge_size("memory", machine.read_memory(), wanted=_MEMORY_WANTED, advice="Use --workers 1.")
    yield _judge_size(
        "disk", machine.read_free_disk(folder), wanted=_DISK_WANTED, advice="Free some before a long run."
    )


def _judge_processor(processor: machine.Processor) -> Finding:
    listed = ", ".join(processor.features) or "no known features"
    found = f"{processor.architecture}, {processor.count} usable, {listed}"
    if processor.integer_dot_product is None:
        return Finding(
            "processor",
            NOTE,
            f"{found}; no VNNI or the like",
            "Nothing to mend: answers are the same. A float32 model is as fast here as int8; prefer it.",
        )
    return Finding("processor", OK, f"{found}; int8 runs on {processor.integer_dot_product}")


def _judge_size(topic: str, size: int | None, *, wanted: int, advice: str) -> Finding:
    if size is None:
        return Finding(topic, NOTE, "unknown", f"See to {wanted >> 30} GB or more.")
    found = f"{size / (1 << 30):.1f} GB"
    return Finding(topic, OK, found) if size >= wanted else Finding(topic, NOTE, f"only {found}", advice)


def _examine_visual_cpp() -> Iterator[Finding]:
    if os.name == "nt":
        yield judge_visual_cpp(machine.find_visual_cpp())


def judge_visual_cpp(libraries: Mapping[str, bool]) -> Finding:
    """Judge which libraries of the Visual C++ runtime Windows can load."""
    missing = [name for name, present in libraries.items() if not present]
    if missing:
        return Finding("visual c++", PROBLEM, f"without {', '.join(missing)}", f"Install {_VISUAL_CPP}.")
    return Finding("visual c++", OK, "present")


def _examine_packages() -> Iterator[Finding]:
    for name in ("wetread", "numpy", "simplejpeg"):
        yield _judge_package(name)
    yield from _examine_nameless()
    yield judge_rivals(
        "opencv",
        installed_like("opencv"),
        advice="pip uninstall all of them, then pip install opencv-python-headless",
    )
    yield judge_rivals(
        "onnxruntime",
        installed_packages(),
        advice="pip uninstall all of them, then install one: wetread[cpu], wetread[gpu] or wetread[directml]",
    )


def _judge_package(name: str) -> Finding:
    try:
        found = _describe_package(metadata.distribution(name))
    except metadata.PackageNotFoundError:
        return Finding(name, PROBLEM, "not installed by pip", "pip install wetread")
    if found is None:
        return Finding(
            name, PROBLEM, "left half installed", f"pip install --force-reinstall --no-deps {name}"
        )
    return Finding(name, OK, found[1])


def _describe_package(package: metadata.Distribution) -> tuple[str, str] | None:
    """A package's name and version; None for the empty folder that an interrupted pip leaves."""
    try:
        described: Any = package.metadata or {}  # later Pythons return None, or raise, where there is none
    except (OSError, ValueError):
        return None
    if "Name" in described and "Version" in described:
        return described["Name"], described["Version"]
    return None


def _examine_nameless() -> Iterator[Finding]:
    """What stands among the installed packages and does not say what it is."""
    for package in metadata.distributions():
        if _describe_package(package) is None:
            found = f"{getattr(package, '_path', 'one of them')} says no name"
            advice = "An interrupted pip leaves such a folder: delete it, or install that package again."
            yield Finding("packages", NOTE, found, advice)


def installed_like(prefix: str) -> list[str]:
    """Names and versions of the installed packages whose names start so."""
    described = filter(None, map(_describe_package, metadata.distributions()))
    names = {(name.lower(), version) for name, version in described}
    return sorted(f"{name} {version}" for name, version in names if name.startswith(prefix))


def judge_rivals(topic: str, packages: list[str], *, advice: str) -> Finding:
    """Judge packages that install over one another: exactly one is right."""
    if len(packages) == 1:
        return Finding(topic, OK, packages[0])
    if not packages:
        return Finding(topic, PROBLEM, "none installed", advice.partition(", then ")[2])
    return Finding(topic, PROBLEM, f"{' and '.join(packages)} overwrite one another", advice)


def _examine_providers() -> Iterator[Finding]:
    if len(installed_packages()) != 1:
        return  # said already
    try:
        available = import_onnxruntime().get_available_providers()
    except WetreadError as error:
        cause = error.__cause__ or error
        advice = f"Install {_VISUAL_CPP}." if sys.platform == "win32" else "Install the package again."
        yield Finding("onnxruntime", PROBLEM, f"does not load: {cause}", advice)
        return
    for device, provider in DEVICES.items():
        if provider in available:
            yield _try_device(device)


def _try_device(device: str) -> Finding:
    """Start a session on a device and compute with it."""
    topic = f"device {device}"
    try:
        session = open_session(_PROBE, device=device).session
        (answer,) = session.run(["y"], {"x": np.array([[1, 2], [3, 4]], np.uint8)})
    except Exception as error:  # noqa: BLE001 - a driver may raise anything, and that is the finding
        level = PROBLEM if device == "cpu" else NOTE
        return Finding(topic, level, f"does not start: {str(error).splitlines()[0]}", "Use --device cpu.")
    if answer.tolist() != [[7, 10], [15, 22]]:
        return Finding(topic, PROBLEM, f"computes {answer.tolist()}", "Use --device cpu; update its driver.")
    return Finding(topic, OK, "starts and computes")


def _examine_extras() -> Iterator[Finding]:
    from_bundle = is_from_bundle()
    for extra, modules in EXTRAS.items():
        if from_bundle and extra not in _BUNDLED:
            continue
        missing = [name for name in modules if not _is_importable(name)]
        if missing:
            found = f"not installed: {', '.join(missing)}"
            yield Finding(f"extra {extra}", NOTE, found, f"If needed: {advise_extra(extra)}")
        else:
            yield Finding(f"extra {extra}", OK, "installed")


def _is_importable(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def examine_model(model: str | os.PathLike[str] | None) -> list[Finding]:
    """Load a model, or the packaged one, as scoring does: its digest, spec and self-test on this machine."""
    from wetread.runtime.scoring.classifier import Classifier

    try:
        model = choose_model(model)
        classifier = Classifier(model, device="cpu")
    except WetreadError as error:
        return [Finding("model", PROBLEM, str(error), "Copy the model again, or export it again.")]
    found = f"{model}, digest {classifier.digest[:12]}..., loads and passes its checks"
    return [Finding("model", OK, found)]
