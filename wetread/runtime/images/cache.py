"""Cache a folder's images as one memory-mapped array at the model's size.

Training, calibration and evaluation read the same files again and again. This reads each file once, through
`images.pixels`, into `pixels.npy`, and finds it again while the listing (names, sizes, versions) and the
recipe are the same. A part of the images, for calibration or evaluation, is found too. Only a few chunks are
in memory, however large the data set is. A file without pixels is an entry in `failures`, not an error.

A cache contains patients' pixels: it is written only where the caller says, readable only by its user.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ImageError, OutputError, Status
from wetread.runtime.entries import Entry, Reading
from wetread.runtime.files.atomic import name_folder
from wetread.runtime.images.pixels import read_input
from wetread.runtime.images.recipe import PixelRecipe
from wetread.runtime.threads import count_processors, map_in_order

_LAYOUT = 4  # version of the file layout; a new version invalidates all caches
_PIXELS, _DIGESTS, _FAILURES, _ENTRIES = "pixels.npy", "digests.npy", "failures.json", "entries.npy"
_MARK = 20
_CHUNK = 64
_CHUNKS_AHEAD = 4


@dataclass(frozen=True)
class Failure:
    """One file without pixels: its status and what is wrong with it."""

    status: str
    message: str


@dataclass(frozen=True)
class ImageCache:
    """Images in listing order.

    `pixels`: uint8 (N, height, width, channels), memory-mapped, read-only; zeros for indices in `failures`.
    `digests`: SHA-256 of each file's bytes, 64 hex characters; empty if they could not be read.
    """

    pixels: NDArray[np.uint8]
    digests: tuple[str, ...]
    failures: dict[int, Failure]


@dataclass(frozen=True)
class KeptImages:
    """Images of a listing that are in a cache; `rows` maps names to rows of the array."""

    cache: ImageCache
    rows: dict[str, int]

    def read(self, entry: Entry) -> NDArray[np.uint8]:
        """Return an image, uint8 (height, width, channels). Raises ImageError as reading its file would."""
        row = self.rows[entry.name]
        failure = self.cache.failures.get(row)
        if failure is not None:
            raise ImageError(Status(failure.status), failure.message)
        pixels: NDArray[np.uint8] = self.cache.pixels[row]
        return pixels

    def find_digest(self, entry: Entry) -> str:
        """Return the SHA-256 of the file's bytes, in hexadecimal."""
        return self.cache.digests[self.rows[entry.name]]


def list_caches(run: str | os.PathLike[str] | None = None) -> tuple[Path, ...]:
    """List the folders that may contain caches: $WETREAD_CACHE, and those of a RUN directory."""
    found = [os.environ.get("WETREAD_CACHE")]
    if run is not None:
        with suppress(OSError, ValueError, AttributeError):  # code that needs the configuration reports it
            found.append(json.loads((Path(run) / "config.json").read_text(encoding="utf-8")).get("cache"))
        found.append(os.path.join(run, "cache"))
    return tuple(Path(folder) for folder in found if folder)


def find_images(
    entries: Sequence[Entry], recipe: PixelRecipe, *, folders: Sequence[Path], root: str = ""
) -> KeptImages | None:
    """Find the images of a listing, or of a part of one, in a cache; None if they must be read.

    All images or none: they come from one cache in one of the `folders`, with the same names below `root`,
    sizes, versions and recipe. An image that was unreadable when cached is not found.
    """
    wanted = [_mark_entry(entry, root) for entry in entries]
    for place in _list_places(folders, recipe):
        marks = {mark.tobytes(): row for row, mark in enumerate(np.load(place / _ENTRIES))}
        rows = {entry.name: marks.get(mark, -1) for entry, mark in zip(entries, wanted, strict=True)}
        cache = _open_cache(place) if -1 not in rows.values() else None
        if cache is not None and not any(
            cache.failures[row].status == Status.UNREADABLE for row in cache.failures.keys() & rows.values()
        ):
            return KeptImages(cache, rows)
    return None


def _list_places(folders: Sequence[Path], recipe: PixelRecipe) -> Iterator[Path]:
    """List the caches of a recipe in these folders."""
    for folder in folders:
        yield from sorted(folder.glob(f"{_name_recipe(recipe)}-*"))


def cache_images(
    entries: Sequence[Entry],
    recipe: PixelRecipe,
    *,
    source: Reading,
    folder: str | os.PathLike[str],
    root: str = "",
    on_progress: Callable[[int, int], None] | None = None,
) -> ImageCache:
    """Read the images of a listing, from the cache in `folder` if it has them.

    `source` reads the entries. `root`: the part of the names that is not in the key, so that a listing is
    found again under another spelling of its folder. `on_progress` is called with (images done, all images).
    A cache in which a file was unreadable is made again, because it may be readable now. Raises OutputError
    if the cache cannot be written.
    """
    place = Path(folder) / _find_key(entries, recipe, root)
    found = _open_cache(place)
    if found is not None and all(failure.status != Status.UNREADABLE for failure in found.failures.values()):
        return found
    try:
        _make_cache(place, entries, recipe, source=source, root=root, on_progress=on_progress)
    except OSError as error:
        raise OutputError(
            f"The cache of {len(entries):,} images of {recipe.shape} cannot be written to "
            f"{os.fspath(folder)!r}: {error.strerror or error}. Make room there, or choose another folder."
        ) from error
    made = _open_cache(place)
    if made is None:
        raise OutputError(f"The cache that was just written to {os.fspath(place)!r} cannot be read again.")
    return made


