"""Which files calibrate and which judge."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.export.networks import LABELS, draw_lamps, toy_spec
from wetread.errors import ExportError
from wetread.export.images import read_chunks, read_folder_images, read_images, read_run_images
from wetread.runtime.images.pixels import read_pixels
from wetread.runtime.sources.opening import open_source


def test_a_run_lists_what_calibrates_and_what_judges(toy):
    found = read_run_images(toy.run, toy_spec())
    assert (len(found.calibration), len(found.validation)) == (120, 80)
    assert not set(found.calibration.names) & set(found.validation.names)
    name = found.validation.names[0]
    with open(name, "rb") as file:
        assert (found.validation.pixels[0] == read_pixels(file.read(), toy_spec().pixels)).all()
    expected = [LABELS.index(name.split("/")[-2]) for name in found.validation.names]
    assert found.validation.targets.tolist() == expected


def test_a_folder_is_divided_by_the_hash_of_its_names(toy, tmp_path):
    found = read_folder_images(toy.data, toy_spec())
    again = read_folder_images(toy.data, toy_spec())
    assert found.calibration.names == again.calibration.names
    assert (len(found.calibration), len(found.validation)) == (160, 160)
    assert not set(found.calibration.names) & set(found.validation.names)
    assert set(found.validation.targets.tolist()) == {0, 1}
    flat = tmp_path / "flat"
    flat.mkdir()
    for index, path in enumerate(sorted(toy.data.rglob("*.jpg"))[:6]):
        (flat / f"{index}.jpg").write_bytes(path.read_bytes())
    assert read_folder_images(flat, toy_spec()).validation.targets.tolist() == [-1, -1, -1]


@pytest.mark.parametrize("place", ["left", "left/", "left/*/*.jpg", "left/**/*.jpg"])
def test_labels_are_looked_for_below_the_folder_alone(toy, tmp_path, monkeypatch, place):
    """A folder that is itself called like a label says nothing of the files in it."""
    (tmp_path / "left").mkdir()
    for label in LABELS:
        (tmp_path / "left" / label).symlink_to(toy.data / label)
    monkeypatch.chdir(tmp_path)
    found = read_folder_images(place, toy_spec()).validation
    assert found.targets.tolist() == [LABELS.index(name.split("/")[1]) for name in found.names]
    assert set(found.targets.tolist()) == {0, 1}


def test_files_without_pixels_are_left_out(tmp_path):
    draw_lamps(tmp_path, count=5)
    (tmp_path / "left" / "broken.jpg").write_bytes(b"\xff\xd8\xff not a picture")
    source = open_source(tmp_path)
    images = read_images(
        source.entries(), toy_spec().pixels, read=source.read, find_label=lambda name: len(name)
    )
    assert len(images) == 5
    assert images.targets.tolist() == [len(name) for name in images.names]
    chunks = list(read_chunks(source.entries(), toy_spec().pixels, read=source.read, size=2))
    assert [len(chunk.names) + len(chunk.failures) for chunk in chunks] == [2, 2, 2]
    assert [name for chunk in chunks for name in chunk.failures] == [f"{tmp_path}/left/broken.jpg"]
    assert [name for chunk in chunks for name in chunk.names] == list(images.names)
    assert (np.concatenate([chunk.pixels for chunk in chunks]) == images.pixels).all()


def test_images_that_are_not_found_are_an_error(toy, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ExportError, match="it has 0 and 0"):
        read_folder_images(tmp_path / "empty", toy_spec())
    run = tmp_path / "run"
    (run / "calibration").mkdir(parents=True)
    (run / "calibration" / "files.txt").write_bytes((toy.run / "calibration" / "files.txt").read_bytes())
    (run / "config.json").write_text("{}")
    with pytest.raises(ExportError, match="--calibration"):
        read_run_images(run, toy_spec())
    (run / "config.json").write_text(json.dumps({"data": str(toy.data)}))
    with pytest.raises(ExportError, match=r"splits\.csv"):
        read_run_images(run, toy_spec())
