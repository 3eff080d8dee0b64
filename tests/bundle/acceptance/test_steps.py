from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import draw_image
from wetread.bundle.acceptance import steps, watching
from wetread.bundle.acceptance.commands import Done
from wetread.bundle.acceptance.steps import STEPS, AcceptOptions, Found, Result
from wetread.cli import run
from wetread.errors import UsageError
from wetread.runtime.model.file_reading import read_model
from wetread.runtime.model.spec import check_digest


@pytest.fixture
def options(toy_model) -> AcceptOptions:
    return AcceptOptions(model=str(toy_model))


def run_here(*arguments: object) -> Done:
    """Run wetread in this process, which is quicker."""
    output, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(said):
        code = run([str(argument) for argument in arguments])
    return Done(code, output.getvalue(), said.getvalue().strip())


@pytest.fixture
def here(monkeypatch) -> None:
    monkeypatch.setattr(steps, "run_wetread", run_here)


def answer(monkeypatch: pytest.MonkeyPatch, *answers: Done) -> None:
    """Give the answers of a wetread that is not the one here."""
    left = list(answers)
    monkeypatch.setattr(steps, "run_wetread", lambda *_, **__: left.pop(0))


def test_the_certificate_must_name_the_model(options, tmp_path):
    digest = check_digest(read_model(options.model)[0], name="toy")
    paper = tmp_path / "c.txt"
    assert steps.compare_certificate(options, tmp_path).result == Result.NOT_RUN
    for text, result in (
        (f"digest {digest}\nstatement.passed  true\n", Result.PASSED),
        (f"digest {digest}\n", Result.FAILED),
        ("digest 0123\nstatement.passed  true\n", Result.FAILED),
    ):
        paper.write_text(text)
        given = AcceptOptions(model=options.model, certificate=str(paper))
        assert steps.compare_certificate(given, tmp_path).result == result


@pytest.mark.parametrize(
    ("step", "said", "result"),
    [
        (steps.verify, Done(0, "x\nthis machine may use it\n", ""), Result.PASSED),
        (steps.verify, Done(1, "x\nthis machine must not use it\n", ""), Result.FAILED),
        (steps.verify, Done(1, "", "wetread: no such file"), Result.FAILED),
        (steps.examine, Done(0, '{"findings": []}', ""), Result.PASSED),
        (steps.examine, Done(1, "", "wetread: broken"), Result.FAILED),
        (
            steps.examine,
            Done(1, json.dumps({"findings": [{"topic": "memory", "level": "problem", "found": "1 MB"}]}), ""),
            Result.FAILED,
        ),
        (steps.change_model, Done(0, "path,status\n", ""), Result.FAILED),
        (steps.change_model, Done(3, "path,status\n", ""), Result.FAILED),
        (steps.change_model, Done(1, "", "wetread: changed.onnx has no signature"), Result.FAILED),
        (steps.score_drawn, Done(0, "", ""), Result.FAILED),
        (steps.score_drawn, Done(1, "", "wetread: no"), Result.FAILED),
    ],
)
def test_answers_are_judged(options, tmp_path, monkeypatch, step: Callable[..., Found], said, result):
    answer(monkeypatch, said)
    found = step(options, tmp_path)
    assert found.result == result
    assert found.text


def test_a_machine_that_gives_other_statuses_fails(options, tmp_path, monkeypatch):
    def run(*arguments: object) -> Done:
        done = run_here(*arguments)
        rows = tmp_path / "drawn.csv"
        rows.write_text(rows.read_text().replace("truncated", "ok"))
        return done

    monkeypatch.setattr(steps, "run_wetread", run)
    assert steps.score_drawn(options, tmp_path).result == Result.FAILED


def test_drawn_pictures_are_compared_with_the_bundles_rows(options, tmp_path, monkeypatch, here):
    monkeypatch.setattr(steps, "find_installation", lambda: tmp_path)
    (tmp_path / "selftest").mkdir()
    expected = tmp_path / "selftest" / "expected.csv"
    from wetread.bundle.selftest import draw_pictures, score_pictures

    rows = score_pictures(Path(options.model), draw_pictures(with_dicom=True))
    for data, result in ((rows, Result.PASSED), (rows.replace(b",0.", b",0.9"), Result.FAILED)):
        expected.write_bytes(data)
        (tmp_path / str(result)).mkdir()
        assert steps.score_drawn(options, tmp_path / str(result)).result == result


def test_local_pictures_are_compared_with_another_machines_rows(options, tmp_path, here):
    pictures, there = tmp_path / "Doe", tmp_path / "there.csv"
    pictures.mkdir()
    for index in range(3):
        (pictures / f"Doe^Jane{index}.jpg").write_bytes(draw_image(index))
    assert steps.score_local(options, tmp_path).result == Result.NOT_RUN
    assert run_here("score", pictures, "--model", options.model, "--output", there).code == 0
    given = AcceptOptions(model=options.model, pictures=str(pictures), expected=str(there))
    found = steps.score_local(given, tmp_path)
    assert found.result == Result.PASSED
    assert "Doe" not in found.text


