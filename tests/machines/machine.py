"""A machine that is not this one: how to install into it and how to run its Python."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]
# Before a command: no network but the machine's own 127.0.0.1.
OFFLINE = ("unshare", "-n", sys.executable, str(Path(__file__).with_name("offline.py")))
# What wetread scores with, and what a bundle brings.
EXTRAS = "cpu,dicom,parquet"


class MachineError(Exception):
    """A machine that cannot be made here: what was tried, and what was said."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One machine, made under `folder` out of packages.

    `shell`: the command that runs a program there; in it `{folder}` stands for the folder that it starts in
    and `{variables}` for NAME=VALUE words; `offline` is the same without a network. `python`: the command
    that runs its interpreter there. `host`: what this machine's root is called there. `tags`: the platforms
    whose wheels run there, best first; `installer`: a pip of its own instead. With neither, this machine's
    own environment runs there.
    """

    name: str
    folder: Path
    shell: tuple[str, ...]
    python: tuple[str, ...]
    host: str = ""
    tags: tuple[str, ...] = ()
    installer: tuple[str, ...] = ()
    version: str = "3.11"
    offline: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_windows(self) -> bool:
        """Whether its names have backslashes."""
        return "\\" in self.host

    def call(self, path: Path | str) -> str:
        """Name a file of this machine as it is called there."""
        whole = PurePosixPath(os.path.abspath(path))
        return self.host + (str(whole).replace("/", "\\") if self.is_windows else str(whole))

    def install(self, *packages: str, into: str = "site") -> None:
        """Put wheels for it into a folder beside it, with the versions of constraints.txt."""
        if self.installer:
            if any("wetread-" in package for package in packages):
                # pip would leave the wheel of an earlier day, which has the same version.
                remove = [*self.python, "-m", "pip", "uninstall", "--quiet", "--yes", "wetread"]
                run(remove, log=self.folder / "uninstall.log")
            run([*self.installer, *packages], log=self.folder / "install.log")
        if not self.tags:
            return
        platforms = [word for tag in self.tags for word in ("--platform", tag)]
        # pip evaluates markers for this machine, not for that one.
        wanted = [*packages, "colorama"] if self.is_windows else list(packages)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--no-warn-conflicts"]
        command += ["--target", str(self.folder / into), *platforms, "--python-version", self.version]
        command += ["--implementation", "cp", "--only-binary=:all:", "-c", str(ROOT / "constraints.txt")]
        # What this interpreter compiles, one of another version would compile again.
        command += [] if self.version == f"{sys.version_info[0]}.{sys.version_info[1]}" else ["--no-compile"]
        command += wanted
        run(command, log=self.folder / f"install-{into}.log")

    def run(
        self,
        *arguments: object,
        sites: Sequence[str] = ("site",),
        variables: Mapping[str, str] | None = None,
        seconds: float = 1200,
        log: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run its Python with arguments, which see the wheels of `sites`; the output is text."""
        joint = ";" if self.is_windows else ":"
        path = [place if os.path.isabs(place) else str(self.folder / place) for place in sites]
        given = {**self.variables, **(variables or {})}
        if self.tags:
            given["PYTHONPATH"] = joint.join(map(self.call, path))
        return self.start([*self.python, *map(str, arguments)], variables=given, seconds=seconds, log=log)

    def start(
        self,
        program: Sequence[str],
        *,
        variables: Mapping[str, str] | None = None,
        seconds: float = 1200,
        log: Path | None = None,
        network: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run any program there, in the folder of the machine."""
        given = [f"{name}={value}" for name, value in (variables or {}).items()]
        command: list[str] = []
        for word in [*(self.shell if network else self.offline), *program]:
            command += given if word == "{variables}" else [word.replace("{folder}", str(self.folder))]
        errors = log.open("wb") if log else subprocess.DEVNULL
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                timeout=seconds,
                check=False,
            )
        finally:
            if log:
                errors.close()  # type: ignore[union-attr]
        return subprocess.CompletedProcess(program, done.returncode, done.stdout.decode("utf-8", "replace"))


def run(command: Sequence[str], *, log: Path, cwd: Path | None = None) -> None:
    """Run a command here, its output in a log. Raises MachineError with the last lines."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=cwd,
            check=False,
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
        )
    if done.returncode:
        said = log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
        raise MachineError(
            f"{' '.join(command[:6])} ended with {done.returncode}: {' / '.join(said)} ({log})"
        )


def need(commands: Mapping[str, str], *, log: Path) -> None:
    """Install Debian's packages (by command) that are missing. Raises MachineError where that fails."""
    from shutil import which

    missing = [package for command, package in commands.items() if not which(command)]
    if missing:
        run(["apt-get", "update", "-qq"], log=log)
        run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], log=log)
