"""The whole way, small: every step is told, every file is there, and nothing of anyone else's is deleted."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from wetread.demo.blocked_imports import run_without_training
from wetread.demo.events import DemoResult, Event, Places, StepEnded, StepSaid, StepStarted, describe_event
from wetread.demo.inbox import check_scores, fill_inbox
from wetread.demo.phantoms import FINDINGS, draw_dataset
from wetread.demo.walkthrough import DemoOptions, prepare_folder, run_demo
from wetread.errors import OutputError

# TensorFlow, Keras and tf2onnx warn of their own future; the demo is not about that.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

_BROKEN = {"truncated": 2, "empty": 1, "not_an_image": 1}


def _walk(folder: Path, data: Path | None = None) -> tuple[DemoResult, list[Event]]:
    told: list[Event] = []
    options = DemoOptions(pictures=48, fresh=6, epochs=1)
    return run_demo(folder, data=data, on_step=told.append, options=options), told


def test_whole_way_with_phantoms(tmp_path: Path) -> None:
    result, told = _walk(tmp_path / "demo")

    started = [event for event in told if isinstance(event, StepStarted)]
    commands = [event.command.split()[1] for event in started if event.command]
    models = 2 if result.int8 else 1
    assert commands == ["train", "export", "export", "parity", "score", *["verify"] * models]
    assert [event.number for event in started] == list(range(1, len(started) + 1))
    assert sum(isinstance(event, StepEnded) for event in told) == len(started)
    assert describe_event(started[0]) == "[1] Draw 48 chest phantoms: X-rays of no real person"

    assert result.scored.rows == 10
    assert dict(result.scored.statuses) == {"ok": 6, **_BROKEN}
    assert 0 <= result.scored.agreed <= result.scored.pictures == 6
    with result.places.scores.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [Path(row["path"]).name for row in rows] == sorted(Path(row["path"]).name for row in rows)
    assert all(bool(row["probability"]) == (row["status"] == "ok") for row in rows)

    text = result.describe()
    assert all(str(place) in "\n".join(text) for place in (result.places.model, result.places.scores))
    assert result.places.model.stat().st_size > 100_000
    assert (result.int8 is None) == bool(result.refusal)
    assert (result.places.run / "metrics.json").is_file()


@pytest.mark.long
def test_whole_way_with_ones_own_images_of_four_labels(tmp_path: Path) -> None:
    draw_dataset(tmp_path / "mine", count=48, shares=FINDINGS)
    before = sorted((tmp_path / "mine").rglob("*"))

    result, told = _walk(tmp_path / "demo", tmp_path / "mine")

    assert sorted((tmp_path / "mine").rglob("*")) == before
    assert not (tmp_path / "demo" / "data").exists()
    assert dict(result.scored.statuses) == {"ok": result.scored.pictures, **_BROKEN}
    assert 1 <= result.scored.pictures <= 6
    said = [event.text for event in told if isinstance(event, StepSaid)]
    assert any("labels are those of their folders" in text for text in said)


def test_a_demo_of_before_is_emptied_and_nothing_else_is(tmp_path: Path) -> None:
    places = Places.under(tmp_path / "demo")
    prepare_folder(places)
    (places.folder / "old.txt").write_text("old")
    prepare_folder(places)
    assert not (places.folder / "old.txt").exists()

    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "chapter.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"thesis exists and is not from an earlier demo"):
        prepare_folder(Places.under(foreign))
    assert (foreign / "chapter.txt").read_text() == "mine"
    with pytest.raises(OutputError, match="exists and is not from an earlier demo"):
        prepare_folder(Places.under(foreign / "chapter.txt"))


def test_ones_own_images_inside_the_demo_folder_are_not_deleted(tmp_path: Path) -> None:
    prepare_folder(Places.under(tmp_path / "demo"))
    mine = tmp_path / "demo" / "mine"
    mine.mkdir()
    with pytest.raises(OutputError, match=r"The demo empties .*demo.* is inside it"):
        prepare_folder(Places.under(tmp_path / "demo", data=mine))
    with pytest.raises(OutputError, match=r"The demo empties .*demo.* is inside it"):
        prepare_folder(Places.under(tmp_path / "demo", data=tmp_path / "demo"))
    assert mine.is_dir()


def test_isolated_python_has_no_tensorflow(tmp_path: Path) -> None:
    assert run_without_training(["--help"]).returncode == 0
    draw_dataset(tmp_path / "data", count=12)
    done = run_without_training(["train", str(tmp_path / "data"), "--output", str(tmp_path / "run")])
    assert done.returncode == 1
    assert "pip install 'wetread[train]'" in done.stderr


def test_scores_that_miss_a_file_or_score_a_broken_one_are_refused(tmp_path: Path) -> None:
    inbox = fill_inbox(tmp_path / "inbox", count=2, seed=0)
    names = [*inbox.labels, *inbox.broken]
    assert sorted(names) == sorted(str(path) for path in (tmp_path / "inbox").iterdir())

    def write(statuses: dict[str, str]) -> Path:
        lines = ["path,status,label", *(f"{name},{status},NORMAL" for name, status in statuses.items())]
        (tmp_path / "scores.csv").write_text("\n".join(lines) + "\n")
        return tmp_path / "scores.csv"

    right = dict.fromkeys(inbox.labels, "ok") | dict(inbox.broken)
    assert check_scores(write(right), inbox).agreed == list(inbox.labels.values()).count("NORMAL")
    with pytest.raises(OutputError, match="must have one row for each file"):
        check_scores(write(dict(list(right.items())[1:])), inbox)
    with pytest.raises(OutputError, match="upload-cut"):
        check_scores(write(right | {str(tmp_path / "inbox" / "upload-cut.jpeg"): "ok"}), inbox)
