"""The systemd units: judged by systemd's own tools, and by what the programs really ask of the kernel."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

import wetread.bundle
from tests.conftest import draw_image
from tests.tracing import Traced, finish, require_strace, trace
from tests.whole_commands import QUICK, wait_for_rows

_FOLDER = Path(wetread.bundle.__file__).parent / "installer"
UNITS = {name: _FOLDER / "service" / f"wetread-{name}.service" for name in ("watch", "node")}
# What a unit may have of the exposure that systemd counts, from 0 to 10.
MOST = 3.0


def analyze(*arguments: object) -> str:
    """Run systemd-analyze; skip where it is missing."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed: apt-get install systemd (.ci/run does, as root)")
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def read_unit(path: Path) -> dict[str, list[str]]:
    """Return the values of each key of a unit."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("name", UNITS)
def test_systemd_counts_little_exposure(name):
    said = analyze("security", "--offline=true", UNITS[name])
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    if level is None:
        pytest.skip(f"this systemd cannot judge a file: {said.strip()}")
    assert float(level[1]) < MOST


@pytest.mark.parametrize("name", UNITS)
def test_systemd_finds_no_mistake(name, tmp_path):
    """With a program that exists in place of wetread's."""
    unit = tmp_path / UNITS[name].name
    unit.write_text(UNITS[name].read_text().replace("/opt/wetread/wetread ", "/bin/true "))
    said = analyze("verify", "--man=no", unit)
    assert [line for line in said.splitlines() if unit.name in line] == []
    unit.write_text(unit.read_text() + "Nonsense=yes\n")  # it would have said so
    assert unit.name in analyze("verify", "--man=no", unit)


@pytest.mark.parametrize("name", UNITS)
def test_the_command_is_one_that_wetread_takes(name, monkeypatch):
    from typer.main import get_command

    from wetread.cli import load_commands
    from wetread.cli.app import app

    (command,) = read_unit(UNITS[name])["ExecStart"]
    program, *arguments = command.split()
    load_commands(arguments)
    group = get_command(app)
    with group.make_context("wetread", arguments[:1], resilient_parsing=True) as context:
        inner = group.get_command(context, name)  # type: ignore[attr-defined]
        assert inner.make_context(name, arguments[1:]).params["status"]
    assert program == "/opt/wetread/wetread"


@cache
def list_allowed(rules: tuple[str, ...]) -> frozenset[str]:
    """Return the system calls that a unit's SystemCallFilter lines leave."""

    def expand(group: str) -> set[str]:
        lines = [line.strip() for line in analyze("syscall-filter", group).splitlines()[1:]]
        names = {line for line in lines if line and not line.startswith("#")}
        return {call for name in names for call in (expand(name) if name.startswith("@") else {name})}

    allowed: set[str] = set()
    for rule in rules:
        allowed = allowed - expand(rule[1:]) if rule.startswith("~") else allowed | expand(rule)
    return frozenset(allowed)


def run_traced(name: str, folder: Path, model: Path) -> Traced:
    folder = require_strace(folder)
    images, out = folder / "images", folder / "out"
    images.mkdir()
    out.mkdir()
    for index in range(3):
        (images / f"{index}.jpg").write_bytes(draw_image(index))
    line = QUICK[name].format(out=out, images=images, model=model) + f" --status {out}/status.json"
    traced = trace(folder, "unit", "-m", "wetread", *line.split(), calls="all")
    wait_for_rows(line, name, traced.process)
    traced.interrupt()
    assert finish(traced)[0] == 143
    return traced


@pytest.mark.parametrize("name", UNITS)
def test_the_programs_do_only_what_their_units_allow(name, tmp_path, toy_model):
    """Every system call passes the filter; no memory is writable and executable; no other socket opens."""
    unit = read_unit(UNITS[name])
    allowed = list_allowed(tuple(unit["SystemCallFilter"]))
    assert {"openat", "fsync"} <= allowed
    assert "mount" not in allowed
    traced = run_traced(name, tmp_path, toy_model)
    log = traced.log.read_text(errors="replace")
    asked = set(re.findall(r"^\d+ +(?:<\.\.\. )?([a-z_0-9]+)", log, re.MULTILINE)) - {"resumed"}
    assert len(asked) > 30
    assert asked - allowed == set()
    assert re.findall(r"^.*m(?:map|protect)\(.*PROT_WRITE\|PROT_EXEC.*$", log, re.MULTILINE) == []
    (families,) = unit["RestrictAddressFamilies"]
    opened = set(re.findall(r"^\d+ +socket\((AF_\w+)", log, re.MULTILINE))
    assert opened <= set(families.split())
    assert bool(opened) == (name == "node")


FOLDERS = (
    *("plain", "a blank", "50%", "%h", "a $HOME", "semi;colon", "x ; y", "Röntgen"),
    *("it's", 'a "quote"', "back\\slash", "two\nlines"),
    *("a\ttab", "a\rreturn", "a\x1bcolor", "caf\udce9"),
)


def load_installer():
    spec = importlib.util.spec_from_file_location("install", _FOLDER / "install.py")
    assert spec is not None
    assert spec.loader is not None
    install = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(install)
    return install


@pytest.mark.skipif(os.name == "nt", reason="systemd is Linux', and Windows has no such names")
@pytest.mark.parametrize("name", FOLDERS)
def test_an_installation_has_units_with_its_own_folder(tmp_path, name):
    """systemd finds the program there, and would say if it did not."""
    folder = tmp_path / name
    folder.mkdir()
    load_installer().write_units(folder)
    for unit in UNITS.values():
        (command,) = read_unit(folder / "service" / unit.name)["ExecStart"]
        assert "/opt/" not in command
        for there in (False, True):
            if there:
                (folder / "wetread").write_text("#!/bin/sh\n")
                (folder / "wetread").chmod(0o755)
            said = [
                line
                for line in analyze("verify", "--man=no", folder / "service" / unit.name).splitlines()
                if unit.name in line
            ]
            assert there or [line for line in said if "is not executable" in line] or "/bin/sh" in command
            assert not there or said == []
        (folder / "wetread").unlink()


@pytest.mark.parametrize("name", FOLDERS)
def test_systemd_passes_on_the_model_of_the_folder(name):
    """What systemd reads of the quoted words, by a reader of its rules (systemd.service(5))."""
    folder = Path("/srv") / name
    given = "ExecStart=/opt/wetread/wetread --model /opt/wetread/m.onnx -q"
    line = load_installer().place_command(given, folder)
    given = re.sub(r"\\x(..)", lambda found: os.fsdecode(bytes.fromhex(found[1])), line)
    words = shlex.split(given.removeprefix("ExecStart="))
    if words[0] == "/bin/sh":
        words.pop(0)
    arguments = [word.replace("%%", "%") for word in words]
    wanted = [f"{folder}/wetread", "--model", f"{folder}/m.onnx", "-q"]
    assert [word.replace("$$", "$") for word in arguments] == wanted
