"""Install the bundle that contains this file. Run by install.sh and install.ps1; standard library only."""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import json
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
WINDOWS = os.name == "nt"
# With a longer folder, paths of the environment would exceed Windows' 260 characters.
LONGEST_WINDOWS_FOLDER = 110
# How a PEM file says that a key is Ed25519's (RFC 8410), and whom ssh-keygen is asked for.
ED25519 = bytes.fromhex("302a300506032b6570032100")
SIGNER = "wetread-bundle"
# What a unit says by escapes: control characters, and bytes that are no UTF-8.
UNPRINTED = "[\x00-\x1f\x7f\udc80-\udcff]"
# Files that file managers create in a folder that is opened. Only at the top, where nothing reads them.
LEFT_BY_BROWSING = ("Thumbs.db", "desktop.ini", ".DS_Store")


class InstallError(Exception):
    """The installation cannot go on; the message says why and what to do."""


def main(arguments: list[str]) -> int:
    """Install into the folder of the first argument; if that fails, leave nothing behind."""
    options = read_arguments(arguments)
    folder = Path(os.path.abspath(options.folder))
    before = None
    made = done = False
    try:
        check_signature(options.public_key)
        say("checking the files")
        check_files()
        bundle = json.loads((HERE / "bundle.json").read_text(encoding="utf-8"))
        check_machine(bundle)
        check_folder(folder, has_python=options.has_python)
        before = list_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        made = True
        install(bundle, folder)
        prove(bundle, folder)
        done = True
    except (InstallError, OSError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"install: {explain(error)}\n")
        return 1
    finally:
        if made and not done:
            remove_made(folder, before)
    launcher = folder / ("wetread.cmd" if WINDOWS else "wetread")
    say(f"wetread is installed: {launcher}")
    say(f'score with: "{launcher}" score FOLDER --model "{folder / "model.onnx"}" --output scores.csv')
    return 0


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    """Read the command line; what cannot be meant is refused with exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -I install.py",
        usage="python -I install.py FOLDER [--public-key FILE] (install.sh and install.cmd find the Python)",
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=need_text)
    parser.add_argument("--public-key", type=need_text)
    parser.add_argument("--has-python", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def need_text(text: str) -> str:
    """Refuse an empty value: a script's variable that was never set would ask for no key."""
    if not text:
        raise argparse.ArgumentTypeError("an empty value is given")
    return text


def list_folder(folder: Path) -> list[Path] | None:
    """What is in a folder; None if there is none."""
    return sorted(folder.iterdir()) if folder.is_dir() else None


def remove_made(folder: Path, before: list[Path] | None) -> None:
    """Remove what was made of a folder, and the folder itself only if it was not there."""
    if before is None:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for path in set(folder.iterdir()) - set(before):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def explain(error: Exception) -> str:
    """Explain an error: the system's own messages do not say what was tried or what to do."""
    if not isinstance(error, OSError):
        return str(error)
    return (
        f"The bundle could not be read, or {error.filename or 'the folder'} could not be written: "
        f"{error.strerror or error}. "
        "Choose a folder with --to that you may write to, on a disk with room."
    )


