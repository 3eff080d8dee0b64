from __future__ import annotations

import codecs
import os
from pathlib import Path

import pytest

from wetread.errors import SourceError
from wetread.runtime.sources import name_list as name_lists
from wetread.runtime.sources.name_list import NameList, read_name_list


def read(path: Path, data: bytes) -> list[str]:
    path.write_bytes(data)
    return list(read_name_list(os.fspath(path)))


def test_a_list_is_streamed_and_a_name_that_is_not_there_is_an_input(tmp_path):
    listing = tmp_path / "list.txt"
    listing.write_bytes(b"b/2.jpg\r\n\nmissing\xff.jpg\n")
    found = list(NameList(read_name_list(os.fspath(listing))).entries())
    assert [entry.name for entry in found] == ["b/2.jpg", "missing\udcff.jpg"]
    with pytest.raises(SourceError, match="The list .* cannot be read"):
        list(read_name_list(os.fspath(tmp_path / "no-list")))


def test_the_mark_that_windows_editors_set_is_no_part_of_the_first_name(tmp_path):
    names = ["a.jpg", "中.jpg"]
    assert read(tmp_path / "list", codecs.BOM_UTF8 + "a.jpg\r\n中.jpg\r\n".encode()) == names
    assert read(tmp_path / "list", codecs.BOM_UTF8) == []
    for encoding in ("utf-16-le", "utf-16-be"):
        with pytest.raises(SourceError, match="not UTF-8 at line 1: UTF-16. Save the list as UTF-8"):
            read(tmp_path / "list", "\ufeffa.jpg\n".encode(encoding))


def test_a_name_that_windows_cannot_decode_is_an_error_that_says_where(tmp_path, monkeypatch):
    monkeypatch.setattr(name_lists.os, "fsdecode", lambda data: data.decode("utf-8", "surrogatepass"))
    with pytest.raises(SourceError, match="at line 2: .*0xfc.*UTF-8"):
        read(tmp_path / "list", b"a.jpg\nM\xfcller.jpg\n")
