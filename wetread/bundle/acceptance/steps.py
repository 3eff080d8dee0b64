"""The steps of an acceptance, each run by the installed command as a user runs it.

A step returns what it found. Nothing that it says names a picture: names may be patients'.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

from wetread.bundle.acceptance.commands import run_wetread
from wetread.bundle.acceptance.comparing import compare_rows, read_rows
from wetread.bundle.acceptance.watching import watch_with_kills
from wetread.bundle.certificate import CERTIFICATES, check_certificate
from wetread.bundle.selftest import draw_pictures
from wetread.errors import Status, UsageError, find_installation
from wetread.runtime.model.file_reading import read_model
from wetread.runtime.model.spec import check_digest

_FLIPS = (0.1, 0.5, 0.9)  # where in the model one bit is changed
_ROUTES = Path("/proc/net")
_CHANGED = "changed.onnx: the file changed after it was exported: its digest is"


class Result(StrEnum):
    """What came of a step."""

    PASSED = "passed"
    FAILED = "FAILED"
    BY_HAND = "by hand"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Found:
    """What a step found, in words, and what came of it."""

    result: Result
    text: str


@dataclass(frozen=True, kw_only=True)
class AcceptOptions:
    """What is accepted: a model, by default the packaged one, on this machine.

    `certificate`: the certificate of parity. `pictures`: a folder of local pictures, and `expected`: their
    rows (CSV) from the machine that made the bundle.
    """

    model: str
    certificate: str | None = None
    pictures: str | None = None
    expected: str | None = None

    def __post_init__(self) -> None:
        if (self.pictures is None) != (self.expected is None):
            raise UsageError(
                "--pictures and --expected belong together: a folder, and its rows from another machine."
            )
        for name in ("certificate", "expected"):
            path = getattr(self, name)
            if path is not None and not Path(path).is_file():
                raise UsageError(f"--{name} {path!r} is not a file. Check the name.")


@dataclass(frozen=True)
class Step:
    """One line of the table: its number, what is done, what is expected, and how it is run in a folder."""

    number: str
    do: str
    expect: str
    run: Callable[[AcceptOptions, Path], Found]


def compare_certificate(options: AcceptOptions, _: Path) -> Found:
    """Compare the digest in the certificate with the model's."""
    data, name = read_model(options.model)
    digest = check_digest(data, name=name)
    certificate = options.certificate or _find_installed_certificate()
    if certificate is None:
        return Found(Result.NOT_RUN, f"no --certificate was given; the model's digest is {digest}")
    try:
        check_certificate(certificate, digest=digest)
    except UsageError as error:
        return Found(Result.FAILED, str(error))
    return Found(Result.PASSED, digest)


def _find_installed_certificate() -> str | None:
    """Return the certificate that came with the bundle, if one did."""
    folder = find_installation()
    names = [] if folder is None else sorted((folder / "certificate").glob("*"))
    return next((str(name) for name in names if name.suffix in CERTIFICATES), None)


def verify(options: AcceptOptions, _: Path) -> Found:
    """Run the model's self-test."""
    done = run_wetread("verify", options.model)
    passed = done.code == 0 and done.last_line == "this machine may use it"
    return Found(Result.PASSED if passed else Result.FAILED, done.last_line or done.said)


def examine(options: AcceptOptions, _: Path) -> Found:
    """Run `wetread doctor`."""
    done = run_wetread("doctor", "--model", options.model, "--json")
    if not done.output.startswith("{"):
        return Found(Result.FAILED, done.said)
    findings = json.loads(done.output)["findings"]
    problems = [f"{each['topic']}: {each['found']}" for each in findings if each["level"] == "problem"]
    text = "; ".join(problems) or f"no problem among {len(findings)} findings"
    return Found(Result.PASSED if done.code == 0 and not problems else Result.FAILED, text)


def draw_inbox(folder: Path) -> dict[str, Status]:
    """Write three drawn pictures and three files that are none; return the statuses that they must have."""
    pictures = draw_pictures(with_dicom=find_spec("pydicom") is not None)
    for name, data in pictures.items():
        (folder / name).write_bytes(data)
    jpeg = pictures["1.jpg"]
    (folder / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "report.txt").write_bytes(b"not a picture\n")
    damaged = {
        "cut.jpg": Status.TRUNCATED,
        "empty.jpg": Status.EMPTY,
        "report.txt": Status.NOT_AN_IMAGE,
    }
    return dict.fromkeys(pictures, Status.OK) | damaged


