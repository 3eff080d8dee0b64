"""Resuming what is finished already, and outputs that are not a run's to take."""

from __future__ import annotations

import io
import json
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import draw_image
from wetread.errors import OutputError, SourceError
from wetread.runtime.scoring.classifier import Classifier
from wetread.runtime.scoring.run import ScoreOptions, score_to_file, score_to_stream
from wetread.runtime.sources.manifest_writing import ManifestOptions, make_manifest

SUFFIXES = (".csv", ".jsonl", ".parquet")


@pytest.fixture(scope="module")
def classifier(toy_model) -> Classifier:
    return Classifier(toy_model, device="cpu")


@pytest.fixture
def images(tmp_path) -> Path:
    """Twelve inputs, one of which is no image."""
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(12):
        (folder / f"i{index:02d}.jpg").write_bytes(draw_image(index) if index != 7 else b"text")
    return folder


@pytest.fixture(params=SUFFIXES)
def options(images, tmp_path, request) -> ScoreOptions:
    output = str(tmp_path / f"s{request.param}")
    return ScoreOptions(sources=(str(images),), output=output, batch_size=4, workers=2)


@pytest.fixture(params=["at once", "resumed"])
def finished(classifier, options, request) -> ScoreOptions:
    """Options that resume an output which is whole, written in one run or in two."""
    resuming = replace(options, resume=True)
    if request.param == "resumed":
        assert score_to_file(classifier, options, stop=lambda: True).interrupted
        assert score_to_file(classifier, resuming).resumed > 0
    else:
        score_to_file(classifier, options)
    return resuming


def add(folder: Path) -> None:
    (folder / "i01b.jpg").write_bytes(b"new")


def remove(folder: Path) -> None:
    (folder / "i02.jpg").unlink()


def rename(folder: Path) -> None:
    (folder / "i02.jpg").rename(folder / "i02b.jpg")


def resize(folder: Path) -> None:
    (folder / "i02.jpg").write_bytes(draw_image(50, height=120))


def touch(folder: Path) -> None:
    os.utime(folder / "i02.jpg", ns=(1, 1))


def test_a_finished_output_of_which_nothing_changed_is_resumed(classifier, finished, monkeypatch):
    """Without reading an input."""
    before = Path(finished.output).stat()
    monkeypatch.setattr(os, "read", lambda *_: pytest.fail("an input was read"))
    tally = score_to_file(classifier, finished)
    assert tally.counts == {"ok": 11, "not_an_image": 1}
    assert tally.resumed == 12
    after = Path(finished.output).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("change", [add, remove, rename, resize, touch])
def test_a_finished_output_of_other_inputs_is_refused(classifier, finished, images, change):
    change(images)
    with pytest.raises(
        OutputError,
        match=r"Input 3 changed since .* was written: now '.*/i0.*--overwrite .*another output",
    ):
        score_to_file(classifier, finished)
    again = replace(finished, resume=False, overwrite=True)
    rows = score_to_file(classifier, again).rows
    assert score_to_file(classifier, finished).resumed == rows


def test_inputs_after_the_last_and_none_at_all(classifier, finished, images):
    (images / "z.jpg").write_bytes(b"new")
    with pytest.raises(OutputError, match=r"The listing's end after input 12 changed.*z\.jpg"):
        score_to_file(classifier, finished)
    for path in images.iterdir():
        path.unlink()
    with pytest.raises(OutputError, match="Input 1 changed since.*the end of the listing"):
        score_to_file(classifier, finished)
    images.rmdir()
    with pytest.raises(SourceError):
        score_to_file(classifier, finished)


@pytest.mark.parametrize("damage", ["cut", "emptied", "changed", "grown"])
def test_a_finished_output_that_was_changed_since_is_refused(classifier, finished, damage):
    path = Path(finished.output)
    data = path.read_bytes()
    other = {
        "cut": data[:-20],
        "emptied": b"",
        "changed": data[:-20] + b"0" + data[-19:],
        "grown": data + b"\n",
    }
    path.write_bytes(other[damage])
    with pytest.raises(OutputError, match=f"since it was written: {len(data):,} bytes, crc32 .*--overwrite"):
        score_to_file(classifier, finished)
    assert path.read_bytes() == other[damage]


def test_a_record_of_an_earlier_version_says_nothing_of_changes(classifier, finished, images):
    place = Path(f"{finished.output}.run.json")
    record = json.loads(place.read_text())
    del record["output"], record["inputs"]
    place.write_text(json.dumps(record))
    add(images)
    assert score_to_file(classifier, finished).resumed == 12


