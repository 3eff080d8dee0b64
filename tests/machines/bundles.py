"""A real bundle, installed on another machine without a network, and used there."""

from __future__ import annotations

import json
import shutil
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tests.machines import golden
from tests.machines.machine import ROOT, Machine, MachineError
from wetread.bundle.build import BundleOptions, build_bundle

PLATFORMS = {"windows": "win_amd64", "arm64": "manylinux_aarch64"}
_SECONDS = 3600


@dataclass(frozen=True)
class Used:
    """What came of a bundle: the steps that were done, and what was not as it should be."""

    steps: tuple[str, ...]
    faults: tuple[str, ...]


def try_bundle(machine: Machine, wheel: Path, expected: golden.Measured) -> Used:
    """Build a bundle for a machine, install it there offline, and use it.

    Windows' brings its Python, as a workstation there has none; install.ps1's steps are done in its place.
    """
    place = machine.folder / "bundle"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    archive = _pack_python(machine, place) if machine.is_windows else None
    unpacked = _build(machine, wheel, place, archive)
    installed = place / "installed"
    command = [*machine.python, "-I", machine.call(unpacked / "install.py"), machine.call(installed)]
    if archive is not None:
        with tarfile.open(unpacked / "python" / archive.name) as packed:
            packed.extractall(installed / "python", filter="data")
        interpreter = machine.call(installed / "python" / "python" / "python.exe")
        command = [*machine.python[:-1], interpreter, *command[len(machine.python) :], "--has-python"]
    done = machine.start(command, seconds=_SECONDS, log=place / "install.log", network=False)
    if "wetread is installed" not in done.stdout:
        said = (place / "install.log").read_text(encoding="utf-8", errors="replace").splitlines()
        lines = [*done.stdout.splitlines(), *said]
        return Used((), (f"install.py ended with {done.returncode}: {' / '.join(lines[-6:])}",))
    return _judge(_use(machine, installed, place), expected, brought=archive is not None)


def _pack_python(machine: Machine, place: Path) -> Path:
    """Pack the machine's Python as `--python-archive` takes it: the folder `python`, which runs anywhere."""
    left_out = {"__pycache__", "site-packages", "test", "tests", "idlelib", "tcl", "Scripts"}
    archive = place / "cpython.tar.gz"

    def keep(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if left_out & set(entry.name.split("/")) else entry

    with tarfile.open(archive, "w:gz", compresslevel=1) as packed:
        packed.add(machine.folder / "cpython", "python", filter=keep)
    return archive


def _build(machine: Machine, wheel: Path, place: Path, archive: Path | None) -> Path:
    """Build and unpack a bundle with the int8 model; the folder that it unpacks to."""
    options = BundleOptions(
        model=str(golden.HERE / "int8.onnx"),
        output=str(place / "bundle.zip"),
        platform=PLATFORMS[machine.name],
        python=machine.version,
        extras=("dicom", "review"),
        wheel=str(wheel),
        constraint=str(ROOT / "constraints.txt"),
        python_archive=None if archive is None else str(archive),
    )
    build_bundle(options)
    with zipfile.ZipFile(place / "bundle.zip") as packed:
        packed.extractall(place)
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


def _judge(found: dict, expected: golden.Measured, *, brought: bool) -> Used:
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
    faults += [f"review: {fault}" for fault in found["review"]]
    for name, status, label, probability, scope in found["scores"]:
        wanted = expected.scores["int8"][name]
        near = not probability or abs(float(probability) - max(wanted[2])) < golden.TOLERANCE["int8"]
        if (status, label, scope) != (*wanted[:2], wanted[3]) or not near:
            faults.append(f"{name}: {status} {label} {probability} {scope}, not {wanted}")
    steps = (
        "installed" + (", with the Python of the bundle" if brought else ""),
        "verified",
        f"`score` of {score['rows']} files, killed {score['kills']} times and resumed: the same bytes",
        f"`watch` killed {watch['kills']} times: each file once",
        "`review`: page, picture, an answer, stopped",
    )
    return Used(steps, tuple(faults))
