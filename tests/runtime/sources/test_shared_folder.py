from __future__ import annotations

import os
from pathlib import Path

import pytest

from wetread.errors import OutputError, SourceError
from wetread.runtime.sources.shared_folder import open_bytes, open_place, put_file


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "spool"
    path.write_bytes(b"0123456789")
    return path


@pytest.fixture(params=["folder", "bucket"])
def location(request, tmp_path) -> str:
    if request.param == "folder":
        return str(tmp_path / "place" / "deep")
    request.getfixturevalue("cloud").buckets.create("b")
    return "gs://b/place/deep"


def content(location: str, name: str) -> bytes | None:
    opened = open_place(location).open(name)
    if opened is None:
        return None
    with opened:
        return opened.read()


def test_what_stands_is_not_written_over(location, file):
    place = open_place(location)
    assert place.list_names() == []
    assert place.open("a") is None
    assert place.put("a", file)
    file.write_bytes(b"other")
    assert not place.put("a", file)
    assert content(location, "a") == b"0123456789"
    place.replace("a", file)
    place.put("b", file)
    assert content(location, "a") == content(location, "b") == b"other"
    assert place.list_names() == ["a", "b"]


def test_a_file_of_its_own(location, file):
    put_file(f"{location}/m", file, overwrite=False)
    with pytest.raises(OutputError, match="Replace it with --overwrite"):
        put_file(f"{location}/m", file, overwrite=False)
    put_file(f"{location}/m", file, overwrite=True)
    part = open_bytes(f"{location}/m")
    assert (part.size, part.read(2, 3), part.read(8, 9), part.read(10, 5)) == (10, b"234", b"89", b"")
    with pytest.raises(SourceError):
        open_bytes(f"{location}/absent")


def test_a_name_without_a_folder_is_here(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put_file("m", file, overwrite=False)
    assert (tmp_path / "m").read_bytes() == b"0123456789"


def test_file_systems_without_links(tmp_path, file, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    place = open_place(str(tmp_path / "place"))
    assert place.put("a", file)
    assert not place.put("a", file)
    assert place.list_names() == ["a"]


def test_a_folder_that_cannot_be_written(tmp_path, file):
    (tmp_path / "place").write_text("a file")
    with pytest.raises(OutputError, match="The folder .* cannot be read or written"):
        open_place(str(tmp_path / "place")).put("a", file)
