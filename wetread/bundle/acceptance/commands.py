"""Run the installed command in processes of its own, as a user does."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

_SECONDS = 900.0


@dataclass(frozen=True)
class Done:
    """A command that has ended: its exit code, and what it wrote to standard output and standard error."""

    code: int
    output: str
    said: str

    @property
    def last_line(self) -> str:
        """The last line of standard output."""
        return (self.output.splitlines() or [""])[-1]

    @property
    def last_said(self) -> str:
        """The last line of standard error."""
        return (self.said.splitlines() or [""])[-1]


def name_wetread() -> list[str]:
    """Return the command line of this installation's own wetread."""
    return [sys.executable, *(["-I"] if sys.flags.isolated else []), "-X", "utf8", "-m", "wetread"]


def run_wetread(*arguments: object, within: tuple[str, ...] = ()) -> Done:
    """Run wetread with arguments, `within` another program that takes a command line."""
    try:
        done = subprocess.run(
            [*within, *name_wetread(), *map(str, arguments)],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Done(1, "", f"it did not end within {_SECONDS:.0f} s")
    return Done(done.returncode, done.stdout, done.stderr.strip())