def score_drawn(options: AcceptOptions, folder: Path) -> Found:
    """Score drawn pictures and broken files; compare with the bundle's rows, if there are any."""
    inbox = folder / "drawn"
    inbox.mkdir()
    wanted = draw_inbox(inbox)
    done = run_wetread("score", inbox, "--model", options.model, "--output", folder / "drawn.csv")
    if done.code != 3:  # finished, and some inputs have no score
        return Found(Result.FAILED, f"exit code {done.code}, in place of 3. {done.said}")
    rows = read_rows(folder / "drawn.csv")
    found = {name: row["status"] for name, row in rows.items()}
    if found != wanted:
        return Found(Result.FAILED, f"the statuses are {found}, and should be {dict(wanted)}")
    installed = find_installation()
    recorded = None if installed is None else installed / "selftest" / "expected.csv"
    if recorded is None or not recorded.is_file():
        return Found(Result.PASSED, "six rows with the right statuses; no rows of the bundle to compare with")
    scored = {name: row for name, row in rows.items() if row["status"] == Status.OK}
    difference = compare_rows(read_rows(recorded), scored)
    return _judge(difference.text, is_same=difference.is_same)


def score_local(options: AcceptOptions, folder: Path) -> Found:
    """Score the hospital's own pictures, and compare with their rows from the other machine."""
    if options.pictures is None or options.expected is None:
        return Found(Result.NOT_RUN, "no --pictures and --expected were given")
    output = folder / "local.csv"
    done = run_wetread("score", options.pictures, "--model", options.model, "--output", output)
    if done.code not in (0, 3):
        # Not what it said: that may name a picture.
        return Found(Result.FAILED, f"wetread score ended with exit code {done.code}")
    difference = compare_rows(read_rows(options.expected), read_rows(output))
    return _judge(difference.text, is_same=difference.is_same)


def _judge(text: str, *, is_same: bool) -> Found:
    return Found(Result.PASSED if is_same else Result.FAILED, text)


def change_model(options: AcceptOptions, folder: Path) -> Found:
    """Change one bit of a copy of the model, at three places: scoring with it must be refused."""
    data, _ = read_model(options.model)
    (folder / "changed").mkdir()
    draw_inbox(folder / "changed")
    for place in _FLIPS:
        changed = bytearray(data)
        changed[int(place * len(data))] ^= 1
        (folder / "changed.onnx").write_bytes(changed)
        output = folder / "changed.csv"
        done = run_wetread(
            "score", folder / "changed", "--model", folder / "changed.onnx", "--output", output
        )
        if done.code != 1 or output.exists() or _CHANGED not in done.last_said:
            return Found(
                Result.FAILED, f"not refused as it should be: exit code {done.code}. {done.last_said}"
            )
    return Found(Result.PASSED, f"refused each time: {done.last_said}".replace(f"{folder}/", ""))


def score_offline(options: AcceptOptions, folder: Path) -> Found:
    """Score again without a network: the rows must be the same bytes."""
    cut_off = _find_cutter()
    if cut_off is None and not _is_offline():
        return Found(
            Result.BY_HAND,
            "this machine has a network and cannot take it from one program: pull the cable, "
            "and run `wetread accept` again or compare two outputs of `wetread score`",
        )
    (folder / "offline").mkdir()
    draw_inbox(folder / "offline")
    line = ("score", folder / "offline", "--model", options.model, "--quiet")
    before, after = run_wetread(*line), run_wetread(*line, within=cut_off or ())
    same = before.output == after.output and (before.code, after.code) == (3, 3)
    where = "in a network namespace without an interface" if cut_off else "this machine has no network"
    return _judge(f"the same rows: {where}" if same else f"other rows: {after.said}", is_same=same)


def _find_cutter() -> tuple[str, ...] | None:
    """Return a command that runs a program without a network; None if there is none here."""
    line = ("unshare", "--map-root-user", "--net")
    if not shutil.which(line[0]) or run_wetread("--version", within=line).code:
        return None
    return line


def _is_offline() -> bool:
    """Whether the system says that it has no route anywhere, of IPv4 or IPv6 (Linux)."""
    old, new = _ROUTES / "route", _ROUTES / "ipv6_route"
    if not old.exists() or len(_read_lines(old)) > 1:
        return False
    # Without a network, too, there are routes to the machine itself, over the interface lo.
    return not new.exists() or all(line.split()[-1] == "lo" for line in _read_lines(new))


def _read_lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def watch(options: AcceptOptions, folder: Path) -> Found:
    """End `wetread watch` hard while files arrive, and start it again: every file must have one row."""
    problem, text = watch_with_kills(options.model, folder / "watched")
    return _judge(problem or text, is_same=not problem)


STEPS = (
    Step("1", "compare the digest in the certificate with the model's", "the same", compare_certificate),
    Step("2", "wetread verify", "this machine may use it", verify),
    Step("3", "wetread doctor", "no problem", examine),
    Step(
        "4a",
        "score three drawn pictures, a cut file, an empty file and a text",
        "a row for each, with the right status; the bundle's answers within 0.001",
        score_drawn,
    ),
    Step(
        "4b",
        "score local pictures, and compare with another machine",
        "the same statuses and labels; probabilities within 0.001",
        score_local,
    ),
    Step("5", "change one bit of a copy of the model, and score with it", "refused", change_model),
    Step("6", "score without a network", "the same rows", score_offline),
    Step("7", "end wetread watch hard while files arrive, and start it again", "every file once", watch),
)
