from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wetread.errors import EmptySourceWarning, ImageError, SourceError, UsageError
from wetread.runtime.entries import Entry
from wetread.runtime.files.globs import compile_glob
from wetread.runtime.files.reading import read_local
from wetread.runtime.sources.opening import open_source, open_sources


def names(source) -> list[str]:
    return [entry.name for entry in source.entries()]


def write(folder: Path, *paths: str) -> None:
    for path in paths:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.encode())


def test_order_is_byte_order_of_whole_names(tmp_path):
    write(tmp_path, "a/z.jpg", "a.jpg", "a-b/c.jpg", "B.jpg", "a0.jpg", "é.jpg", "中.jpg")
    root = f"{tmp_path}/"
    expected = ["B.jpg", "a-b/c.jpg", "a.jpg", "a/z.jpg", "a0.jpg", "é.jpg", "中.jpg"]
    assert names(open_source(tmp_path)) == [root + name for name in expected]
    assert expected == sorted(expected, key=str.encode)


@settings(max_examples=30)
@given(st.sets(st.text(st.sampled_from("aZ0-. é"), min_size=1, max_size=4), min_size=1, max_size=8))
def test_order_with_folders_of_any_name(tmp_path_factory, parts):
    folder = tmp_path_factory.mktemp("tree")
    good = [part for part in parts if not part.startswith(".")]
    for part in good:
        write(folder, f"{part}/x.jpg")
        if not (folder / f"{part}1").exists():
            write(folder, f"{part}1") if f"{part}1" not in good else None
    listed = [name.removeprefix(f"{folder}/") for name in names(open_source(folder))]
    found = [str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()]
    assert listed == sorted(found, key=str.encode)


def test_names_are_as_find_prints_them(tmp_path, monkeypatch):
    write(tmp_path, "data/x.jpg")
    monkeypatch.chdir(tmp_path)
    assert names(open_source("data")) == ["data/x.jpg"]
    assert names(open_source("data/")) == ["data/x.jpg"]
    assert names(open_source(".")) == ["./data/x.jpg"]
    assert names(open_source("./data/x.jpg")) == ["./data/x.jpg"]
    assert names(open_source("data/*.jpg")) == ["data/x.jpg"]
    assert names(open_source("**/*.jpg")) == ["data/x.jpg"]


def test_what_is_an_input(tmp_path):
    write(tmp_path, "a.jpg", "notes.txt", ".hidden.jpg", ".git/b.jpg", "Thumbs.db", "sub/desktop.ini")
    write(tmp_path, "s.csv", "s.csv.run.json", "t.jsonl.part", "t.jsonl.part.state", "users.csv")
    root = f"{tmp_path}/"
    assert names(open_source(tmp_path)) == [root + n for n in ("a.jpg", "notes.txt", "users.csv")]


def test_include_narrows(tmp_path):
    write(tmp_path, "a.jpg", "b.png", "sub/c.jpg", "sub/deep/d.jpg")
    root = f"{tmp_path}/"
    assert names(open_source(tmp_path, include="*.jpg")) == [
        root + n for n in ("a.jpg", "sub/c.jpg", "sub/deep/d.jpg")
    ]
    assert names(open_source(tmp_path, include="sub/*.jpg")) == [root + "sub/c.jpg"]
    assert names(open_source(tmp_path, include="sub/**/*.jpg")) == [
        root + "sub/c.jpg",
        root + "sub/deep/d.jpg",
    ]


def test_include_narrows_files_as_well(tmp_path):
    """A shell that expands D/* gives files, not a folder."""
    write(tmp_path, "a1.jpg", "a2.jpg")
    both = open_sources([tmp_path / "a1.jpg", tmp_path / "a2.jpg"], include="*2.jpg")
    with pytest.warns(
        EmptySourceWarning, match=r"no name in .*a1.jpg' matches '\*2.jpg'; 1 file is there: .jpg 1"
    ):
        assert names(both) == [f"{tmp_path}/a2.jpg"]
    quiet = open_sources([tmp_path / "a1.jpg", tmp_path / "a2.jpg"], include="*2.jpg", allow_empty=True)
    assert names(quiet) == [f"{tmp_path}/a2.jpg"]


def test_include_with_a_folder_cannot_narrow_a_file(tmp_path):
    write(tmp_path, "a/1.jpg")
    with pytest.raises(UsageError, match="--include 'a/.*jpg' cannot match a SOURCE that is a file"):
        open_source(tmp_path / "a" / "1.jpg", include="a/*.jpg")


def test_what_a_run_is_replacing_is_no_input_of_it(tmp_path):
    """Or it would be one while its parts are there, and none when its record is."""
    write(tmp_path, "s.csv", "s.csv.part", "s.csv.part.state", "a.jpg")
    assert names(open_source(tmp_path)) == [f"{tmp_path}/a.jpg"]


