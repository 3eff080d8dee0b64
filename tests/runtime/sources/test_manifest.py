from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import draw_image
from wetread.errors import ImageError, MissingExtraError, OutputError, SourceError, UsageError
from wetread.runtime.entries import Entry
from wetread.runtime.scoring.classifier import Classifier
from wetread.runtime.scoring.run import ScoreOptions, score_to_file
from wetread.runtime.sources.chunks import group_entries
from wetread.runtime.sources.manifest import Manifest, write_manifest
from wetread.runtime.sources.manifest_writing import ManifestOptions, make_manifest
from wetread.runtime.sources.opening import open_source

# Whatever a Linux file name may hold, as Python shows it.
file_names = st.binary(min_size=1, max_size=12).map(
    lambda raw: raw.replace(b"\0", b"x").decode("utf-8", "surrogateescape")
)
entries = st.builds(
    Entry,
    file_names,
    st.none() | st.integers(0, 3_000_000),
    st.sampled_from(["", "1700000000000000001"]),
    st.sampled_from(["", "yZRlqg=="]),
)


def make(*sources: object, output: Path, **options) -> Manifest:
    return make_manifest(ManifestOptions(sources=tuple(map(str, sources)), output=str(output), **options))


def write(listed, path: Path) -> Manifest:
    with path.open("wb") as file:
        write_manifest(listed, file, origin={})
    return Manifest(str(path))


@pytest.fixture
def classifier(toy_model) -> Classifier:
    return Classifier(toy_model, device="cpu")


def test_it_lists_what_the_source_lists(image_folder, tmp_path):
    manifest = make(image_folder, output=tmp_path / "m")
    listed = list(open_source(image_folder).entries())
    assert list(manifest.entries()) == listed
    assert manifest.names == len(listed) == 12
    assert Manifest(str(tmp_path / "m")).digest == manifest.digest
    head, *lines = (json.loads(line) for line in (tmp_path / "m").read_bytes().splitlines())
    assert head["columns"] == ["name", "size", "version", "crc32c"]
    assert head["sources"] == [str(image_folder)]
    assert lines[0] == [listed[0].name, listed[0].size, listed[0].version, ""]
    assert lines[-1]["digest"] == manifest.digest


def test_include_narrows_it(image_folder, tmp_path):
    manifest = make(image_folder, output=tmp_path / "m", include="*.png")
    assert [Path(entry.name).suffix for entry in manifest.entries()] == [".png"] * 2


