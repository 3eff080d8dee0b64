"""Collect a bundle's wheels: all that the target platform needs, by its own environment markers.

`pip download` evaluates markers for the machine that it runs on, so a bundle for Windows made on Linux would
lack packages that only Windows needs. Here pip downloads one wheel at a time, without dependencies, and the
metadata of the wheels show what else the target needs.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from functools import cached_property
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from wetread.bundle.target import Target, import_packaging
from wetread.errors import MissingExtraError, SetupError

if TYPE_CHECKING:
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

_MAX_ROUNDS = 40


@dataclass(frozen=True)
class Wheel:
    """A wheel file."""

    path: Path

    @cached_property
    def metadata(self) -> Message:
        """Its METADATA. Raises SetupError for a file that is not a wheel."""
        try:
            with zipfile.ZipFile(self.path) as wheel:
                (name,) = (
                    n for n in wheel.namelist() if n.endswith(".dist-info/METADATA") and n.count("/") == 1
                )
                return BytesParser().parsebytes(wheel.read(name))
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise SetupError(f"{self.path.name!r} is not a wheel: {error}.") from error

    @property
    def name(self) -> str:
        """Its package's name, normalized."""
        name: str = import_packaging("utils").canonicalize_name(self.metadata["Name"])
        return name

    @property
    def version(self) -> str:
        """Its version."""
        return str(self.metadata["Version"])

    @cached_property
    def sha256(self) -> str:
        """The digest of the file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    def requirements(self, target: Target, extras: frozenset[str]) -> list[Requirement]:
        """Its requirements on a target, with these extras."""
        parse = import_packaging("requirements").Requirement
        found = [parse(text) for text in self.metadata.get_all("Requires-Dist", [])]
        return [requirement for requirement in found if target.needs(requirement, extras)]

    def fits(self, target: Target) -> bool:
        """Whether it installs on a target, by its tags and by Requires-Python."""
        _, _, _, tags = import_packaging("utils").parse_wheel_filename(self.path.name)
        wanted = import_packaging("specifiers").SpecifierSet(self.metadata.get("Requires-Python", ""))
        return bool(tags & target.tags()) and f"{target.python}.0" in wanted


@dataclass(frozen=True)
class Need:
    """The requirements of a set of wheels for one package: versions, extras, and which wheels need it."""

    specifier: SpecifierSet
    extras: frozenset[str]
    by: tuple[str, ...]


Fetch = Callable[[dict[str, "SpecifierSet"]], list[Wheel]]


def resolve(roots: list[str], *, target: Target, given: list[Wheel], fetch: Fetch) -> list[Wheel]:
    """Find the wheels that `roots` (requirements) need on a target, and no others.

    `given` wheels are used as they are; `fetch` gets the best version of each other package. Returns the
    wheels sorted by name. Raises SetupError if packages need versions that exclude each other.
    """
    parse = import_packaging("requirements").Requirement
    requirements = [parse(root) for root in roots]
    chosen = {wheel.name: wheel for wheel in given}
    for _ in range(_MAX_ROUNDS):
        needs = gather_needs(requirements, chosen, target)
        wrong = {
            name: need.specifier
            for name, need in needs.items()
            if name not in chosen or not need.specifier.contains(chosen[name].version, prereleases=True)
        }
        for wheel in given:
            if wheel.name in wrong:
                raise _contradiction(wheel.name, needs[wheel.name])
        if not wrong:
            return [chosen[name] for name in sorted(needs)]
        chosen |= {wheel.name: wheel for wheel in fetch(wrong)}
    raise _contradiction(next(iter(wrong)), needs[next(iter(wrong))])


def gather_needs(roots: list[Requirement], chosen: Mapping[str, Wheel], target: Target) -> dict[str, Need]:
    """Collect what the roots, and the chosen wheels that they lead to, need of each package."""
    canonicalize = import_packaging("utils").canonicalize_name
    empty = import_packaging("specifiers").SpecifierSet()
    needs: dict[str, Need] = {}
    waiting = [(requirement, "wetread") for requirement in roots]
    while waiting:
        requirement, by = waiting.pop()
        name = canonicalize(requirement.name)
        old = needs.get(name, Need(empty, frozenset(), ()))
        extras = old.extras | frozenset(requirement.extras)
        needs[name] = Need(old.specifier & requirement.specifier, extras, (*old.by, f"{by}: {requirement}"))
        is_news = not old.by or extras != old.extras
        if is_news and name in chosen:
            waiting += [(found, name) for found in chosen[name].requirements(target, extras)]
    return needs


def _contradiction(name: str, need: Need) -> SetupError:
    return SetupError(
        f"No version of {name} satisfies all requirements: {'; '.join(sorted(set(need.by)))}. "
        "Pin a version with --constraint, or give another --wheel."
    )


def check_closed(wheels: list[Wheel], *, roots: list[str], target: Target) -> None:
    """Raise SetupError unless the wheels are all that roots need on a target, and each installs there."""
    parse = import_packaging("requirements").Requirement
    chosen = {wheel.name: wheel for wheel in wheels}
    for name, need in gather_needs([parse(root) for root in roots], chosen, target).items():
        if name not in chosen or not need.specifier.contains(chosen[name].version, prereleases=True):
            found = chosen[name].version if name in chosen else "none"
            raise SetupError(f"The bundle needs {name}{need.specifier}, and has {found}.")
    for wheel in wheels:
        if not wheel.fits(target):
            raise SetupError(
                f"{wheel.path.name} does not install with Python {target.python} on {target.platform}."
            )


def make_fetch(
    folder: Path, *, target: Target, constraints: Mapping[str, str], index_free: str | None = None
) -> Fetch:
    """Make a `fetch` that downloads wheels into `folder` with pip, from the indexes in pip's configuration.

    `constraints` maps names to versions that are used if they fit. `index_free`: a folder of wheels that is
    used instead of any index.
    """
    if find_spec("pip") is None:
        raise MissingExtraError("pip", extra="bundle")

    def fetch(wanted: dict[str, SpecifierSet]) -> list[Wheel]:
        pinned = [
            f"{name}=={constraints[name]}"
            if name in constraints and specifier.contains(constraints[name], prereleases=True)
            else f"{name}{specifier}"
            for name, specifier in sorted(wanted.items())
        ]
        with TemporaryDirectory(dir=folder) as fresh:
            _download(pinned, Path(fresh), target=target, index_free=index_free)
            found = sorted(Path(fresh).glob("*.whl"))
            return [Wheel(path.replace(folder / path.name)) for path in found]

    return fetch


def _download(pinned: list[str], into: Path, *, target: Target, index_free: str | None) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(into), "--implementation", "cp"]
    command += ["--python-version", target.python]
    for abi in ("cp" + target.python.replace(".", ""), "abi3", "none"):
        command += ["--abi", abi]
    for tag in target.platform_tags:
        command += ["--platform", tag]
    if index_free is not None:
        command += ["--no-index", "--find-links", index_free]
    done = subprocess.run([*command, *pinned], capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
        said = (" ".join(errors) or done.stderr)[-600:]
        raise SetupError(
            f"pip found no wheels of {', '.join(pinned)} for Python {target.python} on {target.platform}: "
            f"{said} Pin other versions with --constraint, or name a folder that holds the wheels with "
            "--wheels."
        )


def installed_versions() -> dict[str, str]:
    """Return the versions that are installed here: a bundle uses the tested versions if it can."""
    canonicalize = import_packaging("utils").canonicalize_name
    # An interrupted pip leaves folders without a name in their metadata.
    named = [found for found in metadata.distributions() if "Name" in (found.metadata or ())]
    return {canonicalize(found.metadata["Name"]): found.version for found in named}


def read_constraints(path: str) -> dict[str, str]:
    """Read a file of `name==version` lines. Raises SetupError."""
    parse = import_packaging("requirements").Requirement
    found: dict[str, str] = {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        for line in lines:
            text = line.partition("#")[0].strip()
            if text:
                requirement = parse(text)
                (specifier,) = requirement.specifier
                if specifier.operator != "==":
                    raise ValueError(text)
                found[import_packaging("utils").canonicalize_name(requirement.name)] = specifier.version
    except (OSError, ValueError) as error:
        raise SetupError(f"{path!r} must have lines of name==version: {error}.") from error
    return found
