"""Check an installation: packages, conflicts, devices that really work; each finding says what to do."""

from __future__ import annotations

import base64
import json
import os
import platform
import re
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from wetread.environment import keep_home_clean, name_python
from wetread.errors import BrokenPackageError, WetreadError, advise_extra, is_from_bundle
from wetread.packages import VISUAL_CPP, describe_broken, explain_import, find_module
from wetread.runtime import machine
from wetread.runtime.model.packaged import choose_model
from wetread.runtime.model.providers import DEVICES, import_onnxruntime, installed_packages, open_session
from wetread.runtime.threads import MANY_WORKERS, is_locked

OK, NOTE, PROBLEM = "ok", "note", "problem"
# A cast and a 2 x 2 matrix product: enough to check that a provider starts and computes.
_PROBE = base64.b64decode(
    "CAgSADpZChcKAXgSAWYiBENhc3QqCQoCdG8YAaABAgoRCgFmCgFmEgF5IgZNYXRNdWwSAWRaEwoBeBIOCgwIAhIICgIIAgoCCAJi"
    "EwoBeRIOCgwIARIICgIIAgoCCAJCBAoAEBE="
)
# Extras that a bundle may include: an installation from a bundle has no index to install others from.
_BUNDLED = ("dicom", "node", "parquet", "review", "sign")
# A requirement in a wheel's metadata, such as: onnxruntime-gpu[cuda,cudnn]<2,>=1.22; extra == "gpu"
_REQUIREMENT = re.compile(r"([\w.-]+).*\bextra == ['\"]([\w-]+)['\"]")
_IMPORT_SECONDS = 60
# Prints a line of JSON for each module: the type of its import error, or ''.
_IMPORT = """
import importlib, json, sys, warnings
warnings.simplefilter("ignore")
for module in sys.argv[1:]:
    kind = words = ""
    try:
        importlib.import_module(module)
    except BaseException as error:
        kind, words = type(error).__name__, str(error)
    print(json.dumps({"kind": kind, "words": words}), flush=True)
"""
_MEMORY_WANTED = 2 << 30
_DISK_WANTED = 1 << 30


@dataclass(frozen=True)
class Finding:
    """One result: its topic, 'ok', 'note' or 'problem', what was found, and what to do."""

    topic: str
    level: str
    found: str
    advice: str = ""