@settings(max_examples=60)
@given(
    st.sets(st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map("/".join), min_size=1, max_size=8),
    st.lists(st.sampled_from(["a", "*", "?", "[ab]", "**", "b**"]), min_size=1, max_size=4),
)
def test_a_glob_lists_what_it_matches_and_looks_nowhere_else(tmp_path_factory, paths, parts):
    folder = tmp_path_factory.mktemp("tree")
    write(folder, *(f"{path}.d/f" for path in paths), *(f"{path}.d/g/h" for path in paths))
    pattern = "/".join([*(part.replace("a", "a.d") for part in parts), "[fgh]"])
    source = open_source(f"{folder}/*/{pattern}")
    whole = compile_glob(f"*/{pattern}", whole=True)
    everything = [name.removeprefix(f"{folder}/") for name in names(open_source(folder))]
    expected = [name for name in everything if whole.fullmatch(name)]
    assert [name.removeprefix(f"{folder}/") for name in names(source)] == expected


def test_folders_in_which_a_glob_cannot_match_are_not_listed(tmp_path, monkeypatch):
    write(tmp_path, "a.jpg", "lost+found/b.jpg", "x/1/c.jpg", "y/1/d.jpg", "x/2/deep/e.jpg")
    listed: list[str] = []
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda place: listed.append(place) or scan(place))
    looked_in = {
        "*.jpg": [""],
        "x/*/c.jpg": ["x/", "x/1/", "x/2/"],
        "?/1/*": ["", "x/", "x/1/", "y/", "y/1/"],
    }
    for pattern, folders in looked_in.items():
        listed.clear()
        names(open_source(f"{tmp_path}/{pattern}"))
        assert listed == [f"{tmp_path}/{one}" for one in folders], pattern


def test_outputs_are_told_by_their_names_in_any_case(tmp_path):
    write(tmp_path, "S.CSV", "S.CSV.run.json", "T.Parquet.part", "T.Parquet.part.state", "a.jpg", "Other.CSV")
    assert names(open_source(tmp_path)) == [f"{tmp_path}/Other.CSV", f"{tmp_path}/a.jpg"]


def test_pipes_sockets_and_loops_are_passed_over(tmp_path):
    write(tmp_path, "real/a.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "real" / "loop").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path / "real")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(tmp_path / "socket.jpg"))
        listed = names(open_source(tmp_path))
    root = f"{tmp_path}/"
    # A loop ends where it meets a folder that holds it; a link that leads nowhere is a row that says so.
    assert listed == [root + n for n in ("again/a.jpg", "gone.jpg", "real/a.jpg")]
    with pytest.raises(ImageError, match="No such file"):
        read_local(root + "gone.jpg")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes in folders")
def test_a_pipe_is_no_source(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match="pipe"):
        open_source(tmp_path / "pipe")


def test_missing_sources_are_named(tmp_path):
    with pytest.raises(SourceError, match="nowhere"):
        open_source(tmp_path / "nowhere")
    with pytest.raises(SourceError, match="nowhere"):
        open_source(tmp_path / "nowhere" / "*.jpg")


@pytest.mark.skipif(os.name == "nt", reason="every name on Windows is text")
def test_names_that_are_not_text(tmp_path):
    odd = [b"caf\xe9.jpg", b"a,b.jpg", b'a"b.jpg', b"a\nb.jpg", b"=1+1.jpg"]
    for name in odd:
        (Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))).write_bytes(name)
    source = open_source(tmp_path)
    listed = list(source.entries())
    root = os.fsencode(tmp_path) + b"/"
    assert [os.fsencode(entry.name) for entry in listed] == sorted(root + name for name in odd)
    assert [source.read(entry) for entry in listed] == sorted(odd)


def test_entries_tell_size_and_version(tmp_path):
    write(tmp_path, "a.jpg")
    os.utime(tmp_path / "a.jpg", ns=(5, 7))
    assert list(open_source(tmp_path).entries()) == [Entry(f"{tmp_path}/a.jpg", 5, "7")]


def test_several_sources(tmp_path):
    write(tmp_path, "a/1.jpg", "b/2.jpg")
    both = open_sources([tmp_path / "b", tmp_path / "a"])
    assert names(both) == [f"{tmp_path}/b/2.jpg", f"{tmp_path}/a/1.jpg"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind root or Windows")
def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path):
    write(tmp_path, "a.jpg", "closed/b.jpg")
    (tmp_path / "closed").chmod(0)
    with pytest.raises(SourceError, match="closed"):
        names(open_source(tmp_path))


def test_a_folder_is_no_output_by_what_stands_beside_it(tmp_path):
    """Its images would go missing without a row. One of parts is what a run to a bucket left there."""
    write(
        tmp_path,
        "scores.csv/a.jpg",
        "scores.csv.run.json",
        "b.csv.part/c.jpg",
        "d.csv",
        "d.csv.run.json/e.jpg",
    )
    found = [name.removeprefix(f"{tmp_path}/") for name in names(open_source(tmp_path))]
    assert found == ["d.csv", "d.csv.run.json/e.jpg", "scores.csv/a.jpg"]
