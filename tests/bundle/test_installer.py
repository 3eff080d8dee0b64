"""The installer's checks, on a bundle with next to nothing in it: whatever changed is named."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from wetread.bundle import build
from wetread.bundle.build import _read_installer, sum_files
from wetread.bundle.target import Target

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="install.sh is for Linux")
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """An unpacked bundle."""
    folder = tmp_path_factory.mktemp("bundle") / "wetread-bündle 1"
    pip = "wheels/a-1-py3-none-any.whl"
    about = {"pip": pip, "platform": f"manylinux_{os.uname().machine}", "python": HERE}
    files: dict[str, bytes] = {
        "bundle.json": json.dumps(about, indent=2).encode(),
        "model.onnx": bytes(range(256)),
        "requirements.txt": b"a==1\n",
        "wheels/a-1-py3-none-any.whl": b"PK" + bytes(100),
        "licenses/a-1/LICENSE of a.txt": b"text",
        **_read_installer(Target("manylinux_x86_64", "3.12")),
    }
    files["SHA256SUMS"] = sum_files(files)
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


@pytest.fixture
def bundle(whole, tmp_path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(whole, tmp_path / "unpacked"))


def install(bundle: Path, *more: str, to: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [
        "sh",
        str(bundle / "install.sh"),
        "--to",
        str(to or bundle.parent / "target"),
        "--python",
        sys.executable,
    ]
    return subprocess.run([*command, *more], capture_output=True, text=True, errors="replace")


def install_by_python(bundle: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(bundle / "install.py"), str(bundle.parent / "target")]
    return subprocess.run(command, capture_output=True, text=True, errors="replace")


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


FILES = [
    "SHA256SUMS",
    "bundle.json",
    "install.py",
    "install.sh",
    "README.txt",
    "model.onnx",
    "requirements.txt",
    "wheels/a-1-py3-none-any.whl",
    "licenses/a-1/LICENSE of a.txt",
    "service/wetread-node.service",
    "service/wetread-watch.service",
]


def test_the_list_is_complete(whole):
    assert {path.relative_to(whole).as_posix() for path in whole.rglob("*") if path.is_file()} == set(FILES)


def test_a_whole_bundle_passes_its_checks(bundle):
    """It then fails for want of real wheels, and leaves nothing behind."""
    done = install(bundle)
    assert "making the environment" in done.stdout
    assert "changed" not in done.stderr
    assert done.returncode == 1
    assert not (bundle.parent / "target").exists()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_one_changed_byte_anywhere_stops_it_and_names_the_file(bundle, name, where):
    path = bundle / name
    # In install.sh's own first line, a comment, and its last, nothing else would notice.
    flip(path, int(where * (path.stat().st_size - 1)))
    for done in (install(bundle), install_by_python(bundle)):
        assert done.returncode != 0
        assert name in done.stderr
    assert not (bundle.parent / "target").exists()


def flip_the_script(bundle: Path, positions: range) -> None:
    script = bundle / "install.sh"
    good = script.read_bytes()
    for at in positions:
        script.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        done = install(bundle)
        assert "making the environment" not in done.stdout, at
        # It may be the very digit of `exit 1` that changed.
        assert done.returncode != 0 or "install.sh changed" in done.stderr, at
    assert not (bundle.parent / "target").exists()


def test_a_damaged_script_never_installs(bundle):
    flip_the_script(bundle, range(0, (bundle / "install.sh").stat().st_size, 97))


@pytest.mark.long
def test_a_script_damaged_anywhere_never_installs(bundle):
    flip_the_script(bundle, range((bundle / "install.sh").stat().st_size))


@pytest.mark.long
def test_sums_damaged_anywhere_are_named(bundle):
    sums = bundle / "SHA256SUMS"
    good = sums.read_bytes()
    for at in range(len(good)):
        for bit in (1, 128):
            sums.write_bytes(good[:at] + bytes([good[at] ^ bit]) + good[at + 1 :])
            done = install(bundle)
            assert done.returncode == 1
            assert "SHA256SUMS changed" in done.stderr


def test_random_damage_is_named(bundle):
    random = np.random.default_rng(3)
    for _ in range(12):
        name = FILES[random.integers(4, len(FILES))]
        good = (bundle / name).read_bytes()
        flip(bundle / name, int(random.integers(len(good))))
        done = install(bundle)
        assert (done.returncode, name in done.stderr) == (1, True)
        (bundle / name).write_bytes(good)


@pytest.mark.parametrize("run", [install, install_by_python])
def test_a_missing_and_a_strange_file_are_named(bundle, run):
    (bundle / "wheels" / "b-1-py3-none-any.whl").write_bytes(b"no one asked for this")
    done = run(bundle)
    assert (done.returncode, done.stderr) == (
        1,
        "install: wheels/b-1-py3-none-any.whl does not belong to the bundle. Unpack "
        + ("the bundle again, into an empty folder.\n" if run is install else "it into an empty folder.\n"),
    )
    (bundle / "wheels" / "b-1-py3-none-any.whl").unlink()
    (bundle / "Thumbs.db").write_bytes(b"somebody looked")
    (bundle / "model.onnx").unlink()
    done = run(bundle)
    assert (done.returncode, done.stderr) == (1, "install: model.onnx is missing. Unpack the bundle again.\n")


def pack_python(path: Path, marker: Path) -> None:
    """Write an archive whose interpreter, a script, leaves a marker when it is run."""
    script = f"#!/bin/sh\necho ran >'{marker}'\n".encode()
    entry = tarfile.TarInfo("bin/python3")
    entry.size, entry.mode = len(script), 0o755
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        tar.addfile(entry, io.BytesIO(script))


@pytest.mark.parametrize("name", ["Thumbs.db", "desktop.ini", ".DS_Store", "python.tar"])
def test_an_archive_that_is_not_listed_is_never_unpacked(bundle, tmp_path, name):
    """Whatever its name is: names of file managers are passed over at the top only."""
    pack_python(bundle / "python" / name, tmp_path / "ran")
    (bundle / "Thumbs.db").write_bytes(b"somebody looked")
    command = ["sh", str(bundle / "install.sh"), "--to", str(tmp_path / "target")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, f"python/{name} does not belong to the bundle" in done.stderr) == (1, True)
    assert f"python/{name} does not belong to the bundle" in install_by_python(bundle).stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["python", "model.onnx", "licenses/Thumbs.db"])
def test_links_are_refused(bundle, tmp_path, name):
    pack_python(tmp_path / "elsewhere" / "python.tar", tmp_path / "ran")
    if (bundle / name).exists():
        (bundle / name).rename(tmp_path / "elsewhere" / "python.tar")
    target = tmp_path / "elsewhere" / ("" if name == "python" else "python.tar")
    (bundle / name).symlink_to(target)
    command = ["sh", str(bundle / "install.sh"), "--to", str(tmp_path / "target")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, f"{name} is a link" in done.stderr) == (1, True)
    assert f"{name} is a link" in install_by_python(bundle).stderr
    assert not (tmp_path / "ran").exists()


def test_the_script_for_windows_refuses_links_and_unpacks_what_is_listed():
    text = (Path(build.__file__).parent / "installer" / "install.ps1").read_text()
    assert '@("SymbolicLink", "Junction") -contains $file.LinkType' in text
    assert '$archives = @($names | Where-Object { $_ -like "python/*" })' in text
    assert text.index("\n    Test-Signature $root") < text.index("\n$names = @(Test-Files $root)")
    assert text.index("\n$names = @(Test-Files $root)") < text.index("tar.exe")


def test_an_empty_folder_of_the_users_stays_when_it_fails(bundle):
    target = bundle.parent / "target"
    target.mkdir()
    for run in (install, install_by_python):
        done = run(bundle)
        assert (done.returncode, "making the environment" in done.stdout) == (1, True)
        assert list(target.iterdir()) == []


@pytest.mark.parametrize(
    "more",
    [["--public-key"], ["--public-key="], ["--public-key", ""], ["--publickey", "k"], ["--public", "k"]],
)
def test_options_that_cannot_be_meant_are_refused(bundle, more):
    for command in (
        ["sh", str(bundle / "install.sh")],
        [sys.executable, "-I", str(bundle / "install.py"), "to"],
    ):
        done = subprocess.run([*command, *more], capture_output=True, text=True, cwd=bundle.parent)
        assert done.returncode == 2 or "--public-key needs a file" in done.stderr
        assert "checking" not in done.stdout
    assert not (bundle.parent / "to").exists()


def test_a_folder_that_exists_is_left_alone(bundle):
    target = bundle.parent / "target"
    target.mkdir()
    (target / "mine").write_text("kept")
    done = install(bundle)
    assert done.returncode == 1
    assert f"{target} already exists" in done.stderr
    assert (target / "mine").read_text() == "kept"


def test_another_python_is_refused(bundle):
    data = (bundle / "bundle.json").read_text().replace(HERE, "3.99")
    (bundle / "bundle.json").write_text(data)
    files = {name: (bundle / name).read_bytes() for name in FILES if name != "SHA256SUMS"}
    (bundle / "SHA256SUMS").write_bytes(sum_files(files))
    assert "--python must be a 64-bit Python 3.99" in install(bundle).stderr
    assert f"The bundle needs a 64-bit Python 3.99, and this is {HERE}." in install_by_python(bundle).stderr
    bare = subprocess.run(
        ["sh", str(bundle / "install.sh"), "--to", "/nowhere"], capture_output=True, text=True
    )
    assert "This machine has no 64-bit Python 3.99." in bare.stderr


def test_a_python_may_be_named_from_the_current_folder(bundle, tmp_path):
    (tmp_path / "here").symlink_to(Path(sys.executable).parent)
    data = (bundle / "bundle.json").read_text().replace(HERE, "3.99")
    (bundle / "bundle.json").write_text(data)
    files = {name: (bundle / name).read_bytes() for name in FILES if name != "SHA256SUMS"}
    (bundle / "SHA256SUMS").write_bytes(sum_files(files))
    python = f"here/{Path(sys.executable).name}"
    command = ["sh", str(bundle / "install.sh"), "--to", "there", "--python", python]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert f"and {tmp_path}/{python} is not." in done.stderr


def test_another_platform_is_refused(bundle):
    data = (bundle / "bundle.json").read_text().replace(os.uname().machine, "riscv64")
    (bundle / "bundle.json").write_text(data)
    files = {name: (bundle / name).read_bytes() for name in FILES if name != "SHA256SUMS"}
    (bundle / "SHA256SUMS").write_bytes(sum_files(files))
    done = install(bundle)
    assert f"The bundle is for manylinux_riscv64, and this is manylinux_{os.uname().machine}." in done.stderr


def test_usage(bundle):
    alone = subprocess.run([sys.executable, "-I", str(bundle / "install.py")], capture_output=True, text=True)
    assert (alone.returncode, alone.stderr.startswith("usage: python -I install.py FOLDER")) == (2, True)
    done = subprocess.run(["sh", str(bundle / "install.sh"), "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (
        0,
        "usage: sh install.sh [--to FOLDER] [--python PYTHON] [--public-key FILE]\n",
    )
    assert subprocess.run(["sh", str(bundle / "install.sh"), "--odd"], capture_output=True).returncode == 2


def test_a_folder_that_may_not_be_written_and_no_home_say_what_to_do(bundle, tmp_path):
    (tmp_path / "file").write_text("no folder")
    done = install(bundle, to=tmp_path / "file" / "wetread")
    assert done.returncode == 1
    assert "Choose a folder with --to that you may write to" in done.stderr
    homeless = subprocess.run(
        ["sh", str(bundle / "install.sh")], capture_output=True, text=True, env={"PATH": os.environ["PATH"]}
    )
    assert (homeless.returncode, homeless.stderr) == (
        1,
        "install: There is no home folder to install into. Give --to FOLDER.\n",
    )


@pytest.mark.parametrize("closing", ["2>&-", ">&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("script", ["sh {0}/install.sh --to {1} --python {2}", "{2} -I {0}/install.py {1}"])
def test_without_standard_streams_it_does_the_same(bundle, script, closing):
    """As far as this bundle goes: its wheels are none, and what pip says of them ends it."""
    target = bundle.parent / "target"
    line = "exec " + script.format(f"'{bundle}'", f"'{target}'", sys.executable)
    before = sorted(path.read_bytes() for path in bundle.rglob("*") if path.is_file())
    open_code = subprocess.run(["sh", "-c", line], capture_output=True).returncode
    closed = subprocess.run(["sh", "-c", f"{line} {closing}"], capture_output=True)
    assert (open_code, closed.returncode) == (1, 1)
    if "2>&-" not in closing:
        assert b"ended with" in closed.stderr and b"Bad file descriptor" not in closed.stderr
    assert sorted(path.read_bytes() for path in bundle.rglob("*") if path.is_file()) == before
    assert not target.exists()
