"""Build a bundle: wheels, model, installer, licences, bill of materials, checksums, in one zip."""

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
from wetread.bundle.sbom import write_sbom
from wetread.bundle.selftest import TOLERANCE, draw_pictures, score_pictures
from wetread.bundle.signing import sign_sums
from wetread.bundle.target import Target
from wetread.bundle.wetread_wheel import build_own_wheel
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
from wetread.runtime.model.file_reading import read_model
from wetread.runtime.model.signature import load_key, read_signature, sign_model
from wetread.runtime.model.spec import check_digest
from wetread.runtime.model.verify import verify_model

FORMAT_VERSION = 1
SUMS = "SHA256SUMS"
_SCRIPTS = {"win_amd64": ("install.cmd", "install.ps1")}
_UNIX_SCRIPTS = ("install.sh", "service/wetread-watch.service", "service/wetread-node.service")
# Older versions of pip do not know the tags of the newest wheels.
_PIP = "pip>=24"
_MAY_BE_BUNDLED = ("dicom", "node", "parquet", "review", "sign")

Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class BundleOptions:
    """The options of `wetread bundle`.

    `extras`: in addition to `cpu`. `wheel`: wetread's own, instead of one built from the installed files.
    `constraint`: a file of versions, instead of those installed here. `wheels`: a folder that is used
    instead of an index. `python_archive`: a Python to include, for machines without one. `certificate`: a
    certificate of parity to include.
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
    sign: str | None = None

    def __post_init__(self) -> None:
        if not self.output.lower().endswith(".zip"):
            raise UsageError(f"--output must end in .zip, and is {self.output!r}.")
        if not Path(self.output).absolute().parent.is_dir():
            raise UsageError(f"The folder of --output {self.output!r} does not exist. Create it first.")
        for extra in self.extras:
            if extra not in _MAY_BE_BUNDLED:
                raise UsageError(f"--with must be {' or '.join(_MAY_BE_BUNDLED)}, not {extra!r}.")
        for name in ("wheel", "python_archive", "certificate", "sign"):
            file = getattr(self, name)
            if file is not None and not Path(file).is_file():
                raise UsageError(f"--{name.replace('_', '-')} {file!r} is not a file. Check the name.")

    @property
    def target(self) -> Target:
        """The platform and Python that it is for."""
        return Target(self.platform, self.python)


@dataclass(frozen=True)
class Bundle:
    """A bundle that was written: its file, its size in bytes, its SHA-256, and its wheels."""

    path: str
    size: int
    sha256: str
    wheels: tuple[Wheel, ...]


def build_bundle(options: BundleOptions, *, report: Report | None = None) -> Bundle:
    """Write a bundle. `report` is called with progress lines.

    Raises UsageError, ModelError, MissingExtraError, OutputError, or SetupError if the target's wheels cannot
    be collected.
    """
    say = report or (lambda _: None)
    target = options.target
    data, name = read_model(options.model)
    if options.sign is not None:
        load_key(options.sign, "private")  # fail before the work, not after it
    _check_model(options.model)
    if options.certificate is not None:
        check_certificate(options.certificate, digest=check_digest(data, name=name))
    with TemporaryDirectory() as folder:
        wheels = _gather_wheels(options, target, Path(folder), say)
        say("scoring the images of the self-test here")
        _say_signature(options, data, say)
        files = _lay_out(options, target, wheels, data)
        title = f"wetread-{_version(wheels)}-{options.platform}"
        placed = {f"{title}/{file}": content for file, content in files.items()}
        say(f"writing {options.output}")
        _write(options.output, placed)
    whole = Path(options.output).read_bytes()
    return Bundle(options.output, len(whole), hashlib.sha256(whole).hexdigest(), tuple(wheels))


def _check_model(model: str) -> None:
    """Verify the model here, as its installer will verify it there."""
    failed = [check for check in verify_model(model).checks if not check.passed]
    if failed:
        said = "; ".join(
            f"{check.name}: expected {check.expected}, received {check.received}" for check in failed
        )
        raise ModelError(f"The model fails `wetread verify` here: {said}.")


def _gather_wheels(options: BundleOptions, target: Target, folder: Path, say: Report) -> list[Wheel]:
    own = Wheel(Path(options.wheel)) if options.wheel else Wheel(build_own_wheel(folder))
    if own.name != "wetread":
        raise UsageError(f"--wheel must be a wheel of wetread, and is one of {own.name}.")
    extras = _all_extras(options)
    offered = set(own.metadata.get_all("Provides-Extra", []))
    if missing := sorted(set(extras) - offered):
        raise SetupError(f"This wheel of wetread has no extra {', '.join(missing)}. Give another --wheel.")
    roots = _roots(options)
    constraints = _read_versions(options)
    say(f"resolving {' and '.join(roots)} for Python {target.python} on {target.platform}")
    fetch = make_fetch(folder, target=target, constraints=constraints, index_free=options.wheels)
    wheels = resolve(roots, target=target, given=[own], fetch=fetch)
    check_closed(wheels, roots=roots, target=target)
    return wheels


def _read_versions(options: BundleOptions) -> dict[str, str]:
    """Return the versions to use: of a file, of a folder of wheels (any), or those installed here."""
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
    """Return every file of the bundle by its name in it, including the checksums."""
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
    files[SUMS] = sums = sum_files(files)
    if options.sign is not None:
        files[f"{SUMS}.sig"] = sign_sums(sums, key=options.sign)
    return files


def _say_signature(options: BundleOptions, model: bytes, say: Report) -> None:
    """Say what is known of the signature beside the model: it may be another key's, or of an older file."""
    signature = read_signature(options.model)
    if signature is None:
        return
    if options.sign is None:
        say("the model's signature comes along unchecked: `wetread verify --public-key FILE` checks it")
    elif signature != sign_model(model, key=options.sign):  # Ed25519: one key and file, one signature
        say(
            "the model's signature comes along, and is not by the key of --sign over this file: it is by "
            "another key, or of an older file"
        )