def test_an_empty_source_has_an_empty_manifest(tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(SourceError, match="Nothing to score"):
        make(tmp_path / "none", output=tmp_path / "m")
    assert not (tmp_path / "m").exists()
    manifest = make(tmp_path / "none", output=tmp_path / "m", allow_empty=True)
    assert (manifest.names, list(manifest.entries())) == (0, [])
    assert manifest.find_cut(0, batch_size=32) == 0


@settings(max_examples=50)
@given(st.lists(entries, max_size=40))
def test_every_name_survives(tmp_path_factory, listed):
    manifest = write(listed, tmp_path_factory.mktemp("m") / "m")
    assert list(manifest.entries()) == listed


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_names_with_line_ends_commas_and_bytes_that_are_no_text(tmp_path, classifier):
    folder = os.fsencode(tmp_path / "images")
    os.mkdir(folder)
    for index, name in enumerate([b"a\nb.jpg", b"c,d.jpg", b"\xff\xfe.jpg", b'"q".jpg', b"r\r.jpg"]):
        Path(os.fsdecode(folder + b"/" + name)).write_bytes(draw_image(index))
    make(tmp_path / "images", output=tmp_path / "m")
    for kind in ("csv", "jsonl", "parquet"):
        direct, listed = (str(tmp_path / f"{name}.{kind}") for name in ("direct", "listed"))
        score_to_file(classifier, ScoreOptions(sources=(str(tmp_path / "images"),), output=direct))
        score_to_file(classifier, ScoreOptions(from_manifest=str(tmp_path / "m"), output=listed))
        assert Path(direct).read_bytes() == Path(listed).read_bytes()


def numbered(count: int, *, size: int = 1000) -> list[Entry]:
    return [Entry(f"gs://b/{index:07d}.jpg", size, "1", "yZRlqg==") for index in range(count)]


def test_a_range_is_read_from_its_own_blocks(tmp_path, monkeypatch):
    listed = numbered(20_000)
    manifest = write(listed, tmp_path / "m")
    read: list[int] = []
    whole = manifest._read_block
    monkeypatch.setattr(manifest, "_read_block", lambda block: read.append(block.first) or whole(block))
    assert list(manifest.list_range(9_000, 9_010)) == listed[9_000:9_010]
    assert list(manifest.list_range(4_000, 4_200)) == listed[4_000:4_200]
    assert read == [8192, 3072, 4096]
    assert list(manifest.list_range(20_000, 20_000)) == []
    assert list(manifest.list_range(19_999, 30_000)) == listed[19_999:]


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from([0, 40_000, 900_000, 5_000_000]), min_size=1, max_size=300),
    st.sampled_from([1, 5, 32, 64]),
    st.integers(1, 20),
)
def test_cuts_are_where_a_run_over_the_whole_begins_chunks(tmp_path_factory, sizes, batch, count):
    listed = [Entry(str(index), size) for index, size in enumerate(sizes)]
    manifest = write(listed, tmp_path_factory.mktemp("m") / "m")
    starts, at = [], 0
    for group in group_entries(listed, batch_size=batch):
        starts.append(at)
        at += len(group)
    starts.append(at)
    targets = [len(listed) * index // count for index in range(count + 1)]
    expected = [min(start for start in starts if start >= target) for target in targets]
    assert [manifest.find_cut(target, batch_size=batch) for target in targets] == expected


def test_cuts_of_many_blocks_read_one_of_them(tmp_path, monkeypatch):
    manifest = write(numbered(20_000), tmp_path / "m")
    read: list[int] = []
    whole = manifest._read_block
    monkeypatch.setattr(manifest, "_read_block", lambda block: read.append(block.first) or whole(block))
    assert manifest.find_cut(13_000, batch_size=32) == 13_024
    assert read == [12_288]
    assert manifest.find_cut(13_000, batch_size=48) == 13_008
    assert read[1:] == [block * 1024 for block in range(13)]


def test_every_byte_is_held_to_the_digest(tmp_path):
    path = tmp_path / "m"
    write(numbered(6), path)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(SourceError, match="manifest"):
            list(Manifest(str(path)).entries())


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data + b"\n",
        lambda data: data + data,
        lambda data: b"",
        lambda data: b"{}\n",
        lambda data: b'{"index":[0,2],"head":2,"digest":"","names":0}\n',
        lambda data: data.replace(b"0000004.jpg", b"0000005.jpg"),
    ],
)
def test_parts_and_other_files_are_no_manifest(tmp_path, damage):
    path = tmp_path / "m"
    write(numbered(40), path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(SourceError, match="is not a manifest"):
        list(Manifest(str(path)).entries())


def test_a_changed_block_is_refused_before_its_names_are_used(tmp_path):
    path = tmp_path / "m"
    write(numbered(10_000), path)
    path.write_bytes(path.read_bytes().replace(b"0005000.jpg", b"0005001.jpg"))
    manifest, seen = Manifest(str(path)), []
    with pytest.raises(SourceError, match="among the names 4,097 to 5,120"):
        seen.extend(entry.name for entry in manifest.entries())
    assert len(seen) == 4096


def test_another_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("wetread.runtime.sources.manifest._VERSION", 2)
    with (tmp_path / "m").open("wb") as file:
        write_manifest([], file, origin={})
    monkeypatch.undo()
    with pytest.raises(SourceError, match="its version is 2, not 1"):
        Manifest(str(tmp_path / "m"))


def test_a_file_that_changed_since_gets_a_status(image_folder, tmp_path, classifier):
    changed, gone = image_folder / "a0" / "image00.jpg", image_folder / "b1" / "image01.png"
    touched = image_folder / "c0" / "image02.bmp"
    make(image_folder, output=tmp_path / "m")
    changed.write_bytes(draw_image(77))
    gone.unlink()
    os.utime(touched, ns=(1, 1))
    output = tmp_path / "out.jsonl"
    tally = score_to_file(classifier, ScoreOptions(from_manifest=str(tmp_path / "m"), output=str(output)))
    rows = {row["path"]: row for row in map(json.loads, output.read_text().splitlines())}
    assert tally.counts == {"ok": 9, "unreadable": 3}
    assert "The file has changed since the manifest listed it" in rows[str(changed)]["error"]
    assert {path for path, row in rows.items() if row["status"] == "unreadable"} == {
        str(changed),
        str(gone),
        str(touched),
    }


def test_a_file_that_came_since_gets_a_status(tmp_path):
    manifest = write([Entry(str(tmp_path / "a.jpg"))], tmp_path / "m")
    (tmp_path / "a.jpg").write_bytes(draw_image(1))
    with pytest.raises(ImageError, match="changed"):
        manifest.read(next(manifest.entries()))


def test_checksums_hold_local_files_to_their_bytes(image_folder, tmp_path):
    manifest = make(image_folder, output=tmp_path / "m", checksum=True)
    first, second = list(manifest.entries())[:2]
    assert len(first.checksum) == 8
    os.utime(first.name, ns=(1, 1))
    assert manifest.read(first) == Path(first.name).read_bytes()
    path, status = Path(second.name), os.stat(second.name)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(ImageError, match="changed") as caught:
        manifest.read(second)
    assert caught.value.status == "unreadable"


def test_checksums_need_the_extra(image_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "google_crc32c", None)
    with pytest.raises(MissingExtraError, match=r"wetread\[gcs\]"):
        make(image_folder, output=tmp_path / "m", checksum=True)
    assert not (tmp_path / "m").exists()


def test_a_manifest_is_not_written_over(image_folder, tmp_path):
    first = make(image_folder, output=tmp_path / "m").digest
    (image_folder / "new.jpg").write_bytes(draw_image(3))
    with pytest.raises(OutputError, match="already exists. Replace it with --overwrite"):
        make(image_folder, output=tmp_path / "m")
    assert Manifest(str(tmp_path / "m")).digest == first
    assert make(image_folder, output=tmp_path / "m", overwrite=True).names == 13
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_source_that_is_not_there_leaves_nothing(tmp_path):
    with pytest.raises(SourceError):
        make(tmp_path / "absent", output=tmp_path / "m")
    with pytest.raises(UsageError, match="SOURCE"):
        ManifestOptions(sources=(), output="m")
    for output in ("gs://b", "gs://b/", "gs://b/folder/"):
        with pytest.raises(UsageError, match="gs://BUCKET/NAME"):
            ManifestOptions(sources=("x",), output=output)
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_has_generations_and_checksums(cloud, image_folder, tmp_path, classifier):
    cloud.buckets.fill("b", str(image_folder), prefix="x/")
    manifest = make("gs://b/x", image_folder, output="gs://b/lists/m")  # type: ignore[arg-type]
    listed = list(manifest.entries())
    assert manifest.names == 24
    assert all(entry.version and entry.checksum for entry in listed[:12])
    cloud.buckets.put("b", "x/a0/image00.jpg", draw_image(77))
    (image_folder / "a0" / "image00.jpg").write_bytes(draw_image(77))
    output = tmp_path / "out.jsonl"
    tally = score_to_file(classifier, ScoreOptions(from_manifest="gs://b/lists/m", output=str(output)))
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert tally.counts == {"ok": 22, "unreadable": 2}
    changed = {row["path"]: row["error"] for row in rows if row["status"] == "unreadable"}
    assert "deleted or replaced since it was listed" in changed["gs://b/x/a0/image00.jpg"]
    assert "changed" in changed[str(image_folder / "a0" / "image00.jpg")]


def test_a_manifest_in_a_bucket_is_not_written_over(cloud, image_folder):
    cloud.buckets.create("b")
    make(image_folder, output="gs://b/m")  # type: ignore[arg-type]
    with pytest.raises(OutputError, match="'gs://b/m' already exists"):
        make(image_folder, output="gs://b/m")  # type: ignore[arg-type]
    (image_folder / "new.jpg").write_bytes(draw_image(3))
    assert make(image_folder, output="gs://b/m", overwrite=True).names == 13  # type: ignore[arg-type]
    stored = cloud.buckets.get("b", "m")
    cloud.buckets.put("b", "m", stored.data.replace(b"image03", b"image04"))
    with pytest.raises(SourceError, match="has changed"):
        list(Manifest("gs://b/m").entries())


MEMORY = """
import sys
from tests.memory import read_peak
from wetread.runtime.sources.manifest import Manifest, write_manifest
from wetread.runtime.entries import Entry
path, count = sys.argv[1], int(sys.argv[2])
def listed(count):
    for index in range(count):
        name = f"gs://bucket/images/{index // 1000:05d}/{index:09d}.jpeg"
        yield Entry(name, 31245, "1700000000000000001", "yZRlqg==")
def make(count):
    with open(path, "wb") as file:
        write_manifest(listed(count), file, origin={})
    manifest = Manifest(path)
    assert sum(1 for _ in manifest.entries()) == manifest.names == count
make(20_000)
before = read_peak()
make(count)
print(read_peak() - before)
"""


def grown_by(count: int, path: Path) -> int:
    """How much more memory a manifest of `count` names takes than one of 20,000, in bytes."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path), str(count)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_memory_is_flat(tmp_path):
    assert grown_by(60_000, tmp_path / "m") < 4 << 20


@pytest.mark.long
def test_memory_is_flat_for_a_million_names(tmp_path):
    assert grown_by(1_000_000, tmp_path / "m") < 4 << 20


def test_writing_needs_no_seeking():
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = b""

        def write(self, data) -> int:
            self.data += bytes(data)
            return len(data)

    pipe = Pipe()
    assert write_manifest(numbered(3), pipe, origin={"sources": ["x"]}) == 3  # type: ignore[arg-type]
    assert len(pipe.data.splitlines()) == 6