def examine(model: str | os.PathLike[str] | None = None, *, folder: str = ".") -> list[Finding]:
    """Check this machine and installation, and a model file: the given or the packaged one.

    `folder`: whose disk is checked. A part that cannot be checked is a finding, not an error.
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
    """Count the findings that must be fixed before results can be trusted."""
    return sum(finding.level == PROBLEM for finding in findings)


def to_record(findings: list[Finding]) -> dict[str, object]:
    """Return findings as JSON values."""
    return {"problems": count_problems(findings), "findings": [asdict(finding) for finding in findings]}


def _examine_python() -> Iterator[Finding]:
    bits = struct.calcsize("P") * 8
    found = f"{platform.python_implementation()} {platform.python_version()}, {bits} bits, {sys.executable}"
    if bits != 64:
        yield Finding("python", PROBLEM, found, "Install a 64-bit Python: no wheels exist for 32 bits.")
    else:
        yield Finding("python", OK, found)
    yield _judge_threads()


def _judge_threads() -> Finding:
    """Say whether threads compute at once in this Python."""
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        found = f"share the interpreter; workers become processes, soon on {MANY_WORKERS} processors"
        return Finding("threads", OK, found)
    if not is_locked():
        return Finding("threads", OK, "free-threaded Python: all workers are threads")
    return Finding(
        "threads",
        NOTE,
        "free-threaded Python, but a package switched the interpreter's lock on",
        "simplejpeg 1.9 has no wheel for free-threaded Python. Scores are the same.",
    )


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
            f"{found}; no VNNI or similar",
            "Nothing to fix: results are the same. A float32 model is as fast here as int8; prefer it.",
        )
    return Finding("processor", OK, f"{found}; int8 runs on {processor.integer_dot_product}")


def _judge_size(topic: str, size: int | None, *, wanted: int, advice: str) -> Finding:
    if size is None:
        return Finding(topic, NOTE, "unknown", f"Make sure that there are {wanted >> 30} GB or more.")
    found = f"{size / (1 << 30):.1f} GB"
    return Finding(topic, OK, found) if size >= wanted else Finding(topic, NOTE, f"only {found}", advice)


def _examine_visual_cpp() -> Iterator[Finding]:
    if os.name == "nt":
        yield judge_visual_cpp(machine.find_visual_cpp())


def judge_visual_cpp(libraries: Mapping[str, bool]) -> Finding:
    """Check that Windows can load the libraries of the Visual C++ runtime."""
    missing = [name for name, present in libraries.items() if not present]
    if missing:
        return Finding("visual c++", PROBLEM, f"without {', '.join(missing)}", f"Install {VISUAL_CPP}.")
    return Finding("visual c++", OK, "present")


def _examine_packages() -> Iterator[Finding]:
    for name in ("wetread", "numpy", "simplejpeg"):
        yield _judge_package(name)
    yield from _examine_nameless()
    yield _judge_opencv(installed_like("opencv"))
    yield judge_rivals(
        "onnxruntime",
        installed_packages(),
        advice="pip uninstall all of them, then install one: wetread[cpu], wetread[gpu] or wetread[directml]",
    )


def _judge_opencv(packages: list[str]) -> Finding:
    finding = judge_rivals(
        "opencv", packages, advice="pip uninstall all of them, then pip install opencv-python-headless"
    )
    broken = try_imports([packages[0].partition(" ")[0]]) if finding.level == OK else {}
    return next((_does_not_load("opencv", package, error) for package, error in broken.items()), finding)


def _does_not_load(topic: str, package: str, broken: BrokenPackageError) -> Finding:
    return Finding(topic, PROBLEM, f"{package} does not load: {broken.reason}", f"{broken.advice}.")


def _judge_package(name: str) -> Finding:
    try:
        found = _describe_package(metadata.distribution(name))
    except metadata.PackageNotFoundError:
        return Finding(name, PROBLEM, "not installed by pip", "pip install wetread")
    if found is None:
        return Finding(
            name, PROBLEM, "left half installed", f"pip install --force-reinstall --no-deps {name}"
        )
    broken = try_imports([name])
    return _does_not_load(name, found[1], broken[name]) if broken else Finding(name, OK, found[1])


def try_imports(packages: Sequence[str]) -> dict[str, BrokenPackageError]:
    """Import installed packages in another process, because one may end it; return those that fail."""
    broken: dict[str, BrokenPackageError] = {}
    if not packages:
        return broken
    modules = [find_module(package) for package in packages]
    keep_home_clean()
    try:
        done = subprocess.run(
            [*name_python(), "-c", _IMPORT, *modules],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_IMPORT_SECONDS * len(modules),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {packages[0]: describe_broken(packages[0], error)}
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b'{"kind"')]
    for package, line in zip(packages, lines, strict=False):
        if line["kind"]:
            broken[package] = describe_broken(package, type(line["kind"], (Exception,), {})(line["words"]))
    if len(lines) < len(packages):  # the process ended: a library may use a missing processor instruction
        last = packages[len(lines)]
        broken[last] = describe_broken(last, OSError(f"its import ends the process ({done.returncode})"))
        broken |= try_imports(packages[len(lines) + 1 :])
    return broken


def _describe_package(package: metadata.Distribution) -> tuple[str, str] | None:
    """Return a package's name and version; None for the empty folder that an interrupted pip leaves."""
    try:
        described: Any = package.metadata or {}  # newer Pythons return None, or raise, without metadata
    except (OSError, ValueError):
        return None
    if "Name" in described and "Version" in described:
        return described["Name"], described["Version"]
    return None


def _examine_nameless() -> Iterator[Finding]:
    """Find installed packages without a name in their metadata."""
    for package in metadata.distributions():
        if _describe_package(package) is None:
            found = f"{getattr(package, '_path', 'one of them')} has no name"
            advice = "An interrupted pip leaves such a folder: delete it, or install that package again."
            yield Finding("packages", NOTE, found, advice)


def installed_like(prefix: str) -> list[str]:
    """Return names and versions of the installed packages whose names start with a prefix."""
    described = filter(None, map(_describe_package, metadata.distributions()))
    names = {(name.lower(), version) for name, version in described}
    return sorted(f"{name} {version}" for name, version in names if name.startswith(prefix))