def _other_files(options: BundleOptions, model: bytes) -> dict[str, tuple[str, bytes]]:
    """Return the files that are not wheels, with their kind in the bill of materials."""
    found = {"model.onnx": ("machine-learning-model", model)}
    signature = read_signature(options.model)
    if signature is None and options.sign is not None:
        signature = sign_model(model, key=options.sign)
    if signature is not None:
        found["model.onnx.sig"] = ("data", signature)
    if options.python_archive is not None:
        path = Path(options.python_archive)
        found[f"python/{path.name}"] = ("platform", path.read_bytes())
    if options.certificate is not None:
        path = Path(options.certificate)
        found[f"certificate/{path.name}"] = ("data", path.read_bytes())
    return found


def _lock(wheels: list[Wheel], extras: tuple[str, ...]) -> bytes:
    """Return the requirements file for pip: every version and digest."""
    lines = []
    for wheel in wheels:
        name = f"wetread[{','.join(extras)}]" if wheel.name == "wetread" else wheel.name
        if wheel.name != "pip":
            lines.append(f"{name}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
    return "".join(lines).encode()


def _describe(options: BundleOptions, target: Target, wheels: list[Wheel]) -> bytes:
    """Return bundle.json, which the installer reads."""
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
    """Return the installer's files, with the line ends of the target's system."""
    place = resources.files("wetread.bundle") / "installer"
    names = ("install.py", "README.txt", *_SCRIPTS.get(target.platform, _UNIX_SCRIPTS))
    files = {}
    for name in names:
        data = (place / name).read_bytes().replace(b"\r\n", b"\n")
        windows = name.endswith((".cmd", ".ps1")) or (target.is_windows and name.endswith(".txt"))
        files[name] = data.replace(b"\n", b"\r\n") if windows else data
    return files


def sum_files(files: Mapping[str, bytes | Path]) -> bytes:
    """Return the digests of files, one a line, and in the last line that of the other lines."""
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
        raise OutputError(f"{output!r} cannot be written: {error.strerror or error}.") from error