def test_what_score_says_of_local_pictures_is_not_in_the_protocol(options, tmp_path, monkeypatch):
    (tmp_path / "there.csv").write_text("")
    answer(monkeypatch, Done(1, "", "wetread: /Doe^Jane/1.jpg cannot be read"))
    given = AcceptOptions(model=options.model, pictures=str(tmp_path), expected=str(tmp_path / "there.csv"))
    found = steps.score_local(given, tmp_path)
    assert (found.result, found.text) == (Result.FAILED, "wetread score ended with exit code 1")


def test_a_changed_model_is_refused(options, tmp_path, here):
    found = steps.change_model(options, tmp_path)
    assert found.result == Result.PASSED
    assert "changed.onnx" in found.text


def test_without_a_network_the_rows_are_the_same_or_it_is_left_to_a_hand(options, tmp_path, monkeypatch):
    assert steps.score_offline(options, tmp_path).result in (Result.PASSED, Result.BY_HAND)
    monkeypatch.setattr(steps, "_find_cutter", lambda: None)
    monkeypatch.setattr(steps, "_is_offline", lambda: False)
    assert steps.score_offline(options, tmp_path).result == Result.BY_HAND


@pytest.mark.parametrize(
    ("old", "new", "offline"),
    [
        ("head\n", "", True),
        ("head\n", "00 00 lo\n00 00 lo\n", True),
        ("head\n", "00 00 lo\n20 00 eth0\n", False),
        ("head\neth0 0\n", "00 00 lo\n", False),
        ("head\n", None, True),
        (None, None, False),
    ],
)
def test_a_route_of_either_protocol_is_a_network(tmp_path, monkeypatch, old, new, offline):
    for name, text in (("route", old), ("ipv6_route", new)):
        if text is not None:
            (tmp_path / name).write_text(text)
    monkeypatch.setattr(steps, "_ROUTES", tmp_path)
    assert steps._is_offline() is offline


def test_other_rows_without_a_network_fail(options, tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "_find_cutter", lambda: ("unshare",))
    answer(monkeypatch, Done(3, "rows", ""), Done(3, "other rows", ""))
    assert steps.score_offline(options, tmp_path).result == Result.FAILED


def test_a_watch_that_is_ended_hard(options, tmp_path):
    found = steps.watch(options, tmp_path)
    assert (found.result, found.text) == (Result.PASSED, "3 times ended hard, 12 files, 12 rows, each once")


@pytest.mark.parametrize("rows", [0, 12])
def test_a_watch_that_ends_by_itself_fails(tmp_path, monkeypatch, rows):
    """Whatever rows it left: that it was not killed is what must be said."""

    def start(model: str, inbox: Path, output: Path) -> subprocess.Popen[bytes]:
        output.write_text("path,status,p_a\n" + "".join(f"{n}.jpg,ok,0.5\n" for n in range(rows)))
        process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(5)"])
        process.wait()
        return process

    monkeypatch.setattr(watching, "_start", start)
    problem, _ = watching.watch_with_kills("model.onnx", tmp_path / "watched")
    assert problem == "wetread watch ended by itself, with exit code 5"


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([f"{n}.jpg,ok,0.5" for n in range(12)], ""),
        ([f"{n}.jpg,ok,0.5" for n in range(11)], "11 rows of 11 files"),
        ([f"{n}.jpg,ok,0.5" for n in (*range(12), 3)], "13 rows of 12 files"),
        ([*(f"{n}.jpg,ok,0.5" for n in range(11)), "11.jpg,ok,0.6"], "2 different rows"),
        ([f"{n}.jpg,truncated," for n in range(12)], "1 different rows"),
    ],
)
def test_rows_after_kills_are_judged(tmp_path, rows, words):
    (tmp_path / "s.csv").write_text("\n".join(["path,status,p_a", *rows, ""]))
    assert words in watching._judge(tmp_path / "s.csv")
    assert bool(words) == bool(watching._judge(tmp_path / "s.csv"))


@pytest.mark.parametrize("wrong", [{"pictures": "x"}, {"expected": "x"}, {"certificate": "none.html"}])
def test_options_that_cannot_be_meant(options, wrong):
    with pytest.raises(UsageError):
        AcceptOptions(model=options.model, **wrong)


def test_the_steps_are_those_of_the_guide():
    guide = (Path(__file__).parents[3] / "docs" / "guides" / "offline-machine.md").read_text()
    assert [line.split("|")[1].strip() for line in guide.splitlines() if line.startswith(("| 1 |", "| 2 |"))]
    assert all(f"\n| {step.number} | " in guide for step in STEPS)
