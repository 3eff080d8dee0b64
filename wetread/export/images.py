"""Which images calibrate an export, and which judge it: those of a RUN, or of a folder."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ExportError, ImageError
from wetread.runtime.entries import Entry, is_bucket_location
from wetread.runtime.files.globs import find_fixed_parts, is_wildcard
from wetread.runtime.files.reading import find_entry
from wetread.runtime.images.cache import KeptImages, find_images, list_caches
from wetread.runtime.images.pixels import Pixels, read_input
from wetread.runtime.images.recipe import PixelRecipe
from wetread.runtime.model.spec import ModelSpec
from wetread.runtime.sources.opening import open_source
from wetread.runtime.threads import count_processors

CALIBRATION_IMAGES = 256
VALIDATION_IMAGES = 2000


@dataclass(frozen=True)
class Images:
    """Images at the model's size: names, uint8 (N, height, width, channels), and labels where known.

    `targets`: columns of the labels, intp (N,), -1 where the label is not known.
    """

    names: tuple[str, ...]
    pixels: NDArray[np.uint8]
    targets: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class ExportImages:
    """Images that calibrate, and held-out ones that judge what came of it.

    `training`: more of those that trained the network, where they were asked for and are known.
    """

    calibration: Images
    validation: Images
    training: Images | None = None


@dataclass(frozen=True)
class Chunk:
    """Some files of a listing: names, SHA-256 of their bytes, pixels, and the names without pixels."""

    names: tuple[str, ...]
    digests: tuple[str, ...]
    pixels: NDArray[np.uint8]
    failures: tuple[str, ...]


def read_chunks(
    entries: Iterable[Entry], recipe: PixelRecipe, *, read: Callable[[Entry], bytes], size: int = 256
) -> Iterator[Chunk]:
    """Read and decode files on all processors, some at a time, in order."""

    def decode(entry: Entry) -> tuple[str, Pixels | None]:
        try:
            data = read(entry)
            return hashlib.sha256(data).hexdigest(), read_input(data, recipe)
        except ImageError:
            return "", None

    remaining = iter(entries)
    with ThreadPoolExecutor(count_processors()) as pool:
        while some := list(islice(remaining, size)):
            found = list(zip(some, pool.map(decode, some), strict=True))
            kept = [(entry.name, digest, pixels) for entry, (digest, pixels) in found if pixels is not None]
            yield Chunk(
                names=tuple(name for name, _, _ in kept),
                digests=tuple(digest for _, digest, _ in kept),
                pixels=np.stack([p for _, _, p in kept]) if kept else np.empty((0, *recipe.shape), np.uint8),
                failures=tuple(entry.name for entry, (_, pixels) in found if pixels is None),
            )


def read_images(
    entries: Iterable[Entry],
    recipe: PixelRecipe,
    *,
    read: Callable[[Entry], bytes],
    find_label: Callable[[str], int],
) -> Images:
    """Read and decode files into memory; those without pixels are left out."""
    chunks = list(read_chunks(entries, recipe, read=read))
    names = tuple(name for chunk in chunks for name in chunk.names)
    empty = np.empty((0, *recipe.shape), np.uint8)
    return Images(
        names,
        np.concatenate([empty, *(chunk.pixels for chunk in chunks)]),
        np.array([find_label(name) for name in names], np.intp),
    )


def read_run_images(
    run: Path, spec: ModelSpec, *, calibration: str | os.PathLike[str] | None = None, training: int = 0
) -> ExportImages:
    """The calibration files that a RUN lists, its validation files, and so many of its training files.

    `calibration`: where the data set stands now, if not where it was trained from; or another folder, whose
    images then calibrate and judge. Raises ExportError where the files are not found.
    """
    root = (_read_data_root(run) if calibration is None else os.fspath(calibration)).rstrip("/")
    rows = _read_splits(run)
    held_out = [row["name"] for row in rows if row["split"] == "val"]
    find = _find_entries(root)
    if calibration is not None and not any(find(name).size is not None for name in held_out[:20]):
        return read_folder_images(calibration, spec)
    listed = (run / "calibration" / "files.txt").read_bytes().splitlines()
    labels = {f"{root}/{row['name']}": spec.labels.index(row["label"]) for row in rows}
    source, caches = open_source(root), list_caches(run)

    def find_label(name: str) -> int:
        return labels.get(name, -1)

    def read_names(names: list[str], limit: int) -> Images:
        entries = [find(name) for name in _thin(names, limit)]
        kept = find_images(entries, spec.pixels, folders=caches, root=f"{root}/")
        if kept is not None:
            return _take_kept(entries, kept, find_label=find_label)
        ahead = source.read_ahead(iter(entries))
        return read_images(ahead, spec.pixels, read=source.read, find_label=find_label)

    images = ExportImages(
        read_names([os.fsdecode(line) for line in listed if line], CALIBRATION_IMAGES),
        read_names(held_out, VALIDATION_IMAGES),
        read_names([row["name"] for row in rows if row["split"] == "train"], training) if training else None,
    )
    _need_both(images, root)
    return images


def _take_kept(entries: list[Entry], kept: KeptImages, *, find_label: Callable[[str], int]) -> Images:
    """The images that training kept; those without pixels are left out."""
    names, pixels = [], []
    for entry in entries:
        try:
            pixels.append(kept.read(entry))
            names.append(entry.name)
        except ImageError:
            continue
    empty = np.empty((0, *kept.cache.pixels.shape[1:]), np.uint8)
    return Images(
        tuple(names),
        np.concatenate([empty, *(one[np.newaxis] for one in pixels)]),
        np.array([find_label(name) for name in names], np.intp),
    )


def _find_entries(root: str) -> Callable[[str], Entry]:
    """How a name below a data set's root becomes an entry; in a bucket by one listing, with its checksums."""
    if not is_bucket_location(root):
        return lambda name: find_entry(f"{root}/{name}")
    listed = {entry.name: entry for entry in open_source(root).entries()}
    return lambda name: listed.get(f"{root}/{name}", Entry(f"{root}/{name}"))


