"""Whole processes under strace, with an empty HOME and none of the variables that hide telemetry."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "wetread"
# Folders too: a test of the same process may have given Keras and matplotlib theirs, where HOME was empty.
SWITCHES = (
    "ORT_DISABLE_TELEMETRY",
    "ORT_TELEMETRY_DISABLED",
    "CI",
    "GITHUB_ACTIONS",
    "KERAS_HOME",
    "MPLCONFIGDIR",
)
_SOCKET = re.compile(r"socket\((AF_\w+|\w+)|sa_family=(AF_\w+)|getaddrinfo")


@dataclass(frozen=True)
class Traced:
    """A process under strace, with a home, a log and a current folder of its own."""

    process: subprocess.Popen[bytes]
    home: Path
    log: Path
    folder: Path

    def families(self) -> set[str]:
        """The address families of the sockets that the process and its children opened or used."""
        return {found for pair in _SOCKET.findall(self.log.read_text()) for found in pair if found}

    def written(self) -> set[str]:
        """The full names that the process and its children made, changed, removed or opened to be written."""
        found = set()
        for line in self.log.read_text(errors="surrogateescape").splitlines():
            if (call := _CALL.match(line)) is None:
                continue
            name, arguments, _ = call.groups()
            if name in ("open", "openat") and not re.search(r"O_(WRONLY|RDWR|CREAT|TRUNC|APPEND)", arguments):
                continue
            for folder, path in _PATH.findall(arguments):
                found.add(os.path.normpath(os.path.join(folder or self.folder, path)))
        return found

    def interrupt(self) -> None:
        """Send SIGTERM to the traced process, not to strace: strace would leave it behind."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)


# What gives a file a name, takes it away or opens it to be written.
WRITING = (
    "open,openat,creat,mkdir,mkdirat,mknod,mknodat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,"
    "unlink,unlinkat,rmdir,truncate,chmod,fchmodat,chown,lchown,fchownat,utimensat,setxattr"
)
_CALL = re.compile(r"^\d+ +(?:<\.\.\. )?(\w+)\((.*)\) += (\d+)")
_PATH = re.compile(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"')


def trace(folder: Path, name: str, *command: object, calls: str = "%network", **more: str) -> Traced:
    """Start Python under strace, with an empty HOME and none of the variables that hide telemetry."""
    home, here, log = folder / f"{name}-home", folder / f"{name}-here", folder / f"{name}.log"
    home.mkdir()
    here.mkdir()
    clean = {key: value for key, value in os.environ.items() if key not in SWITCHES}
    clean |= {"HOME": str(home), "PYTHONPATH": str(PACKAGE.parent)} | more
    watched = ["strace", "-f", "-qq", "-y", "-z", "-s", "4096", "-e", f"trace={calls}"]
    pipe = subprocess.PIPE
    watched += ["-o", str(log), sys.executable, *map(str, command)]
    process = subprocess.Popen(
        watched, env=clean, cwd=here, stdin=pipe, stdout=subprocess.DEVNULL, stderr=pipe
    )
    return Traced(process, home, log, here)


def finish(traced: Traced, *, fed: bytes = b"") -> tuple[int, str]:
    _, said = traced.process.communicate(fed, timeout=600)
    return traced.process.returncode, said.decode()


def require_strace(folder: Path) -> Path:
    """Skip unless strace is there, may trace and does see a socket; return the folder for traces."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed: apt-get install strace (.ci/run does, as root)")
    one = trace(folder, "one", "-c", "import socket; socket.socket()")
    code, said = finish(one)
    if "ptrace" in said.lower():
        pytest.skip(f"strace may not trace here: {said.splitlines()[0]}")
    assert (code, one.families()) == (0, {"AF_INET"})
    return folder
