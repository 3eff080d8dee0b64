"""A real bundle, installed on another machine without a network, and used there."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tests.machines import golden
from tests.machines.machine import ROOT, Machine, MachineError
from wetread.bundle.build import BundleOptions, build_bundle

_PLATFORMS = {"windows": "win_amd64", "arm64": "manylinux_aarch64"}
_SECONDS = 3600


@dataclass(frozen=True)
class Used:
    """What came of a bundle: the steps that were done, and what was not as it should be."""

    steps: tuple[str, ...]
    faults: tuple[str, ...]


def try_bundle(machine: Machine, wheel: Path, expected: golden.Measured) -> Used:
    """Build a bundle for a machine, install it there offline, and use it."""
    place = machine.folder / "bundle"
    shutil.rmtree(place, ignore_errors=True)
    unpacked = _build(machine, wheel, place)
    installed = place / "installed"
    command = [machine.call(unpacked / "install.py"), machine.call(installed)]
    done = machine.start(
        [*machine.python, "-I", *command], seconds=_SECONDS, log=place / "install.log", network=False
    )
    if "wetread is installed" not in done.stdout:
        said = (place / "install.log").read_text(encoding="utf-8", errors="replace").splitlines()
        lines = [*done.stdout.splitlines(), *said]
        return Used((), (f"install.py ended with {done.returncode}: {' / '.join(lines[-6:])}",))
    return _judge(_use(machine, installed, place), expected, installer=done.stdout)


def _build(machine: Machine, wheel: Path, place: Path) -> Path:
    """Build and unpack a bundle with the int8 model; the folder that it unpacks to."""
    place.mkdir()
    options = BundleOptions(
        model=str(golden.HERE / "int8.onnx"),
        output=str(place / "bundle.zip"),
        platform=_PLATFORMS[machine.name],
        python=machine.version,
        extras=("dicom",),
        wheel=str(wheel),
        constraint=str(ROOT / "constraints.txt"),
    )
    build_bundle(options)
    with zipfile.ZipFile(place / "bundle.zip") as archive:
        archive.extractall(place)
    (unpacked,) = (path for path in place.iterdir() if path.is_dir())
    return unpacked


def _use(machine: Machine, installed: Path, place: Path) -> dict[str, object]:
    pictures = place / "pictures"
    pictures.mkdir()
    for index, (name, data) in enumerate(golden.read_corpus().items()):
        if index % 3 == 0:
            (pictures / name).write_bytes(data)
    interpreter = installed / ("env/Scripts/python.exe" if machine.is_windows else "env/bin/python")
    script = Path(__file__).with_name("workstation.py")
    paths = [script, interpreter, installed / "model.onnx", pictures, place / "work"]
    command = [*machine.python, *map(machine.call, paths)]
    done = machine.start(command, seconds=_SECONDS, log=place / "use.log", network=False)
    if done.returncode:
        raise MachineError(f"workstation.py ended with {done.returncode}: see {place / 'use.log'}")
    found: dict[str, object] = json.loads(done.stdout)
    return found


def _judge(found: dict, expected: golden.Measured, *, installer: str) -> Used:
    """Compare what was used with what must be."""
    score, watch, faults = found["score"], found["watch"], []
    if found["verify"]:
        faults.append(f"verify ended with {found['verify']}")
    if (score["code"], score["same bytes"]) != (3, True):
        faults.append(f"score after kills: {score}")
    if not (score["kills"] and watch["kills"]):
        faults.append(f"nothing was killed while it was at work: {score}, {watch}")
    if not watch["each once"]:
        faults.append(f"watch after kills: {watch}")
    for name, status, label, probability in found["scores"]:
        wanted = expected.scores["int8"][name]
        near = not probability or abs(float(probability) - max(wanted[2])) < golden.TOLERANCE["int8"]
        if (status, label) != wanted[:2] or not near:
            faults.append(f"{name}: {status} {label} {probability}, not {wanted}")
    steps = (
        "install.py without a network: doctor, verify and the three pictures",
        "verify",
        f"score of {score['rows']} files, killed {score['kills']} times and resumed: the same bytes",
        f"watch, killed {watch['kills']} times: each file once",
    )
    return Used(steps, tuple(faults))
