"""A real bundle, installed without a network by another user, and what it then does.

These need a package index for the wheels; where none can be reached they are skipped, saying so.
"""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.conftest import draw_image
from wetread.bundle.build import BundleOptions, _gather_wheels, build_bundle
from wetread.bundle.licences import name_licence
from wetread.bundle.selftest import draw_pictures
from wetread.bundle.target import Target
from wetread.bundle.wheels import check_closed
from wetread.errors import SetupError

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="bundles are built and installed on Linux here"
)
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
ROOT = Path(__file__).parents[2]
NO_INDEX = re.compile("No matching distribution|Could not find a version|ConnectionError|Max retries")
NOBODY = 65534


def make_options(folder: Path, model: Path, **more) -> BundleOptions:
    machine = os.uname().machine
    values = {"platform": f"manylinux_{machine}", "python": HERE, "constraint": str(ROOT / "constraints.txt")}
    return BundleOptions(model=str(model), output=str(folder / "bundle.zip"), **(values | more))


def or_skip(error: SetupError) -> None:
    if NO_INDEX.search(str(error)):
        pytest.skip(f"no package index with these wheels: {str(error)[-200:]}")
    raise error


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that another user may go through; pytest's own are closed."""
    with TemporaryDirectory(prefix="wetread-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="module")
def unpacked(place, proven_model) -> Path:
    """A real bundle, unpacked."""
    try:
        made = build_bundle(make_options(place, proven_model, extras=("dicom",)))
    except SetupError as error:
        or_skip(error)
    with zipfile.ZipFile(made.path) as archive:
        archive.extractall(place)
    return next(path for path in place.iterdir() if path.is_dir())


def find_network_free() -> list[str]:
    """A command that runs another in a network namespace with no interface."""
    for command in (["unshare", "-n"], ["unshare", "-rn"]):
        if (
            shutil.which("unshare")
            and subprocess.run([*command, "true"], capture_output=True).returncode == 0
        ):
            return command
    pytest.skip("no network namespaces here: unshare -n and unshare -rn are refused")


def find_other_user() -> list[str]:
    """A command that runs another as nobody; [] where this user may not."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        return []
    # setpriv itself still may do everything when it starts a program: only what that one starts may not.
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "env"]


def find_python(as_user: list[str]) -> str:
    """A Python of this version that the user may run."""
    check = f"import sys, venv; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    base = Path(sys.base_prefix) / "bin" / f"python{HERE}"
    for candidate in (str(base), f"/usr/bin/python{HERE}", f"/usr/local/bin/python{HERE}"):
        try:
            done = subprocess.run([*as_user, candidate, "-I", "-c", check], capture_output=True, cwd="/")
        except OSError:
            continue
        if done.returncode == 0:
            return candidate
    pytest.skip(f"no Python {HERE} that another user may run")


class Workstation:
    """An installation, and a shell without a network as its user."""

    def __init__(self, unpacked: Path, folder: Path, user: list[str]) -> None:
        self.folder, self.home = folder / "mit Ümlaut" / "wetread", folder
        self.shell = [*find_network_free(), *(user or ["env"]), "-i", f"HOME={folder}", "PATH=/usr/bin:/bin"]
        python = find_python(user)
        self.installed = self.run("sh", unpacked / "install.sh", "--to", self.folder, "--python", python)

    def run(self, *command: object, network: bool = False) -> subprocess.CompletedProcess[str]:
        shell = self.shell[2:] if network else self.shell
        return subprocess.run([*shell, *map(str, command)], capture_output=True, text=True, cwd=self.home)


@pytest.fixture(scope="module")
def workstation(place, unpacked) -> Workstation:
    """The bundle, installed without a network: as another user where that can be."""
    home = place / "home"
    home.mkdir()
    user = find_other_user()
    if user:
        os.chown(home, NOBODY, NOBODY)
    return Workstation(unpacked, home, user)


def test_it_installs_without_a_network_as_another_user(workstation):
    assert (workstation.installed.returncode, workstation.installed.stderr) == (0, "")
    assert "wetread is installed" in workstation.installed.stdout
    if os.geteuid() == 0:
        assert (workstation.folder / "wetread").stat().st_uid == NOBODY
    interfaces = workstation.run("cat", "/proc/net/dev").stdout.splitlines()[2:]
    assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]  # and that one is down


def test_it_scores_there_what_is_scored_here(workstation, proven_model, tmp_path):
    from wetread import Classifier

    pictures = workstation.home / "bilder"
    pictures.mkdir()
    for index in range(5):
        (pictures / f"bild {index}.jpg").write_bytes(draw_image(index))
    (pictures / "text.txt").write_bytes(b"no picture")
    model = workstation.folder / "model.onnx"
    scored = workstation.run(workstation.folder / "wetread", "score", pictures, "--model", model, "--quiet")
    assert (scored.returncode, scored.stderr) == (3, "")
    rows = list(csv.DictReader(io.StringIO(scored.stdout)))
    for row, here in zip(rows, Classifier(proven_model).score(pictures), strict=True):
        assert (row["path"], row["status"], row["label"] or None) == (here.path, here.status, here.label)
        if here.status == "ok":
            assert float(row["p_PNEUMONIA"]) == pytest.approx(here.probabilities[1], abs=1e-6)


def test_it_holds_no_training_and_is_small(workstation):
    """The workstation's whole environment, with the extra `dicom` and the interpreter's own links."""
    listed = workstation.run(workstation.folder / "env/bin/python", "-I", "-c", "import tensorflow")
    assert "ModuleNotFoundError" in listed.stderr
    sizes = {
        path: path.lstat().st_size
        for path in workstation.folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    dicom = sum(
        size
        for path, size in sizes.items()
        if {"imagecodecs", "imagecodecs.libs", "pydicom"} & set(path.parts)
    )
    assert (sum(sizes.values()) - dicom) / 1e6 < 400
    assert sum(sizes.values()) / 1e6 < 500


def test_scoring_opens_no_socket_even_where_there_is_a_network(workstation):
    if not shutil.which("strace"):
        pytest.skip("strace is not installed: apt-get install strace (.ci/run does, as root)")
    pictures = workstation.home / "three"
    pictures.mkdir()
    for name, data in draw_pictures(with_dicom=True).items():
        (pictures / name).write_bytes(data)
    log = workstation.home / "sockets.log"
    python = workstation.folder / "env" / "bin" / "python"
    wetread, model = [python, "-I", "-m", "wetread"], workstation.folder / "model.onnx"

    def trace(*command: object) -> str:
        watched = ["strace", "-f", "-qq", "-e", "trace=%network", "-o", log]
        done = workstation.run(*watched, *command, network=True)
        if "ptrace" in done.stderr.lower():
            pytest.skip(f"strace may not trace here: {done.stderr.splitlines()[0]}")
        assert done.returncode == 0, done.stderr
        return log.read_text()

    assert "AF_INET" in trace(python, "-c", _OPEN_ONE)  # strace does see one
    for command in (["score", pictures, "--model", model], ["verify", model], ["doctor", "--model", model]):
        assert "AF_INET" not in trace(*wetread, *command)


_OPEN_ONE = "import socket; socket.socket()"


@pytest.mark.long
def test_watching_for_longer_sends_nothing_and_leaves_nothing_in_home(workstation):
    """onnxruntime's telemetry begins about 9 seconds after it was loaded."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed: apt-get install strace (.ci/run does, as root)")
    place, model = workstation.home / "long", workstation.folder / "model.onnx"
    for folder in (place, place / "home", place / "incoming"):
        folder.mkdir()
        shutil.chown(folder, workstation.folder.stat().st_uid)
    (place / "incoming" / "1.jpg").write_bytes(draw_image(1))
    log, rows = place / "sockets.log", place / "scores.csv"
    strace = ["env", f"HOME={place / 'home'}", "strace", "-f", "-qq", "-e", "trace=%network", "-o", log]
    watch = [workstation.folder / "wetread", "watch", place / "incoming", "--model", model, "--output", rows]
    done = workstation.run(*strace, "timeout", "--preserve-status", 14, *watch, network=True)
    if "ptrace" in done.stderr.lower():
        pytest.skip(f"strace may not trace here: {done.stderr.splitlines()[0]}")
    assert (done.returncode, len(rows.read_text().splitlines())) == (143, 2), done.stderr
    assert "AF_INET" not in log.read_text()
    assert list((place / "home").iterdir()) == []


def test_a_changed_byte_in_a_real_wheel_is_named(workstation, unpacked):
    wheel = next((unpacked / "wheels").glob("onnxruntime-*.whl"))
    data = bytearray(wheel.read_bytes())
    data[len(data) // 3] ^= 4
    whole = wheel.read_bytes()
    wheel.write_bytes(data)
    try:
        done = workstation.run("sh", unpacked / "install.sh", "--to", workstation.home / "other")
    finally:
        wheel.write_bytes(whole)
    assert (done.returncode, done.stderr) == (
        1,
        f"install: wheels/{wheel.name} changed after the bundle was made. Copy the bundle again.\n",
    )
    assert not (workstation.home / "other").exists()


def expect_otherwise(folder: Path) -> None:
    """Change what the self-test's pictures should give: as if this machine computed wrong."""
    expected = folder / "selftest" / "expected.csv"
    expected.write_text(re.sub(r"0\.\d+,0\.\d+,\n", "0.5,0.5,\n", expected.read_text()))


_PROVE = """
import json, pathlib, sys
sys.path.insert(0, sys.argv[1])
import install
try:
    install.prove(json.loads((install.HERE / "bundle.json").read_text()), pathlib.Path(sys.argv[2]))
except install.InstallError as error:
    sys.exit(str(error))
"""


def test_the_self_test_tells_a_machine_that_answers_otherwise(workstation, unpacked, place):
    proofs = place / "proofs"
    shutil.copytree(unpacked / "selftest", proofs / "selftest")
    for name in ("bundle.json", "install.py"):
        shutil.copy(unpacked / name, proofs / name)
    python = workstation.folder / "env" / "bin" / "python"
    done = workstation.run(python, "-I", "-c", _PROVE, proofs, workstation.folder)
    assert (done.returncode, done.stderr) == (0, "")
    expect_otherwise(proofs)
    done = workstation.run(python, "-I", "-c", _PROVE, proofs, workstation.folder)
    assert done.returncode == 1
    assert "The self-test must give the row" in done.stderr


@pytest.mark.long
def test_a_machine_that_answers_otherwise_is_refused(workstation, unpacked, place):
    from wetread.bundle.build import sum_files

    other = Path(shutil.copytree(unpacked, place / "other"))
    expect_otherwise(other)
    names = [path for path in other.rglob("*") if path.is_file() and path.name != "SHA256SUMS"]
    (other / "SHA256SUMS").write_bytes(
        sum_files({path.relative_to(other).as_posix(): path for path in names})
    )
    folder = workstation.home / "refused"
    python = find_python(find_other_user())
    done = workstation.run("sh", other / "install.sh", "--to", folder, "--python", python)
    assert done.returncode == 1
    assert "The self-test must give the row" in done.stderr
    assert "Do not use this machine." in done.stderr
    assert not folder.exists()


def test_a_real_windows_bundle_is_closed_by_its_wheels_own_metadata(tmp_path, proven_model):
    options = make_options(tmp_path, proven_model, platform="win_amd64", python="3.12", extras=("dicom",))
    try:
        wheels = _gather_wheels(options, options.target, tmp_path, lambda _: None)
    except SetupError as error:
        or_skip(error)
    check_closed(wheels, roots=["wetread[cpu,dicom]", "pip>=24"], target=Target("win_amd64", "3.12"))
    assert "colorama" in {wheel.name for wheel in wheels} or "click" not in {wheel.name for wheel in wheels}
    licences = {wheel.name: name_licence(wheel.metadata) for wheel in wheels}
    assert [name for name, found in licences.items() if found is None or "GPL" in found[0]] == []
    native = [wheel.path.name for wheel in wheels if not wheel.path.name.endswith("-none-any.whl")]
    assert len(native) >= 5
    assert all(name.endswith("-win_amd64.whl") for name in native)


@pytest.mark.long
def test_a_bundle_may_bring_its_own_python(place, unpacked, proven_model, tmp_path):
    """This interpreter's files, packed: real archives come from python-build-standalone."""
    archive = tmp_path / "python.tar.gz"
    base = Path(sys.base_prefix)
    library = f"lib/python{HERE}"

    def keep(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        left_out = ("/test", "/site-packages", "/idlelib", "__pycache__", "/config-", "/ensurepip")
        return None if any(part in entry.name for part in left_out) else entry

    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(base / "bin" / f"python{HERE}", "python/bin/python3")
        tar.add(base / library, f"python/{library}", filter=keep)
        for path in base.glob("lib/libpython*"):
            tar.add(path, f"python/lib/{path.name}")
    try:
        made = build_bundle(make_options(tmp_path, proven_model, python_archive=str(archive)))
    except SetupError as error:
        or_skip(error)
    with zipfile.ZipFile(made.path) as bundle:
        bundle.extractall(tmp_path)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    command = ["sh", str(folder / "install.sh"), "--to", str(tmp_path / "to")]
    done = subprocess.run([*find_network_free(), *command], capture_output=True, text=True)
    if "none that runs here" in done.stderr.lower():
        pytest.skip("this interpreter does not run from another place")
    assert (done.returncode, done.stderr) == (0, "")
    linked = (tmp_path / "to" / "env" / "bin" / "python").resolve()
    assert linked == (tmp_path / "to" / "python" / "python" / "bin" / "python3").resolve()
