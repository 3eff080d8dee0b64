from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from wetread.errors import ImageError, OutputError
from wetread.runtime.entries import Entry
from wetread.runtime.images.cache import Failure, cache_images, find_images, list_caches
from wetread.runtime.images.pixels import read_pixels
from wetread.runtime.images.recipe import PixelRecipe
from wetread.runtime.sources.opening import open_source

RECIPE = PixelRecipe(height=8, width=8)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """150 small images (more than two chunks), one empty file and one cut one among them."""
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(150):
        image = random.integers(0, 256, (10 + number % 7, 12, 3)).astype(np.uint8)
        (folder / f"{number:03}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
    whole = (folder / "070.png").read_bytes()
    (folder / "070.png").write_bytes(whole[:-20])
    (folder / "149.png").write_bytes(b"")
    return folder


class Reads:
    """Counts what is read of a folder, and fails where told."""

    def __init__(self, folder: Path, *, broken: str = "") -> None:
        self.source = open_source(str(folder))
        self.entries = list(self.source.entries())
        self.names: list[str] = []
        self.broken = broken

    def read_ahead(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        return entries

    def read(self, entry: Entry) -> bytes:
        self.names.append(entry.name)
        if self.broken and entry.name.endswith(self.broken):
            raise ImageError("unreadable", "The file cannot be read: no answer.")
        return self.source.read(entry)


def test_rows_are_the_listing_and_failures_are_told(images: Path, tmp_path: Path) -> None:
    reads, seen = Reads(images), []
    cache = cache_images(
        reads.entries,
        RECIPE,
        source=reads,
        folder=tmp_path / "cache",
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert sorted(reads.names) == [entry.name for entry in reads.entries]
    assert seen == [(64, 150), (128, 150), (150, 150)]
    assert cache.pixels.shape == (150, 8, 8, 1)
    assert not cache.pixels.flags.writeable
    assert {row: failure.status for row, failure in cache.failures.items()} == {70: "truncated", 149: "empty"}
    for row, entry in enumerate(reads.entries):
        data = Path(entry.name).read_bytes()
        assert cache.digests[row] == hashlib.sha256(data).hexdigest()
        expected = np.zeros((8, 8, 1)) if row in cache.failures else read_pixels(data, RECIPE)
        assert np.array_equal(cache.pixels[row], expected)


def test_it_is_found_again_under_another_spelling(images: Path, tmp_path: Path, monkeypatch) -> None:
    first = Reads(images)
    cache_images(first.entries, RECIPE, source=first, folder=tmp_path / "cache", root=f"{images}/")
    monkeypatch.chdir(tmp_path)
    again = Reads(Path("images"))
    cache = cache_images(again.entries, RECIPE, source=again, folder="cache", root="images/")
    assert again.names == []
    assert cache.failures[149] == Failure("empty", "The file is empty: it has 0 bytes.")


def test_it_is_made_again_when_files_or_recipe_change(images: Path, tmp_path: Path) -> None:
    def read_again(recipe: PixelRecipe = RECIPE) -> int:
        reads = Reads(images)
        cache_images(reads.entries, recipe, source=reads, folder=tmp_path / "cache")
        return len(reads.names)

    assert [read_again(), read_again()] == [150, 0]
    os.utime(images / "003.png", ns=(1, 1))
    assert [read_again(), read_again()] == [150, 0]
    (images / "004.png").unlink()
    assert [read_again(), read_again()] == [149, 0]
    assert read_again(PixelRecipe(height=8, width=8, resize="fit")) == 149
    assert read_again() == 0


def test_an_unreadable_file_is_tried_again(images: Path, tmp_path: Path) -> None:
    reads = Reads(images, broken="005.png")
    cache = cache_images(reads.entries, RECIPE, source=reads, folder=tmp_path / "cache")
    assert cache.failures[5].status == "unreadable"
    assert cache.digests[5] == ""
    reads = Reads(images)
    cache = cache_images(reads.entries, RECIPE, source=reads, folder=tmp_path / "cache")
    assert len(reads.names) == 150
    assert sorted(cache.failures) == [70, 149]


def test_a_broken_setup_leaves_nothing_behind(images: Path, tmp_path: Path) -> None:
    class Unplugged(Reads):
        def read(self, entry: Entry) -> bytes:
            if entry.name.endswith("100.png"):
                raise RuntimeError("the plug was pulled")
            return super().read(entry)

    reads = Unplugged(images)
    with pytest.raises(RuntimeError, match="plug"):
        cache_images(reads.entries, RECIPE, source=reads, folder=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_its_file_is_written_whole_and_never_mapped(images: Path, tmp_path: Path) -> None:
    """Windows keeps a mapped file, and its folder, where filling it ends with an error."""
    names = [images / f"{number:03}.png" for number in range(150)]
    mapped: list[str] = []

    def look(done: int, total: int) -> None:
        if Path("/proc/self/maps").exists():
            mapped.extend(line for line in Path("/proc/self/maps").read_text().splitlines() if ".npy" in line)

    reads = Reads(images)
    cache = cache_images(
        reads.entries, RECIPE, source=reads, folder=tmp_path / "cache", root=str(images), on_progress=look
    )
    assert not mapped
    (written,) = (tmp_path / "cache").glob("*/pixels.npy")
    expected = np.zeros((150, 8, 8, 1), np.uint8)
    for row, name in enumerate(names):
        if row not in cache.failures:
            expected[row] = read_pixels(name.read_bytes(), RECIPE)
    assert 149 in cache.failures  # the last: nothing was written at its place
    np.save(tmp_path / "expected.npy", expected)
    assert written.read_bytes() == (tmp_path / "expected.npy").read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="Windows limits no file's size")
def test_a_disk_that_fills_is_an_output_error(images: Path, tmp_path: Path, monkeypatch) -> None:
    import resource
    import signal

    reads = Reads(images)
    handler, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot be written to .*Make room"):
            cache_images(reads.entries, RECIPE, source=reads, folder=tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list((tmp_path / "cache").iterdir())


def test_it_is_for_its_owner_alone(images: Path, tmp_path: Path) -> None:
    reads = Reads(images)
    cache_images(reads.entries, RECIPE, source=reads, folder=tmp_path / "cache")
    (place,) = (tmp_path / "cache").iterdir()
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert sorted(path.name for path in place.iterdir()) == [
        "digests.npy",
        "entries.npy",
        "failures.json",
        "pixels.npy",
    ]
    assert json.loads((place / "failures.json").read_text())[1][:2] == [149, "empty"]


def test_a_folder_that_cannot_be_written_is_an_output_error(images: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    reads = Reads(images)
    with pytest.raises(OutputError, match="150 images"):
        cache_images(reads.entries, RECIPE, source=reads, folder=tmp_path / "cache")


def test_some_of_the_images_are_found_again(images: Path, tmp_path: Path, monkeypatch) -> None:
    reads, kept = Reads(images), tmp_path / "cache"
    cache_images(reads.entries, RECIPE, source=reads, folder=kept, root=f"{images}/")
    monkeypatch.chdir(tmp_path)
    some = Reads(Path("images")).entries[148:60:-1]
    found = find_images(some, RECIPE, folders=(tmp_path / "none", kept), root="images/")
    assert found is not None
    for entry in some:
        data = Path(entry.name).read_bytes()
        assert found.find_digest(entry) == hashlib.sha256(data).hexdigest()
        if entry.name.endswith("070.png"):
            with pytest.raises(ImageError) as caught:
                found.read(entry)
            assert caught.value.status == "truncated"
        else:
            assert np.array_equal(found.read(entry), read_pixels(data, RECIPE))


def test_all_of_them_or_none_are_found(images: Path, tmp_path: Path) -> None:
    reads = Reads(images, broken="005.png")
    cache_images(reads.entries[:100], RECIPE, source=reads, folder=tmp_path / "cache")

    def find(entries: list[Entry], recipe: PixelRecipe = RECIPE) -> bool:
        return find_images(entries, recipe, folders=(tmp_path / "cache",)) is not None

    assert find(reads.entries[6:100])
    assert not find(reads.entries[6:101])
    assert not find(reads.entries[5:100])  # that was unreadable then
    assert not find(reads.entries[6:100], PixelRecipe(height=8, width=8, resize="fit"))
    assert not find([Entry(reads.entries[6].name)])
    os.utime(images / "050.png", ns=(1, 1))
    assert not find(Reads(images).entries[6:100])


def test_where_a_run_keeps_its_images(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("WETREAD_CACHE", raising=False)
    assert list_caches() == ()
    assert list_caches(tmp_path) == (tmp_path / "cache",)
    (tmp_path / "config.json").write_text('{"cache": "/mine"}')
    monkeypatch.setenv("WETREAD_CACHE", "/shared")
    assert list_caches(tmp_path) == (Path("/shared"), Path("/mine"), tmp_path / "cache")
