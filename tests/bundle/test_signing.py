"""Signed bundles: `ssh-keygen` judges the signature, in the installer's hands and in ours."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("cryptography")

from cryptography.hazmat.primitives import serialization

from tests.bundle.test_installer import pack_python
from tests.keys import write_keys
from wetread.bundle.build import _read_installer, sum_files
from wetread.bundle.signing import describe_signer, sign_sums
from wetread.bundle.target import Target
from wetread.errors import ConfigError

pytestmark = pytest.mark.skipif(
    not shutil.which("ssh-keygen"), reason="ssh-keygen is not installed: apt-get install openssh-client"
)


@pytest.fixture
def keys(tmp_path) -> tuple[Path, Path]:
    return write_keys(tmp_path)


@pytest.fixture
def bundle(tmp_path, keys) -> Path:
    """A signed bundle, whole but for real wheels."""
    folder = tmp_path / "bundle of mine"
    files: dict[str, bytes | Path] = {
        "bundle.json": b'{"python": "9.9", "platform": "none"}',
        **_read_installer(Target("manylinux_x86_64", "3.12")),
    }
    files["SHA256SUMS"] = sums = sum_files(files)
    files["SHA256SUMS.sig"] = sign_sums(sums, key=keys[0])
    for name, data in files.items():
        assert isinstance(data, bytes)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def install(bundle: Path, *more: str) -> str:
    """Run the installer; it ends at the latest where this Python is not the bundle's."""
    command = [sys.executable, "-I", str(bundle / "install.py"), str(bundle.parent / "target"), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert not (bundle.parent / "target").exists()
    return done.stdout + done.stderr


GOES_ON = "The bundle needs a 64-bit Python 9.9"


def write_openssh(public: Path) -> Path:
    key = serialization.load_pem_public_key(public.read_bytes())
    data = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    path = public.with_suffix(".pub")
    path.write_bytes(data + b" somebody@somewhere\n")
    return path


@pytest.mark.parametrize("form", ["pem", "openssh"])
def test_the_right_key_lets_it_go_on(bundle, keys, form):
    key = keys[1] if form == "pem" else write_openssh(keys[1])
    said = install(bundle, "--public-key", str(key))
    assert "checking the signature\nchecking the files\n" in said
    assert GOES_ON in said


def test_another_key_is_refused(bundle, tmp_path):
    _, other = write_keys(tmp_path, name="other")
    said = install(bundle, "--public-key", str(other))
    assert f"The bundle is not signed by the key in {other}" in said
    assert "checking the files" not in said


def test_a_changed_file_is_refused_even_with_new_sums(bundle, keys):
    """Who changes a file can write SHA256SUMS anew, but not the signature."""
    (bundle / "README.txt").write_bytes(b"other words")
    names = [path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()]
    files = {name: (bundle / name).read_bytes() for name in names if not name.startswith("SHA256SUMS")}
    (bundle / "SHA256SUMS").write_bytes(sum_files(files))
    assert GOES_ON in install(bundle)
    assert "is not signed by the key" in install(bundle, "--public-key", str(keys[1]))


@pytest.mark.parametrize("at", [60, 150, 250])
def test_a_changed_signature_is_refused(bundle, keys, at):
    path = bundle / "SHA256SUMS.sig"
    data = bytearray(path.read_bytes())
    data[at] = ord("A") if data[at] != ord("A") else ord("B")
    path.write_bytes(data)
    assert "is not signed by the key" in install(bundle, "--public-key", str(keys[1]))


def test_a_bundle_whose_signature_is_gone_is_refused_where_one_is_asked_for(bundle, keys):
    (bundle / "SHA256SUMS.sig").unlink()
    assert "The bundle has no signature" in install(bundle, "--public-key", str(keys[1]))
    assert GOES_ON in install(bundle)


def test_without_a_key_it_says_that_nothing_was_checked(bundle):
    assert "by whom is not checked" in install(bundle)


@pytest.mark.parametrize("content", ["", "ssh-rsa AAAA", "-----BEGIN PUBLIC KEY-----\nAAAA\n"])
def test_what_is_no_key_is_said(bundle, tmp_path, content):
    (tmp_path / "key").write_text(content)
    assert "is not an Ed25519 public key" in install(bundle, "--public-key", str(tmp_path / "key"))


def run_script(bundle: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Run install.sh from elsewhere."""
    command = ["sh", f"{bundle.name}/install.sh", "--to", "target", *more]
    return subprocess.run(command, cwd=bundle.parent, capture_output=True, text=True, check=False)


def with_python(bundle: Path, keys: tuple[Path, Path], marker: Path) -> None:
    """Put an archive with an interpreter, a script, into a bundle, and sign it."""
    (bundle / "bundle.json").write_text('{"python": "3.99", "platform": "none"}')
    pack_python(bundle / "python" / "python.tar", marker)
    names = [path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()]
    files = {name: (bundle / name).read_bytes() for name in names if not name.startswith("SHA256SUMS")}
    (bundle / "SHA256SUMS").write_bytes(sum_files(files))
    (bundle / "SHA256SUMS.sig").write_bytes(sign_sums((bundle / "SHA256SUMS").read_bytes(), key=keys[0]))


@pytest.mark.parametrize("form", ["pem", "openssh"])
def test_the_shell_script_checks_before_it_runs_the_bundles_python(bundle, keys, tmp_path, form):
    with_python(bundle, keys, tmp_path / "ran")
    mine, other = keys[1], write_keys(tmp_path, name="another one")[1]
    if form == "openssh":
        mine, other = write_openssh(mine), write_openssh(other)
    done = run_script(bundle, "--public-key", str(other))
    assert (done.returncode, "is not signed by the key in" in done.stderr) == (1, True)
    assert not (tmp_path / "ran").exists()
    run_script(bundle, "--public-key", str(mine))
    assert (tmp_path / "ran").read_text() == "ran\n"


@pytest.mark.parametrize("content", ["", "ssh-rsa AAAA", "-----BEGIN PUBLIC KEY-----\nAAAA\n"])
def test_the_shell_script_says_what_is_no_key_and_no_signature(bundle, keys, content):
    (bundle.parent / "key").write_text(content)
    assert "is not an Ed25519 public key" in run_script(bundle, "--public-key", "key").stderr
    (bundle / "SHA256SUMS.sig").unlink()
    assert "The bundle has no signature" in run_script(bundle, "--public-key", str(keys[1])).stderr
    assert "--public-key needs a file" in run_script(bundle, "--public-key").stderr


def test_anyone_can_check_it_by_hand(bundle, keys, tmp_path):
    """With the guide's own commands, before anything of the bundle is run; they find what was added."""
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "offline-machine.md").read_text()
    commands = next(block for block in guide.split("```bash\n") if block.startswith("ssh-keygen"))
    (tmp_path / "signers").write_text(f"{describe_signer(keys[0])}\n")
    command = ["sh", "-c", commands.partition("```")[0]]
    done = subprocess.run(command, cwd=bundle, capture_output=True, text=True, check=True)
    assert done.stdout.startswith('Good "wetread-bundle" signature')
    assert done.stdout.splitlines()[1:] == ["SHA256SUMS", "SHA256SUMS.sig"]
    assert describe_signer(keys[0]).split()[1:] == write_openssh(keys[1]).read_text().split()[:2]
    (bundle / "python").symlink_to(tmp_path)
    (bundle / "service" / "Thumbs.db").write_bytes(b"more")
    done = subprocess.run(command, cwd=bundle, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1:] == ["SHA256SUMS", "SHA256SUMS.sig", "python", "service/Thumbs.db"]


def test_ssh_keygen_writes_the_same_bytes(keys, tmp_path):
    """With the same key in OpenSSH's form: Ed25519 signatures are a function of key and text."""
    key = serialization.load_pem_private_key(keys[0].read_bytes(), None)
    openssh = tmp_path / "id"
    openssh.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
    )
    openssh.chmod(0o600)
    (tmp_path / "sums").write_bytes(b"some sums\n")
    command = ["ssh-keygen", "-Y", "sign", "-f", str(openssh), "-n", "wetread-bundle", str(tmp_path / "sums")]
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "sums.sig").read_bytes() == sign_sums(b"some sums\n", key=keys[0])


def test_a_key_that_is_none_is_refused(tmp_path):
    (tmp_path / "key").write_text("no key")
    with pytest.raises(ConfigError, match="No Ed25519 private key"):
        sign_sums(b"", key=tmp_path / "key")
