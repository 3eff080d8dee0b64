"""Listing in a bucket is listing a folder: same inputs, same order, page by page."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.runtime.gcs_server import Faults
from wetread.errors import SourceError, UsageError
from wetread.runtime.entries import Entry, require_inputs
from wetread.runtime.gcs import listing as gcs_list
from wetread.runtime.gcs.client import Storage
from wetread.runtime.gcs.reading import BucketReads
from wetread.runtime.sources.name_list import NameList
from wetread.runtime.sources.opening import open_source, open_sources

_NAMES = (
    "a.jpg",
    "b c.jpg",
    ".hidden.jpg",
    "Thumbs.db",
    "desktop.ini",
    "scores.csv",
    "scores.csv.run.json",
    "scores.csv.part",
    "scores.csv.watch",
    "scores.csv.watch.run.json",
    "scores.csv-1",
    "scores.csv.a.csv",
    "scores.csv.a.csv.run.json",
    "scores.jsonl",
    "notes.json",
    "x.run.json",
    "é.png",
    "中文.jpeg",
    "train",
    "train-2",
    "train.d",
)
_PATHS = st.lists(st.sampled_from(_NAMES), min_size=1, max_size=3).map("/".join)


def drop_clashes(names: list[str]) -> list[str]:
    """Leave out what a file system cannot hold: a name that is a file and a folder."""
    folders = {name[:at] for name in names for at in range(len(name)) if name[at] == "/"}
    return sorted(set(names) - folders)


def list_names(location: str, *, include: str | None = None) -> list[str]:
    return [entry.name for entry in open_source(location, include=include).entries()]


@pytest.fixture
def reads(cloud):
    return BucketReads(Storage())


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(_PATHS, max_size=14).map(drop_clashes),
    include=st.sampled_from([None, "*.jpg", "train/**"]),
)
@example(names=["scores.csv", "scores.csv.part"], include=None)
def test_a_bucket_lists_as_its_copy_on_disk(cloud, reads, monkeypatch, names, include):
    monkeypatch.setattr(gcs_list, "_PAGE", 3)
    cloud.buckets.drop("b")
    cloud.buckets.create("b")
    cloud.buckets.put("b", "top/", b"")  # a placeholder, such as consoles make for folders
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "top"
        root.mkdir()
        for name in names:
            cloud.buckets.put("b", f"top/{name}", b"x")
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(b"x")
        for tail, narrowed in (("", include), ("/**/*.jpg", None)):
            listed = gcs_list.BucketFolder(reads, "gs://b/top" + tail, include=narrowed).entries()
            assert [entry.name for entry in listed] == [
                "gs://b/top" + name.removeprefix(str(root))
                for name in list_names(str(root) + tail, include=narrowed)
            ]


@pytest.fixture
def bucket(cloud):
    cloud.buckets.create("b")
    for name in (
        "2024-01/x/a.jpeg",
        "2024-02/b.jpeg",
        "2024-02/b.png",
        "2025/c.jpeg",
        "2024-0",
        "2024-012/d.jpeg",
    ):
        cloud.buckets.put("b", name, name.encode())
    return cloud


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        (
            "gs://b",
            [
                "2024-0",
                "2024-01/x/a.jpeg",
                "2024-012/d.jpeg",
                "2024-02/b.jpeg",
                "2024-02/b.png",
                "2025/c.jpeg",
            ],
        ),
        (
            "gs://b/",
            [
                "2024-0",
                "2024-01/x/a.jpeg",
                "2024-012/d.jpeg",
                "2024-02/b.jpeg",
                "2024-02/b.png",
                "2025/c.jpeg",
            ],
        ),
        ("gs://b/2024-01", ["2024-01/x/a.jpeg"]),
        ("gs://b/2024-01/", ["2024-01/x/a.jpeg"]),
        ("gs://b/2024-0", ["2024-0"]),
        ("gs://b/2024-02/b.png", ["2024-02/b.png"]),
        ("gs://b/2024-*/**/*.jpeg", ["2024-01/x/a.jpeg", "2024-012/d.jpeg", "2024-02/b.jpeg"]),
        ("gs://b/2024-02/b.*", ["2024-02/b.jpeg", "2024-02/b.png"]),
        ("gs://b/*/c.jp[e]g", ["2025/c.jpeg"]),
        ("gs://b/*.nothing", []),
    ],
)
def test_what_a_location_names(bucket, location, expected):
    assert list_names(location) == [f"gs://b/{name}" for name in expected]


def test_a_glob_asks_for_its_literal_start_alone(bucket):
    bucket.keep_log = True
    list_names("gs://b/2024-*/**/*.jpeg")
    assert any("('prefix', '2024-')" in line and "2000" not in line for line in bucket.log[-1:])


def test_entries_carry_size_generation_and_checksum(bucket):
    stored = bucket.buckets.get("b", "2024-02/b.png")
    (entry,) = open_source("gs://b/2024-02/b.png").entries()
    assert entry == Entry("gs://b/2024-02/b.png", 13, str(stored.generation), stored.crc32c)


def test_listing_asks_for_one_page_at_a_time(cloud, monkeypatch):
    monkeypatch.setattr(gcs_list, "_PAGE", 10)
    cloud.buckets.create("b")
    for index in range(35):
        cloud.buckets.put("b", f"{index:02d}.jpg", b"x")
    source = open_source("gs://b")
    cloud.keep_log = True
    entries = source.entries()
    for _ in range(10):
        next(entries)
    assert len(cloud.log) == 1
    assert len(list(entries)) == 25
    assert len(cloud.log) == 4


def test_pages_that_fail_are_asked_for_again(cloud, monkeypatch):
    monkeypatch.setattr(gcs_list, "_PAGE", 5)
    cloud.buckets.create("b")
    for index in range(60):
        cloud.buckets.put("b", f"{index:02d}.jpg", b"x")
    cloud.faults = Faults(throttle=3)
    assert list_names("gs://b") == [f"gs://b/{index:02d}.jpg" for index in range(60)]
    assert cloud.counts["throttled"] >= 4


@pytest.mark.parametrize("location", ["gs://b/nothing", "gs://b/nothing/", "gs://b/2024-01/x/a"])
def test_nothing_there_is_an_error(bucket, location):
    with pytest.raises(SourceError, match=f"'{location}' holds nothing"):
        open_source(location)


def test_an_empty_bucket_is_an_empty_folder(cloud):
    cloud.buckets.create("b")
    assert list_names("gs://b") == []


def test_a_name_that_is_an_object_and_a_folder_says_so(cloud):
    cloud.buckets.create("b")
    for name in ("D", "D/1.jpg", "D/2.jpg"):
        cloud.buckets.put("b", name, b"x")
    with pytest.raises(SourceError, match="is both an object and a folder. Give 'gs://b/D/'"):
        open_source("gs://b/D")
    assert [entry.name for entry in open_source("gs://b/D/").entries()] == [
        "gs://b/D/1.jpg",
        "gs://b/D/2.jpg",
    ]


def test_a_glob_narrows_an_object_by_its_own_name_alone(cloud):
    cloud.buckets.create("b")
    cloud.buckets.put("b", "D/1.jpg", b"x")
    found = [list(open_source("gs://b/D/1.jpg", include=glob).entries()) for glob in ("*1.jpg", "*2.jpg")]
    assert [[entry.name for entry in entries] for entries in found] == [["gs://b/D/1.jpg"], []]
    with pytest.raises(UsageError, match="--include 'D/.' cannot match a SOURCE that is a file"):
        open_source("gs://b/D/1.jpg", include="D/*")


def test_several_sources_follow_one_another(bucket, tmp_path):
    (tmp_path / "local.jpg").write_bytes(b"local")
    source = open_sources(["gs://b/2025", tmp_path, "gs://b/2024-01"])
    entries = list(source.read_ahead(source.entries()))
    assert [entry.name for entry in entries] == [
        "gs://b/2025/c.jpeg",
        f"{tmp_path}/local.jpg",
        "gs://b/2024-01/x/a.jpeg",
    ]
    assert [source.read(entry) for entry in entries] == [b"2025/c.jpeg", b"local", b"2024-01/x/a.jpeg"]


def test_a_list_of_uris_and_names(bucket, tmp_path):
    local = tmp_path / "local.jpg"
    local.write_bytes(b"local")
    names = [
        str(local),
        "gs://b/2025/c.jpeg",
        "gs://b/absent",
        "gs://",
        "gs://b",
        str(local),
        "gs://nowhere/x",
    ]
    source = NameList([*names, "gs://b/2025/c.jpeg"])
    entries = list(source.entries())
    assert [entry.name for entry in entries] == [*names, "gs://b/2025/c.jpeg"]
    stored = bucket.buckets.get("b", "2025/c.jpeg")
    assert entries[1] == Entry("gs://b/2025/c.jpeg", 11, str(stored.generation), stored.crc32c)
    assert [entry.version == "" for entry in entries] == [False, False, True, True, True, False, True, False]


def test_a_long_list_keeps_its_order(cloud):
    cloud.buckets.create("b")
    names = [f"{index % 7}/{index:03d}.jpg" for index in range(300)]
    for name in names:
        cloud.buckets.put("b", name, name.encode())
    source = NameList(f"gs://b/{name}" for name in names)
    entries = list(source.read_ahead(source.entries()))
    assert [source.read(entry) for entry in entries] == [name.encode() for name in names]


def test_a_prefix_that_lists_nothing_says_what_is_there(cloud):
    cloud.buckets.create("b")
    for name in ("x/a.png", "x/b.txt"):
        cloud.buckets.put("b", name, b"")

    def explain(location: str, include: str | None = None) -> str:
        source = open_sources([location], include=include)
        with pytest.raises(SourceError) as caught:
            list(require_inputs(source.entries(), source, allow_empty=False))
        return str(caught.value)

    assert "no name in 'gs://b/x/' matches '*.dcm'; 2 files are there: .png 1, .txt 1" in explain(
        "gs://b/x", "*.dcm"
    )
    assert "no name in 'gs://b/x/' matches 'gs://b/x/*.dcm'; 2 files are there" in explain("gs://b/x/*.dcm")
    assert "no name in 'gs://b/x/a.png' matches 'b*'; 1 file is there" in explain("gs://b/x/a.png", "b*")
    for nothing in ("gs://b/none", "gs://b/none/"):
        with pytest.raises(SourceError, match="holds nothing"):
            open_sources([nothing])
        source = open_sources([nothing], allow_empty=True)
        assert list(require_inputs(source.entries(), source, allow_empty=True)) == []