def judge_rivals(topic: str, packages: list[str], *, advice: str) -> Finding:
    """Check packages that overwrite one another: exactly one must be installed."""
    if len(packages) == 1:
        return Finding(topic, OK, packages[0])
    if not packages:
        return Finding(topic, PROBLEM, "none installed", advice.partition(", then ")[2])
    return Finding(topic, PROBLEM, f"{' and '.join(packages)} overwrite one another", advice)


def _examine_providers() -> Iterator[Finding]:
    if len(installed_packages()) != 1:
        return  # already reported
    package = installed_packages()[0].partition(" ")[0]
    for error in try_imports([package]).values():
        yield _does_not_load("onnxruntime", package, error)
        return
    try:
        available = import_onnxruntime().get_available_providers()
    except WetreadError as error:
        yield Finding("onnxruntime", PROBLEM, str(error), "Install the package again.")
        return
    for device, provider in DEVICES.items():
        if provider in available:
            yield _try_device(device)


def _try_device(device: str) -> Finding:
    """Start a session on a device and compute something."""
    topic = f"device {device}"
    try:
        import numpy as np

        session = open_session(_PROBE, device=device).session
        (answer,) = session.run(["y"], {"x": np.array([[1, 2], [3, 4]], np.uint8)})
    except Exception as error:  # noqa: BLE001 - a driver may raise anything, and that is the finding
        level = PROBLEM if device == "cpu" else NOTE
        return Finding(topic, level, f"does not start: {str(error).splitlines()[0]}", "Use --device cpu.")
    if answer.tolist() != [[7, 10], [15, 22]]:
        return Finding(topic, PROBLEM, f"computes {answer.tolist()}", "Use --device cpu; update its driver.")
    return Finding(topic, OK, "starts and computes")


def list_extras() -> dict[str, tuple[str, ...]]:
    """List the packages of each of wetread's extras, from its metadata.

    Raises PackageNotFoundError without metadata: wetread's folder was copied, or put on the path.
    """
    extras: dict[str, tuple[str, ...]] = {}
    for text in metadata.requires("wetread") or ():
        if found := _REQUIREMENT.match(text):
            extras[found[2]] = (*extras.get(found[2], ()), found[1])
    return extras


def _examine_extras() -> Iterator[Finding]:
    try:
        listed = list_extras()
    except metadata.PackageNotFoundError:
        found = f"not known: {Path(__file__).parents[1]} was copied, not installed"
        yield Finding("extras", NOTE, found, "Install its wheel, or its bundle.")
        return
    extras = {name: packages for name, packages in listed.items() if not is_from_bundle() or name in _BUNDLED}
    installed = [[package for package in packages if _is_installed(package)] for packages in extras.values()]
    with ThreadPoolExecutor(machine.read_processor().count) as pool:
        broken = list(pool.map(try_imports, installed))
    for (extra, packages), there, failed in zip(extras.items(), installed, broken, strict=True):
        yield from _judge_extra(extra, [package for package in packages if package not in there], failed)


def _judge_extra(
    extra: str, missing: Sequence[str], broken: Mapping[str, BrokenPackageError]
) -> Iterator[Finding]:
    topic = f"extra {extra}"
    if missing:
        found = f"not installed: {', '.join(missing)}"
        yield Finding(topic, NOTE, found, f"If needed: {advise_extra(extra)}")
    for package, error in broken.items():
        yield _does_not_load(topic, package, error)
    if not missing and not broken:
        yield Finding(topic, OK, "installed")


def _is_installed(package: str) -> bool:
    try:
        return metadata.distribution(package) is not None
    except metadata.PackageNotFoundError:
        return False


def examine_model(model: str | os.PathLike[str] | None) -> list[Finding]:
    """Load a model, or the packaged one, as scoring does, with digest, spec and self-test."""
    try:
        from wetread.runtime.scoring.classifier import Classifier

        model = choose_model(model)
        classifier = Classifier(model, device="cpu")
    except BrokenPackageError as error:
        return [Finding("model", PROBLEM, "cannot be loaded here", str(error))]
    except WetreadError as error:
        return [Finding("model", PROBLEM, str(error), "Copy the model again, or export it again.")]
    except Exception as error:
        if (explained := explain_import(error)) is None:
            raise
        return [Finding("model", PROBLEM, "cannot be loaded here", str(explained))]
    found = f"{model}, digest {classifier.digest[:12]}..., loads and passes its checks"
    return [Finding("model", OK, found)]