def _find_key(entries: Sequence[Entry], recipe: PixelRecipe, root: str) -> str:
    """Return a cache's key: a digest of everything that its content depends on."""
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(_mark_entry(entry, root))
    return f"{_name_recipe(recipe)}-{digest.hexdigest()[:24]}"


def _name_recipe(recipe: PixelRecipe) -> str:
    text = json.dumps([_LAYOUT, recipe.to_dict()], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _mark_entry(entry: Entry, root: str) -> bytes:
    """Return twenty bytes that identify a file as listed: its name below the root, size and version."""
    return hashlib.sha256(entry.identify(root)).digest()[:_MARK]


def _open_cache(place: Path) -> ImageCache | None:
    if not place.is_dir():
        return None
    listed = json.loads((place / _FAILURES).read_text(encoding="utf-8"))
    pixels = np.load(place / _PIXELS, mmap_mode="r")
    digests = tuple(raw.tobytes().hex() if raw.any() else "" for raw in np.load(place / _DIGESTS))
    return ImageCache(pixels, digests, {index: Failure(*why) for index, *why in listed})


def _make_cache(
    place: Path,
    entries: Sequence[Entry],
    recipe: PixelRecipe,
    *,
    source: Reading,
    root: str,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    """Fill a folder with a temporary name (mode 700), then rename it: no one can read half a cache."""
    place.parent.mkdir(parents=True, exist_ok=True)
    passing = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    try:
        _fill(passing, entries, recipe, source, on_progress)
        marks = b"".join(_mark_entry(entry, root) for entry in entries)
        np.save(passing / _ENTRIES, np.frombuffer(marks, np.uint8).reshape(-1, _MARK))
        name_folder(passing, place)
    finally:
        shutil.rmtree(passing, ignore_errors=True)


def _fill(
    folder: Path,
    entries: Sequence[Entry],
    recipe: PixelRecipe,
    source: Reading,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    digests = np.zeros((len(entries), 32), np.uint8)
    failures: dict[int, Failure] = {}

    with (folder / _PIXELS).open("wb") as file:
        pixels = _PixelFile(file, len(entries), recipe.shape)

        def work(chunk: list[tuple[int, Entry]]) -> int:
            for index, entry in chunk:
                try:
                    data = source.read(entry)
                    digests[index] = np.frombuffer(hashlib.sha256(data).digest(), np.uint8)
                    pixels.write(index, read_input(data, recipe))
                except ImageError as error:
                    failures[index] = Failure(error.status, str(error))
            return len(chunk)

        done, workers = 0, count_processors()
        chunks = _cut_chunks(source.read_ahead(iter(entries)))
        ahead = workers * _CHUNKS_AHEAD
        for count in map_in_order(work, chunks, threads=workers, ahead=ahead, name="wetread-cache"):
            done += count
            if on_progress is not None:
                on_progress(done, len(entries))
        pixels.finish()
    np.save(folder / _DIGESTS, digests)
    listed = [[index, failures[index].status, failures[index].message] for index in sorted(failures)]
    (folder / _FAILURES).write_text(json.dumps(listed), encoding="utf-8")


class _PixelFile:
    """`pixels.npy` while it is written, in any order, by several threads.

    It is a plain file, not mapped memory: on a full disk a write raises OSError where a mapped page would
    kill the process, and on Windows a mapped file could not be removed after a fault.
    """

    def __init__(self, file: BinaryIO, count: int, shape: tuple[int, int, int]) -> None:
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
        np.lib.format.write_array_header_1_0(file, header)
        self._file, self._start, self._size = file, file.tell(), math.prod(shape)
        self._end = self._start + count * self._size
        self._lock = Lock()

    def write(self, index: int, image: NDArray[np.uint8]) -> None:
        """Write an image, uint8 (H, W, C), to its place."""
        data = image.tobytes()
        with self._lock:
            self._file.seek(self._start + index * self._size)
            self._file.write(data)

    def finish(self) -> None:
        """Make the file whole: images that could not be read are zeros, the last one too."""
        self._file.truncate(self._end)


def _cut_chunks(entries: Iterator[Entry]) -> Iterator[list[tuple[int, Entry]]]:
    numbered = enumerate(entries)
    while chunk := list(islice(numbered, _CHUNK)):
        yield chunk