def say(text: str) -> None:
    """Print what is being done."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def check_signature(key: str | None) -> None:
    """Verify the signature over SHA256SUMS by OpenSSH's own tool and a key that came by another way."""
    signature = HERE / "SHA256SUMS.sig"
    if not key:
        if signature.is_file():
            say("the bundle is signed, and by whom is not checked: --public-key FILE does")
        return
    if not signature.is_file():
        raise InstallError(
            "The bundle has no signature, and --public-key asks for one. Ask for a signed one."
        )
    say("checking the signature")
    with tempfile.TemporaryDirectory() as folder:
        signers = Path(folder) / "signers"
        signers.write_text(f"{SIGNER} {read_public_key(Path(key))}\n", encoding="ascii", newline="")
        command = [find_ssh_keygen(), "-Y", "verify", "-f", str(signers), "-I", SIGNER, "-n", SIGNER]
        done = subprocess.run(
            [*command, "-s", str(signature)],
            input=(HERE / "SHA256SUMS").read_bytes(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        said = done.stdout.decode("utf-8", "replace").strip()
        raise InstallError(f"The bundle is not signed by the key in {key}: {said}. Do not install it.")


def find_ssh_keygen() -> str:
    """Return OpenSSH's ssh-keygen; Windows' own, never one that lies in the current folder."""
    if WINDOWS:
        own = Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32" / "OpenSSH" / "ssh-keygen.exe"
        found = str(own) if own.is_file() else None
    else:
        found = shutil.which("ssh-keygen")
    if found is None:
        raise InstallError(
            "A signature is checked by ssh-keygen (OpenSSH 8.1 or newer), and it is not installed. Install "
            "the package openssh-client, or on Windows the optional feature OpenSSH Client."
        )
    return found


def read_public_key(path: Path) -> str:
    """Return an Ed25519 public key as OpenSSH writes it; the file may be PEM or OpenSSH's own."""
    text = path.read_text(encoding="ascii", errors="replace")
    if text.startswith("ssh-ed25519 "):
        return " ".join(text.split()[:2])
    lines = [line for line in text.splitlines() if line and not line.startswith("-----")]
    try:
        data = base64.b64decode("".join(lines), validate=True)
    except ValueError:
        data = b""
    if "BEGIN PUBLIC KEY" not in text or len(data) != 44 or not data.startswith(ED25519):
        raise InstallError(f"{path} is not an Ed25519 public key (PEM or OpenSSH). Check --public-key.")
    parts = (b"ssh-ed25519", data[len(ED25519) :])
    blob = b"".join(struct.pack(">I", len(part)) + part for part in parts)
    return f"ssh-ed25519 {base64.b64encode(blob).decode()}"


def check_files() -> None:
    """Check every file against SHA256SUMS again: the script that did so first may have been changed."""
    sums = (HERE / "SHA256SUMS").read_bytes()
    listed, last = sums[: sums.rstrip(b"\n").rfind(b"\n") + 1], sums[sums.rstrip(b"\n").rfind(b"\n") + 1 :]
    if last != f"{hashlib.sha256(listed).hexdigest()}  SHA256SUMS\n".encode():
        raise InstallError("SHA256SUMS changed after the bundle was made. Copy the bundle again.")
    names = {"SHA256SUMS", "SHA256SUMS.sig", *LEFT_BY_BROWSING}
    for line in listed.decode().splitlines():
        wanted, name = line[:64], line[66:]
        names.add(name)
        if not (HERE / name).is_file():
            raise InstallError(f"{name} is missing. Unpack the bundle again.")
        if hashlib.sha256((HERE / name).read_bytes()).hexdigest() != wanted:
            raise InstallError(f"{name} changed after the bundle was made. Copy the bundle again.")
    check_nothing_more(names)


def check_nothing_more(names: set[str]) -> None:
    """Refuse every file that is not listed, and every link."""
    for parent, folders, files in os.walk(HERE, onerror=fail):
        for path in (Path(parent, name) for name in (*folders, *files)):
            name = path.relative_to(HERE).as_posix()
            if path.is_symlink():
                raise InstallError(
                    f"{name} is a link, and a bundle has none. Unpack it into an empty folder."
                )
            if path.name in files and name not in names:
                raise InstallError(f"{name} does not belong to the bundle. Unpack it into an empty folder.")


def fail(error: OSError) -> None:
    """Raise what `os.walk` would pass over."""
    raise error


def check_machine(bundle: dict[str, Any]) -> None:
    """Compare this machine and Python with those that the bundle was made for."""
    here = ".".join(map(str, sys.version_info[:2]))
    system = "win_amd64" if WINDOWS else f"manylinux_{platform.machine()}"
    if WINDOWS and platform.machine().upper() != "AMD64":
        system = f"Windows on {platform.machine()}"
    if here != bundle["python"] or struct.calcsize("P") != 8:
        raise InstallError(f"The bundle needs a 64-bit Python {bundle['python']}, and this is {here}.")
    if not WINDOWS and sys.platform != "linux":
        system = sys.platform
    if system != bundle["platform"]:
        raise InstallError(
            f"The bundle is for {bundle['platform']}, and this is {system}. Ask for a bundle for this one."
        )


def check_folder(folder: Path, *, has_python: bool) -> None:
    """Check that the folder is new, except for the Python that was just unpacked there."""
    present = [path.name for path in list_folder(folder) or []]
    if folder.exists() and present != (["python"] if has_python else []):
        raise InstallError(f"{folder} already exists. Delete it, or choose another folder with --to.")
    if WINDOWS and len(str(folder)) > LONGEST_WINDOWS_FOLDER:
        raise InstallError(
            f"The folder's name is longer than {LONGEST_WINDOWS_FOLDER} characters: {folder}. Choose a "
            "shorter one with --to."
        )


def install(bundle: dict[str, Any], folder: Path) -> None:
    """Create the environment from the bundle's wheels, and the command that runs in it."""
    say("making the environment (a minute or two)")
    environment = folder / "env"
    venv.EnvBuilder(with_pip=False, symlinks=not WINDOWS).create(environment)
    python = python_in(environment)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    clean |= {"PIP_CONFIG_FILE": os.devnull, "PYTHONNOUSERSITE": "1"}
    command = [python, HERE / bundle["pip"] / "pip", "--isolated", "install", "--quiet", "--no-index"]
    command += [
        "--disable-pip-version-check",
        "--no-cache-dir",
        "--no-warn-script-location",
        "--require-hashes",
    ]
    command += ["--find-links", HERE / "wheels", "--requirement", HERE / "requirements.txt"]
    run(command, env=clean)
    for name in ("model.onnx", "model.onnx.sig", "bundle.json", "sbom.cdx.json"):
        if (HERE / name).exists():  # not every model is signed
            shutil.copyfile(HERE / name, folder / name)
    # For `wetread accept`: what the pictures gave where the bundle was made, and the certificate.
    (folder / "selftest").mkdir()
    shutil.copyfile(HERE / "selftest" / "expected.csv", folder / "selftest" / "expected.csv")
    if (HERE / "certificate").is_dir():
        shutil.copytree(HERE / "certificate", folder / "certificate")
    write_launcher(folder)
    write_units(folder)


def write_units(folder: Path) -> None:
    """Copy the systemd units, with this installation's folder in them; Windows' bundles have none."""
    for unit in sorted((HERE / "service").glob("*.service")):
        (folder / "service").mkdir(exist_ok=True)
        lines = [
            place_command(line, folder) if line.startswith("ExecStart=/opt/wetread/") else line
            for line in unit.read_text(encoding="utf-8").split("\n")
        ]
        (folder / "service" / unit.name).write_text("\n".join(lines), encoding="utf-8", newline="")


def place_command(line: str, folder: Path) -> str:
    """Replace /opt/wetread in a unit's command by the folder, as systemd.service(5) wants it quoted."""
    words = [
        f"{folder}/{word[len('/opt/wetread/') :]}" if word.startswith("/opt/wetread/") else word
        for word in line[len("ExecStart=") :].split(" ")
    ]
    # systemd takes no program with escapes or quotes in its name; wetread is a script of the shell's.
    program = ["/bin/sh"] if set(quote(words[0])[1:-1]) & set("\\'") else [quote(words.pop(0))]
    return f"ExecStart={' '.join(program + [quote(word).replace('$', '$$') for word in words])}"


def quote(word: str) -> str:
    """Quote a word of a command; % begins a specifier."""
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    text = re.sub(UNPRINTED, lambda found: f"\\x{os.fsencode(found[0])[0]:02x}", text)
    return f'"{text}"' if set(text) & set(" \t\\\"';$") else text


def python_in(environment: Path) -> Path:
    """The environment's interpreter."""
    return environment / ("Scripts/python.exe" if WINDOWS else "bin/python")


def write_launcher(folder: Path) -> None:
    """Write the command `wetread`, which always runs in this environment."""
    if WINDOWS:
        text = '@"%~dp0env\\Scripts\\python.exe" -I -X utf8 -m wetread %*\r\n'
        (folder / "wetread.cmd").write_text(text, encoding="ascii", newline="")
        return
    launcher = folder / "wetread"
    launcher.write_text(
        '#!/bin/sh\nexec "$(dirname "$(readlink -f "$0")")/env/bin/python" -I -m wetread "$@"\n',
        encoding="ascii",
    )
    launcher.chmod(0o755)


def prove(bundle: dict[str, Any], folder: Path) -> None:
    """Verify the model on this machine, then score three images and compare."""
    say("checking this machine")
    wetread = [python_in(folder / "env"), "-I", "-X", "utf8", "-m", "wetread"]
    run([*wetread, "doctor", "--model", folder / "model.onnx"])
    run([*wetread, "verify", folder / "model.onnx"])
    output = folder / "selftest.csv"
    pictures = HERE / "selftest" / "pictures"
    run(
        [*wetread, "score", pictures, "--model", folder / "model.onnx", "--output", output, "--device", "cpu"]
    )
    compare(read_rows(HERE / "selftest" / "expected.csv"), read_rows(output), tolerance=bundle["tolerance"])
    for name in (output, output.with_name(output.name + ".run.json")):
        name.unlink(missing_ok=True)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a CSV's rows, with file names only."""
    with path.open(encoding="utf-8", newline="") as file:
        return [row | {"path": Path(row["path"]).name} for row in csv.DictReader(file)]


def compare(expected: list[dict[str, str]], received: list[dict[str, str]], *, tolerance: float) -> None:
    """Check that the rows are the same, and probabilities within the tolerance."""
    if len(expected) != len(received):
        raise InstallError(f"The self-test must give {len(expected)} rows, and gave {len(received)}.")
    for wanted, found in zip(expected, received):  # noqa: B905 - told above
        numbers = [name for name in wanted if name == "probability" or name.startswith("p_")]
        same = all(wanted[name] == found.get(name) for name in ("path", "status", "label"))
        near = same and all(abs(float(wanted[n]) - float(found[n])) <= tolerance for n in numbers)
        if not near:
            raise InstallError(
                f"The self-test must give the row {wanted}, and gave {found}. Do not use this machine."
            )


def run(command: list[object], *, env: dict[str, str] | None = None) -> None:
    """Run a command; its output is shown only if it fails."""
    done = subprocess.run(
        list(map(str, command)),
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise InstallError(
            f"{' '.join(map(str, command[1:6]))} ... ended with {done.returncode}:\n{done.stdout}"
        )


def open_missing() -> None:
    """Open the null device for every standard stream that is closed, for the commands run here as well."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
            stream = os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False)
            setattr(sys, name, stream)


if __name__ == "__main__":
    open_missing()
    sys.exit(main(sys.argv[1:]))
