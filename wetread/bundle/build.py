"""Put a bundle together: wheels, model, installer, licences, bill of materials, checksums, one zip."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

from wetread.bundle.archive import write_archive
from wetread.bundle.certificate import check_certificate
from wetread.bundle.licences import read_licences
from wetread.bundle.ownwheel import build_own_wheel
from wetread.bundle.sbom import write_sbom
from wetread.bundle.selftest import TOLERANCE, draw_pictures, score_pictures
from wetread.bundle.target import Target
from wetread.bundle.wheels import (
    Wheel,
    check_closed,
    installed_versions,
    make_fetch,
    read_constraints,
    resolve,
)
from wetread.errors import ModelError, OutputError, SetupError, UsageError
from wetread.runtime.files.atomic import replace_file
from wetread.runtime.model.file import read_model
from wetread.runtime.model.signature import read_signature
from wetread.runtime.model.spec import check_digest
from wetread.runtime.model.verify import verify_model

FORMAT_VERSION = 1
SUMS = "SHA256SUMS"
_SCRIPTS = {"win_amd64": ("install.cmd", "install.ps1")}
_UNIX_SCRIPTS = ("install.sh",)
# The older ones do not know the newest wheels' tags.
_PIP = "pip>=24"
_MAY_BE_BUNDLED = ("dicom", "node", "parquet", "sign")

Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class BundleOptions:
    """What a bundle was asked for, as `wetread bundle` takes it.

    `extras`: beside `cpu`. `wheel`: wetread's own, instead of one made from the installed files.
    `constraint`: a file of versions, instead of those installed here. `wheels`: a folder that is used
    instead of an index. `python_archive`: a Python to install for machines that have none.
    `certificate`: a file about the model that comes along.
    """

    model: str
    output: str
    platform: str
    python: str = "3.12"
    extras: tuple[str, ...] = ()
    wheel: str | None = None
    constraint: str | None = None
    wheels: str | None = None
    python_archive: str | None = None
    certificate: str | None = None

    def __post_init__(self) -> None:
        if not self.output.lower().endswith(".zip"):
            raise UsageError(f"Expected an output that ends in .zip. Received {self.output!r}.")
        if not Path(self.output).absolute().parent.is_dir():
            raise UsageError(f"Expected --output in a folder that exists. Received {self.output!r}.")
        for extra in self.extras:
            if extra not in _MAY_BE_BUNDLED:
                raise UsageError(f"Expected --with {' or '.join(_MAY_BE_BUNDLED)}. Received {extra!r}.")
        for name in ("wheel", "python_archive", "certificate"):
            file = getattr(self, name)
            if file is not None and not Path(file).is_file():
                raise UsageError(f"Expected --{name.replace('_', '-')} to be a file. Received {file!r}.")

    @property
    def target(self) -> Target:
        """What it is for."""
        return Target(self.platform, self.python)


@dataclass(frozen=True)
class Bundle:
    """A bundle that was written: its file, size in bytes, SHA-256, and wheels."""

    path: str
    size: int
    sha256: str
    wheels: tuple[Wheel, ...]


def build_bundle(options: BundleOptions, *, report: Report | None = None) -> Bundle:
    """Write a bundle. `report` is told what is being done.

    Raises UsageError, ModelError, MissingExtraError, OutputError, or SetupError where no set of wheels is
    closed for the target.
    """
    say = report or (lambda _: None)
    target = options.target
    data, name = read_model(options.model)
    _check_model(options.model)
    if options.certificate is not None:
        check_certificate(options.certificate, digest=check_digest(data, name=name))
    with TemporaryDirectory() as folder:
        wheels = _gather_wheels(options, target, Path(folder), say)
        say("scoring the self-test's pictures here")
        files = _lay_out(options, target, wheels, data)
        title = f"wetread-{_version(wheels)}-{options.platform}"
        placed = {f"{title}/{file}": content for file, content in files.items()}
        say(f"writing {options.output}")
        _write(options.output, placed)
    whole = Path(options.output).read_bytes()
    return Bundle(options.output, len(whole), hashlib.sha256(whole).hexdigest(), tuple(wheels))


def _check_model(model: str) -> None:
    """Hold the model to what its installer will hold it to."""
    failed = [check for check in verify_model(model).checks if not check.passed]
    if failed:
        said = "; ".join(
            f"{check.name}: expected {check.expected}, received {check.received}" for check in failed
        )
        raise ModelError(f"Expected a model that `wetread verify` passes here. Received {said}.")


def _gather_wheels(options: BundleOptions, target: Target, folder: Path, say: Report) -> list[Wheel]:
    own = Wheel(Path(options.wheel)) if options.wheel else Wheel(build_own_wheel(folder))
    if own.name != "wetread":
        raise UsageError(f"Expected --wheel to be wetread's. Received {own.name}'s.")
    extras = _all_extras(options)
    offered = set(own.metadata.get_all("Provides-Extra", []))
    if missing := sorted(set(extras) - offered):
        raise SetupError(f"Expected wetread's wheel to have the extra {', '.join(missing)}. Received none.")
    roots = _roots(options)
    constraints = _read_versions(options)
    say(f"resolving {' and '.join(roots)} for Python {target.python} on {target.platform}")
    fetch = make_fetch(folder, target=target, constraints=constraints, index_free=options.wheels)
    wheels = resolve(roots, target=target, given=[own], fetch=fetch)
    check_closed(wheels, roots=roots, target=target)
    return wheels


def _read_versions(options: BundleOptions) -> dict[str, str]:
    """The versions that are wanted: those of a file, or of a folder of wheels whatever it holds, or ours."""
    if options.constraint is not None:
        return read_constraints(options.constraint)
    return {} if options.wheels is not None else installed_versions()


def _all_extras(options: BundleOptions) -> tuple[str, ...]:
    return tuple(sorted({"cpu", *options.extras}))


def _roots(options: BundleOptions) -> list[str]:
    return [f"wetread[{','.join(_all_extras(options))}]", _PIP]


def _version(wheels: list[Wheel]) -> str:
    return next(wheel.version for wheel in wheels if wheel.name == "wetread")


def _lay_out(
    options: BundleOptions, target: Target, wheels: list[Wheel], model: bytes
) -> dict[str, bytes | Path]:
    """Every file of the bundle by its name in it, the checksums of the others among them."""
    pictures = draw_pictures(with_dicom="dicom" in options.extras)
    others = _other_files(options, model)
    own_extras = {"wetread": frozenset(_all_extras(options))}
    title = f"wetread-{_version(wheels)}-{options.platform}"
    files: dict[str, bytes | Path] = {f"wheels/{wheel.path.name}": wheel.path for wheel in wheels}
    files |= {name: content for name, (_, content) in others.items()}
    for wheel in wheels:
        files |= read_licences(wheel)
    files |= {f"selftest/pictures/{name}": picture for name, picture in pictures.items()}
    files["selftest/expected.csv"] = score_pictures(Path(options.model), pictures)
    files["sbom.cdx.json"] = write_sbom(wheels, target=target, extras=own_extras, others=others, title=title)
    files["requirements.txt"] = _lock(wheels, _all_extras(options))
    files["bundle.json"] = _describe(options, target, wheels)
    files |= _read_installer(target)
    files[SUMS] = sum_files(files)
    return files


def _other_files(options: BundleOptions, model: bytes) -> dict[str, tuple[str, bytes]]:
    """The files that are no wheels, with their kind in the bill of materials."""
    found = {"model.onnx": ("machine-learning-model", model)}
    if signature := read_signature(options.model):
        found["model.onnx.sig"] = ("data", signature)
    if options.python_archive is not None:
        path = Path(options.python_archive)
        found[f"python/{path.name}"] = ("platform", path.read_bytes())
    if options.certificate is not None:
        path = Path(options.certificate)
        found[f"certificate/{path.name}"] = ("data", path.read_bytes())
    return found


def _lock(wheels: list[Wheel], extras: tuple[str, ...]) -> bytes:
    """What pip is told to install: every version and digest, nothing left to choose."""
    lines = []
    for wheel in wheels:
        name = f"wetread[{','.join(extras)}]" if wheel.name == "wetread" else wheel.name
        if wheel.name != "pip":
            lines.append(f"{name}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
    return "".join(lines).encode()


def _describe(options: BundleOptions, target: Target, wheels: list[Wheel]) -> bytes:
    """What the installer must know."""
    pip = next(wheel for wheel in wheels if wheel.name == "pip")
    record = {
        "format": FORMAT_VERSION,
        "wetread": _version(wheels),
        "platform": target.platform,
        "python": target.python,
        "machine": target.machine,
        "extras": list(_all_extras(options)),
        "pip": f"wheels/{pip.path.name}",
        "tolerance": TOLERANCE,
    }
    return (json.dumps(record, indent=2, sort_keys=True) + "\n").encode()


def _read_installer(target: Target) -> dict[str, bytes]:
    """The installer's files, with the line ends of their system."""
    place = resources.files("wetread.bundle") / "installer"
    names = ("install.py", "README.txt", *_SCRIPTS.get(target.platform, _UNIX_SCRIPTS))
    files = {}
    for name in names:
        data = (place / name).read_bytes().replace(b"\r\n", b"\n")
        windows = name.endswith((".cmd", ".ps1")) or (target.is_windows and name.endswith(".txt"))
        files[name] = data.replace(b"\n", b"\r\n") if windows else data
    return files


def sum_files(files: Mapping[str, bytes | Path]) -> bytes:
    """The digests of files, a line each, and last that of the lines themselves."""
    lines = []
    for name in sorted(files):
        content = files[name]
        data = content if isinstance(content, bytes) else content.read_bytes()
        lines.append(f"{hashlib.sha256(data).hexdigest()}  {name}\n")
    listed = "".join(lines).encode()
    return listed + f"{hashlib.sha256(listed).hexdigest()}  {SUMS}\n".encode()


def _write(output: str, files: Mapping[str, bytes | Path]) -> None:
    try:
        with replace_file(output) as staged:
            write_archive(staged, files, programs=("install.sh",))
    except OSError as error:
        raise OutputError(f"Expected to write {output!r}. Received: {error.strerror or error}.") from error