def read_folder_images(folder: str | os.PathLike[str], spec: ModelSpec) -> ExportImages:
    """The images of a folder, by the hash of their names: some calibrate, as many or more judge.

    A label is known where one of the folders between that one and the file carries its name. Raises
    ExportError without images.
    """
    source, above = open_source(folder), _find_root(os.fspath(folder))
    entries = sorted(source.entries(), key=lambda entry: _hash(entry.name, os.fspath(folder)))
    count = min(CALIBRATION_IMAGES, len(entries) // 2)
    held_out = entries[count : count + VALIDATION_IMAGES]

    def find_label(name: str) -> int:
        parts = set(PurePosixPath(name.removeprefix(above).replace(os.sep, "/")).parts[:-1])
        found = [index for index, label in enumerate(spec.labels) if label in parts]
        return found[0] if len(found) == 1 else -1

    def read_entries(chosen: list[Entry]) -> Images:
        ahead = source.read_ahead(iter(chosen))
        return read_images(ahead, spec.pixels, read=source.read, find_label=find_label)

    images = ExportImages(read_entries(entries[:count]), read_entries(held_out))
    _need_both(images, os.fspath(folder))
    return images


def _find_root(folder: str) -> str:
    """What the names of a folder's files begin with; of a glob's, the folders before its first wildcard."""
    if os.path.lexists(folder) or not is_wildcard(folder):
        return folder
    return find_fixed_parts(folder.replace(os.sep, "/"))[0]


def _need_both(images: ExportImages, place: str) -> None:
    if not len(images.calibration) or not len(images.validation):
        raise ExportError(
            f"{place} must hold images to calibrate and images to judge with; it has "
            f"{len(images.calibration)} and {len(images.validation)}. Say where they are with --calibration."
        )


def _read_data_root(run: Path) -> str:
    try:
        return str(json.loads((run / "config.json").read_text(encoding="utf-8"))["data"]).rstrip("/")
    except (OSError, ValueError, KeyError) as error:
        raise ExportError(
            f"{run / 'config.json'} does not say where the training images are. Say where "
            "they are with --calibration."
        ) from error


def _read_splits(run: Path) -> list[dict[str, str]]:
    try:
        with (run / "splits.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise ExportError(f"splits.csv of {run} cannot be read: {error.strerror}.") from error


def _thin(names: list[str], limit: int) -> list[str]:
    """At most `limit` of the names, evenly spaced."""
    if len(names) <= limit:
        return names
    return [names[index * len(names) // limit] for index in range(limit)]


def _hash(name: str, folder: str) -> bytes:
    below = os.fsencode(name.removeprefix(folder))
    return hashlib.sha256(below).digest()