def test_a_list_and_a_manifest_are_held_to_what_they_list(classifier, images, tmp_path):
    listing, manifest = tmp_path / "list.txt", tmp_path / "images.manifest"
    names = [str(path) for path in sorted(images.iterdir())]
    listing.write_text("\n".join(names))
    make_manifest(ManifestOptions(sources=(str(images),), output=str(manifest)))
    listed = ScoreOptions(from_file=str(listing), output=str(tmp_path / "listed.csv"), resume=True)
    fixed = ScoreOptions(from_manifest=str(manifest), output=str(tmp_path / "fixed.csv"), resume=True)
    for chosen in (listed, fixed):
        score_to_file(classifier, chosen)
        assert score_to_file(classifier, chosen).resumed == 12
    listing.write_text("\n".join(names[:-1]))
    with pytest.raises(OutputError, match="(?i)input 12 changed"):
        score_to_file(classifier, listed)


def test_what_an_input_was_is_kept_bounded(classifier, images, tmp_path):
    for index in range(1500):
        (images / f"many{index:04d}.jpg").write_bytes(b"text")
    chosen = ScoreOptions(sources=(str(images),), output=str(tmp_path / "s.csv"), batch_size=16)
    score_to_file(classifier, chosen)
    record = json.loads((tmp_path / "s.csv.run.json").read_text())
    assert (record["inputs"]["count"], record["inputs"]["every"]) == (1512, 4)
    (images / "many0700b.jpg").write_bytes(b"text")
    with pytest.raises(
        OutputError, match=r"Inputs 713 to 716 changed since .*one of them differs .*up to '.*many0702\.jpg'"
    ):
        score_to_file(classifier, replace(chosen, resume=True))


@pytest.mark.parametrize("header", [b"", b"path,status\n", b"path,status,label,probability,p_NORMAL"])
def test_rows_whose_beginning_a_power_cut_took_are_scored_again(classifier, images, tmp_path, header):
    chosen = ScoreOptions(sources=(str(images),), output=str(tmp_path / "s.csv"), batch_size=4)
    score_to_file(classifier, replace(chosen, output=str(tmp_path / "whole.csv")))
    assert score_to_file(classifier, chosen, stop=lambda: True).interrupted
    (tmp_path / "s.csv.part").write_bytes(header)
    score_to_file(classifier, replace(chosen, resume=True))
    assert (tmp_path / "s.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("changed", [{}, {"resume": True}, {"overwrite": True}])
def test_the_output_of_a_watch_is_never_taken(classifier, images, tmp_path, suffix, changed):
    """Not even before its first row, when there is only the journal."""
    path = tmp_path / f"s{suffix}"
    chosen = ScoreOptions(sources=(str(images),), output=str(path), **changed)
    Path(f"{path}.watch").write_text("journal\n")
    for rows in (None, "rows\n"):
        if rows is not None:
            path.write_text(rows)
        before = sorted(os.listdir(tmp_path))
        with pytest.raises(OutputError, match=r"belongs to `wetread watch`. Choose another output, or end"):
            score_to_file(classifier, chosen)
        assert sorted(os.listdir(tmp_path)) == before
    assert path.read_text() == "rows\n"
    assert Path(f"{path}.watch").read_text() == "journal\n"


def test_a_watch_that_began_meanwhile_keeps_its_output(classifier, images, tmp_path):
    path = tmp_path / "s.csv"
    chosen = ScoreOptions(sources=(str(images),), output=str(path), batch_size=4)

    def begin(_tally: object) -> None:
        path.write_text("rows\n")
        Path(f"{path}.watch").write_text("journal\n")

    with pytest.raises(OutputError, match="belongs to `wetread watch`"):
        score_to_file(classifier, chosen, watch=begin)
    assert path.read_text() == "rows\n"
    path.unlink()
    Path(f"{path}.watch").unlink()
    assert score_to_file(classifier, replace(chosen, resume=True)).resumed == 12


class Watched(io.BytesIO):
    """A stream that tells when the first row is written."""

    def __init__(self) -> None:
        super().__init__()
        self.has_row = threading.Event()

    def write(self, data: Any) -> int:
        if self.tell():  # behind the header
            self.has_row.set()
        return super().write(data)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_rows_come_while_the_list_is_still_being_written(classifier, images, tmp_path):
    """A program that names the next images when it has the rows of the first would wait for ever."""
    names = [f"{images}/i{index:02d}.jpg\n".encode() for index in range(6)]
    place, stream, came_first = tmp_path / "names", Watched(), []
    os.mkfifo(place)

    def tell() -> None:
        with place.open("wb", buffering=0) as pipe:
            pipe.write(b"".join(names[:4]))
            came_first.append(stream.has_row.wait(60))
            pipe.write(b"".join(names[4:]))

    teller = threading.Thread(target=tell)
    teller.start()
    tally = score_to_stream(classifier, ScoreOptions(from_file=str(place), batch_size=1, workers=1), stream)
    teller.join()
    assert came_first == [True]
    assert tally.rows == len(names)
