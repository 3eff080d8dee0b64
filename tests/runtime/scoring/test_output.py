from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from tests.conftest import draw_image
from wetread.errors import OutputError, SourceError, UsageError
from wetread.runtime.scoring import output as outputs
from wetread.runtime.scoring import run as runs
from wetread.runtime.scoring.classifier import Classifier
from wetread.runtime.scoring.run import ScoreOptions, score_to_file

STATE = ".part.state"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Forty small images, a text and an empty file among them."""
    folder = tmp_path_factory.mktemp("images")
    for index in range(40):
        (folder / f"image{index:02d}.jpg").write_bytes(draw_image(index))
    (folder / "image07b.jpg").write_text("not an image")
    (folder / "image31b.jpg").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def classifier(toy_model) -> Classifier:
    return Classifier(toy_model)


@pytest.fixture
def options(folder, tmp_path) -> ScoreOptions:
    return ScoreOptions(sources=(str(folder),), output=str(tmp_path / "s.csv"), batch_size=4, workers=2)


def change(options: ScoreOptions, **values) -> ScoreOptions:
    import dataclasses

    return dataclasses.replace(options, **values)


def whole(classifier, options, tmp_path, *, suffix=".csv") -> bytes:
    """What an uninterrupted run writes."""
    path = tmp_path / f"whole{suffix}"
    score_to_file(classifier, change(options, output=str(path), resume=False))
    return path.read_bytes()


def stop_after(chunks: int):
    left = iter(range(chunks))
    return lambda: next(left, None) is None


def interrupt(classifier, options, *, chunks: int) -> None:
    assert score_to_file(classifier, options, stop=stop_after(chunks)).interrupted


def test_output_appears_whole_with_its_record(classifier, options, tmp_path):
    seen = []
    tally = score_to_file(classifier, options, watch=lambda t: seen.append((t.rows, os.listdir(tmp_path))))
    assert (tally.rows, tally.failed, tally.interrupted) == (42, 2, False)
    assert all("s.csv" not in names for _, names in seen)
    assert sorted(os.listdir(tmp_path)) == ["s.csv", "s.csv.run.json"]
    record = json.loads((tmp_path / "s.csv.run.json").read_text())
    assert record["counts"] == {"empty": 1, "not_an_image": 1, "ok": 40}
    assert record["model"]["sha256"] == classifier.digest
    assert record["provider"] == "CPUExecutionProvider"
    assert set(record["seconds"]) == {"list", "read", "decode", "infer", "write"}
    assert record["spec"]["labels"] == ["NORMAL", "PNEUMONIA"]
    lines = (tmp_path / "s.csv").read_text().splitlines()
    assert len(lines) == 43
    assert [line.split(",")[1] for line in lines if "07b" in line or "31b" in line] == [
        "not_an_image",
        "empty",
    ]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("chunks", [1, 3, 10])
def test_an_interrupted_run_resumes_to_the_same_bytes(classifier, options, tmp_path, suffix, chunks):
    options = change(options, output=str(tmp_path / f"s{suffix}"))
    interrupt(classifier, options, chunks=chunks)
    assert not Path(options.output).exists()
    tally = score_to_file(classifier, change(options, resume=True, workers=1))
    assert tally.resumed > 0
    assert tally.rows == 42
    assert Path(options.output).read_bytes() == whole(classifier, options, tmp_path, suffix=suffix)


def test_resume_of_nothing_and_of_a_finished_output_succeed(classifier, options, tmp_path):
    options = change(options, resume=True)
    first = score_to_file(classifier, options)
    before = Path(options.output).read_bytes()
    again = score_to_file(classifier, options)
    assert (first.rows, again.rows, again.failed) == (42, 42, 2)
    assert Path(options.output).read_bytes() == before


@pytest.mark.parametrize("damage", ["rows cut", "rows garbled", "state cut", "state garbled", "rows ahead"])
def test_what_the_state_does_not_vouch_for_is_scored_again(classifier, options, tmp_path, damage):
    expected = whole(classifier, options, tmp_path)
    interrupt(classifier, options, chunks=6)
    part, state = Path(options.output + ".part"), Path(options.output + STATE)
    rows, lines = part.read_bytes(), state.read_bytes()
    if damage == "rows cut":
        part.write_bytes(rows[:-5])
    elif damage == "rows garbled":
        part.write_bytes(rows[:-9] + b"\0" * 9)
    elif damage == "state cut":
        state.write_bytes(lines[:-7])
    elif damage == "state garbled":
        state.write_bytes(lines + b"\0\0\0\n{}")
    else:
        part.write_bytes(rows + b"/half/a/row")
    score_to_file(classifier, change(options, resume=True))
    assert Path(options.output).read_bytes() == expected


@pytest.mark.parametrize("missing", [".part", STATE])
def test_a_lost_half_starts_again(classifier, options, tmp_path, missing):
    expected = whole(classifier, options, tmp_path)
    interrupt(classifier, options, chunks=2)
    os.remove(options.output + missing)
    score_to_file(classifier, change(options, resume=True))
    assert Path(options.output).read_bytes() == expected


def test_existing_outputs_are_not_touched(classifier, options):
    score_to_file(classifier, options)
    with pytest.raises(OutputError, match="a finished output.*--resume.*--overwrite"):
        score_to_file(classifier, options)
    score_to_file(classifier, change(options, overwrite=True))
    interrupt(classifier, change(options, overwrite=True), chunks=1)
    assert Path(options.output).exists()
    os.remove(options.output)
    with pytest.raises(OutputError, match="an unfinished output"):
        score_to_file(classifier, options)


def test_an_overwritten_output_stays_until_the_new_one_is_whole(classifier, options, tmp_path):
    Path(options.output).write_text("old")
    interrupt(classifier, change(options, overwrite=True), chunks=2)
    assert Path(options.output).read_text() == "old"
    score_to_file(classifier, change(options, resume=True))
    assert Path(options.output).read_bytes() == whole(classifier, options, tmp_path)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"batch_size": 8}, "batch_size"),
        ({"max_memory": 1 << 29}, "max_memory"),
        ({"include": "*.jpg"}, "include"),
    ],
)
def test_a_changed_option_is_refused_by_name(classifier, options, changes, named):
    interrupt(classifier, options, chunks=2)
    with pytest.raises(OutputError, match=f"begun with another {named}"):
        score_to_file(classifier, change(options, resume=True, **changes))
    with pytest.raises(OutputError, match=f"begun with another {named}"):
        finished = change(options, overwrite=True)
        score_to_file(classifier, finished)
        score_to_file(classifier, change(options, resume=True, **changes))


def test_a_changed_model_is_refused(classifier, options):
    from tests.models import build_model, toy_spec

    interrupt(classifier, options, chunks=2)
    other = Classifier(build_model(toy_spec(), seed=1))
    with pytest.raises(OutputError, match="begun with another model"):
        score_to_file(other, change(options, resume=True))


@pytest.mark.parametrize("event", ["added", "removed", "renamed", "resized", "touched"])
def test_a_changed_listing_is_refused(classifier, tmp_path, event):
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(20):
        (folder / f"i{index:02d}.jpg").write_bytes(draw_image(index))
    options = ScoreOptions(sources=(str(folder),), output=str(tmp_path / "s.csv"), batch_size=4)
    interrupt(classifier, options, chunks=3)
    third = folder / "i02.jpg"
    if event == "added":
        (folder / "i01b.jpg").write_bytes(b"new")
    elif event == "removed":
        third.unlink()
    elif event == "renamed":
        third.rename(folder / "i02c.jpg")
    elif event == "resized":
        third.write_bytes(draw_image(50, height=120))
    else:
        os.utime(third, ns=(1, 1))
    with pytest.raises(OutputError, match=r"Input 3 changed since.*i0"):
        score_to_file(classifier, change(options, resume=True))


def test_an_input_that_went_away_after_the_written_rows_is_refused(classifier, options, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(20):
        (folder / f"i{index:02d}.jpg").write_bytes(draw_image(index))
    options = change(options, sources=(str(folder),))
    interrupt(classifier, options, chunks=2)
    for index in range(2, 20):
        (folder / f"i{index:02d}.jpg").unlink()
    with pytest.raises(OutputError, match="end of the listing"):
        score_to_file(classifier, change(options, resume=True))


def test_a_second_writer_is_refused(classifier, options):
    def second(_tally):
        with pytest.raises(OutputError, match="Another run is writing"):
            score_to_file(classifier, change(options, resume=True))
        with pytest.raises(OutputError, match="Another run is writing"):
            score_to_file(classifier, change(options, overwrite=True))

    score_to_file(classifier, options, watch=second)
    assert Path(options.output).exists()


def test_a_full_disk_keeps_what_was_written(classifier, options, tmp_path, monkeypatch):
    expected = whole(classifier, options, tmp_path)
    real, room = outputs._write_all, [3000]

    def write(file, data):
        if room[0] < len(data):
            real(file, data[: room[0]])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        room[0] -= len(data)
        real(file, data)

    monkeypatch.setattr(outputs, "_write_all", write)
    with pytest.raises(OutputError, match="No space left on device.*is kept"):
        score_to_file(classifier, options)
    monkeypatch.setattr(outputs, "_write_all", real)
    tally = score_to_file(classifier, change(options, resume=True))
    assert tally.resumed > 0
    assert Path(options.output).read_bytes() == expected


def test_a_folder_that_vanishes_or_never_was(classifier, options, tmp_path):
    place = tmp_path / "out"
    place.mkdir()
    output = str(place / "s.csv")

    def vanish(_tally):
        for name in place.iterdir():
            name.unlink()
        place.rmdir()

    with pytest.raises(OutputError, match="was removed during the run"):
        score_to_file(classifier, change(options, output=output), watch=vanish)
    with pytest.raises(OutputError, match="No such file"):
        score_to_file(classifier, change(options, output=output))


def test_an_output_inside_its_own_source_is_not_an_input(classifier, tmp_path):
    for index in range(6):
        (tmp_path / f"i{index}.jpg").write_bytes(draw_image(index))
    options = ScoreOptions(sources=(str(tmp_path),), output=str(tmp_path / "a.csv"), batch_size=2)
    interrupt(classifier, options, chunks=1)
    score_to_file(classifier, change(options, resume=True))
    second = score_to_file(classifier, change(options, output=str(tmp_path / "b.parquet")))
    assert second.counts == {"ok": 6}


@pytest.mark.parametrize("flags", [{}, {"overwrite": True}, {"resume": True}])
def test_a_folder_is_refused_before_anything_is_scored(classifier, options, tmp_path, flags):
    (tmp_path / "s.csv").mkdir()
    with pytest.raises(OutputError, match="s.csv' is a folder"):
        score_to_file(classifier, change(options, **flags))
    assert [path.name for path in tmp_path.iterdir()] == ["s.csv"]


def test_a_file_of_somebody_elses_is_not_resumed(classifier, options):
    Path(options.output).write_text("mine")
    with pytest.raises(OutputError, match="has no record"):
        score_to_file(classifier, change(options, resume=True))
    assert Path(options.output).read_text() == "mine"


def test_options_that_contradict_one_another():
    for values in (
        {},
        {"sources": ("a",), "from_file": "b"},
        {"sources": ("a",), "output": "s.csv", "resume": True, "overwrite": True},
        {"sources": ("a",), "resume": True},
    ):
        with pytest.raises(UsageError):
            ScoreOptions(**values)


def test_a_source_that_is_not_there_leaves_nothing_behind(classifier, options, tmp_path):
    with pytest.raises(SourceError):
        score_to_file(classifier, change(options, sources=("/no/such/folder",)))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("package", "before", "after"),
    [("imagecodecs", "1.0", "2.0"), ("pydicom", None, "3.0"), ("pydicom", "3.0", None), ("numpy", "1", "2")],
)
def test_a_run_goes_on_with_the_decoders_that_it_began_with(
    classifier, options, monkeypatch, package, before, after
):
    """Absent first and there later is another decoder as well: its rows would say 'unsupported' no more."""

    def install(version: str | None) -> None:
        found = {"wetread": "0"} | ({package: version} if version else {})
        monkeypatch.setattr(runs, "find_versions", lambda names: {n: found[n] for n in names if n in found})

    install(before)
    assert score_to_file(classifier, options, stop=lambda: True).interrupted
    install(after)
    with pytest.raises(OutputError, match="begun with another versions"):
        score_to_file(classifier, change(options, resume=True))
    install(before)
    score_to_file(classifier, change(options, resume=True))
    record = json.loads(Path(f"{options.output}.run.json").read_text())
    assert record["versions"].get(package) == before
