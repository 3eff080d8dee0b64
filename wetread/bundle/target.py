"""The platform and Python that a bundle is for: wheel tags and environment markers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wetread.errors import UsageError
from wetread.packages import importing

if TYPE_CHECKING:
    from packaging.requirements import Requirement
    from packaging.tags import Tag

# The newest C library that a manylinux bundle may need: that of Debian 10, Ubuntu 18.10 and RHEL 8.
GLIBC = 28
_OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
PLATFORMS = ("win_amd64", "manylinux_x86_64", "manylinux_aarch64")
_OLDEST_PYTHON = (3, 11)


@dataclass(frozen=True)
class Target:
    """A platform, one of PLATFORMS, and a Python, such as '3.12'."""

    platform: str
    python: str

    def __post_init__(self) -> None:
        if self.platform not in PLATFORMS:
            raise UsageError(f"--platform must be {' or '.join(PLATFORMS)}, not {self.platform!r}.")
        if not re.fullmatch(r"3\.\d{1,2}", self.python) or self.version < _OLDEST_PYTHON:
            raise UsageError(f"--python must be 3.11 or newer, such as 3.12, not {self.python!r}.")

    @property
    def version(self) -> tuple[int, int]:
        """The Python's version as numbers."""
        major, minor = self.python.split(".")
        return int(major), int(minor)

    @property
    def is_windows(self) -> bool:
        """Whether this is Windows."""
        return self.platform.startswith("win")

    @property
    def machine(self) -> str:
        """The value of `platform.machine()` there."""
        return "AMD64" if self.is_windows else self.platform.removeprefix("manylinux_")

    @property
    def platform_tags(self) -> list[str]:
        """The platform tags of the wheels that install there, best first."""
        if self.is_windows:
            return [self.platform]
        oldest = 17 if self.machine == "aarch64" else 5
        tags = []
        for minor in range(GLIBC, oldest - 1, -1):
            tags.append(f"manylinux_2_{minor}_{self.machine}")
            if minor in _OLD_NAMES:
                tags.append(f"{_OLD_NAMES[minor]}_{self.machine}")
        return [*tags, f"linux_{self.machine}"]

    def tags(self) -> set[Tag]:
        """Every tag of a wheel that installs there."""
        tags = import_packaging("tags")
        interpreter = "cp" + self.python.replace(".", "")
        native = tags.cpython_tags(self.version, [interpreter], self.platform_tags)
        return {*native, *tags.compatible_tags(self.version, interpreter, self.platform_tags)}

    def environments(self) -> list[dict[str, str]]:
        """The values of environment markers there, for the oldest and the newest patch release of its Python.

        A requirement counts if either release needs it, so that the bundle works with both.
        """
        windows = self.is_windows
        common = {
            "implementation_name": "cpython",
            "os_name": "nt" if windows else "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Windows" if windows else "Linux",
            "platform_version": "",
            "python_version": self.python,
            "sys_platform": "win32" if windows else "linux",
        }
        patches = (f"{self.python}.{patch}" for patch in (0, 99))
        return [common | {"python_full_version": patch, "implementation_version": patch} for patch in patches]

    def needs(self, requirement: Requirement, extras: frozenset[str]) -> bool:
        """Whether a package with these extras needs a requirement there."""
        if requirement.marker is None:
            return True
        return any(
            requirement.marker.evaluate(environment | {"extra": extra})
            for environment in self.environments()
            for extra in (extras or {""})
        )


def import_packaging(name: str) -> Any:
    """Import a module of `packaging`. Raises MissingExtraError."""
    from importlib import import_module

    with importing("packaging", extra="bundle"):
        return import_module(f"packaging.{name}")
