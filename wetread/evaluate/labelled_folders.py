"""List labelled folders and check their layout before anything is read.

DATA is DATA/<label>/* or DATA/{train,val,test}/<label>/*; labels are sorted by name. Training never reads
`test`; evaluating reads the split that it is told to.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from wetread.errors import DatasetError
from wetread.evaluate.reviews import read_reviews
from wetread.runtime.entries import Entry, Source
from wetread.runtime.sources.moved_images import find_prefix, split_name
from wetread.runtime.sources.opening import open_source

_PARTS = ("train", "val", "test")
_MISNAMED = ("validation", "valid", "validate", "dev")  # other names for val
_NOT_LABELS = "__MACOSX"  # a folder that macOS adds to zip files


@dataclass(frozen=True)
class Image:
    """One listed image: its entry, its name below DATA, its label, and 'train', 'val', 'test' or ''."""

    entry: Entry
    name: str
    label: str
    part: str


@dataclass(frozen=True)
class Listing:
    """The images of a folder, listed but not read.

    `root`: the part of the names above DATA. `caches`: folders that may hold the pixels of its images.
    """

    source: Source
    root: str
    labels: tuple[str, ...]
    images: tuple[Image, ...]
    strays: tuple[str, ...]
    caches: tuple[Path, ...] = ()


def list_data(data: str, labels: str | None) -> Listing:
    """List DATA to train on, with the labels of its folders or of a file. Raises as those two do."""
    return list_images(data) if labels is None else list_labelled(data, labels)


def list_images(data: str) -> Listing:
    """List DATA to train on, without `test`. Raises DatasetError and SourceError."""
    listing = _list_data(data, has_parts=_has_parts)
    images = tuple(image for image in listing.images if image.part != "test")
    strays = tuple(name for name in listing.strays if not name.startswith("test/"))
    labels = tuple(sorted({image.label for image in images}))
    listing = replace(listing, images=images, labels=labels, strays=strays)
    _check_listing(listing, data)
    return listing


def list_labelled(data: str, labels: str) -> Listing:
    """List the images of DATA that a file gives a label (its columns path and label), whatever their folders.

    Images that it does not name are not listed. Raises SourceError, and DatasetError where the file names
    images that are not in DATA, or fewer than two labels.
    """
    wanted = {review.path: review.label for review in read_reviews(labels) if review.verdict.has_label}
    source, root = open_source(data), data if data.endswith("/") else data + "/"
    entries = {split_name(e.name[len(root) :]): e for e in source.entries() if e.name.startswith(root)}
    prefix = find_prefix(list(wanted), entries.__contains__) or ()
    parts = {path: split_name(path)[len(prefix) :] for path in wanted}
    missing = [path for path, below in parts.items() if below not in entries]
    if not wanted:
        raise DatasetError(f"{labels} labels no image. Give a reviews file with labels.")
    if missing:
        raise DatasetError(
            f"{data} lacks {len(missing):,} of the {len(wanted):,} images that {labels} labels"
            f", such as {missing[0]!r}. Name the folder that was scored."
        )
    chosen: dict[tuple[str, ...], str] = {}
    for path, below in parts.items():
        if below in chosen:
            raise DatasetError(f"{labels} has two rows for {'/'.join(below)!r}. Keep only one of them.")
        chosen[below] = wanted[path]
    images = tuple(Image(e, "/".join(p), chosen[p], "") for p, e in entries.items() if p in chosen)
    found = tuple(sorted({image.label for image in images}))
    if len(found) < 2:
        raise DatasetError(f"{labels} has only one label, {found[0]}. Training needs two or more.")
    return Listing(source, root, found, images, ())


def list_judged(data: str, *, labels: tuple[str, ...]) -> Listing:
    """List DATA to evaluate a model with `labels`: all splits, with the labels in the model's order.

    Raises SourceError, and DatasetError for a folder that the model has no label for.
    """
    listing = _list_data(data, has_parts=lambda folders: _holds_parts(folders, labels))
    unknown = {image.label for image in listing.images} - set(labels)
    if unknown:
        raise DatasetError(
            f"The model's labels are {', '.join(labels)}, and {data} has folders with other names: "
            f"{', '.join(sorted(unknown))}. Name the folder that holds the labels, or rename or move these."
        )
    return replace(listing, labels=labels)


def _list_data(data: str, *, has_parts: Callable[[set[str]], bool]) -> Listing:
    source = open_source(data)
    root = data if data.endswith("/") else data + "/"
    entries = [entry for entry in source.entries() if entry.name.startswith(root)]
    paths = [entry.name[len(root) :].replace(os.sep, "/").split("/") for entry in entries]
    in_parts = has_parts({path[0] for path in paths if len(path) > 1})
    images, strays = [], []
    for entry, path in zip(entries, paths, strict=True):
        part = path.pop(0) if in_parts and len(path) > 1 else ""
        name = f"{part}/{'/'.join(path)}" if part else "/".join(path)
        if path[0] == _NOT_LABELS or part == _NOT_LABELS:
            continue
        if len(path) < 2:
            strays.append(name)
        else:
            images.append(Image(entry, name, path[0], part))
    labels = tuple(sorted({image.label for image in images}))
    return Listing(source, root, labels, tuple(images), tuple(strays))


def _holds_parts(folders: set[str], labels: tuple[str, ...]) -> bool:
    """Whether DATA holds only train, val and test, and none of these is a label of the model."""
    folders = folders - {_NOT_LABELS}
    return bool(folders) and folders <= set(_PARTS) and not folders & set(labels)


def _has_parts(folders: set[str]) -> bool:
    """Whether DATA holds train, val and test instead of labels. Raises DatasetError if it holds both."""
    others = folders - {*_PARTS, _NOT_LABELS}
    misnamed = sorted(name for name in others if name.lower() in _MISNAMED)
    if "train" in folders and misnamed and len(misnamed) == len(others):
        raise DatasetError(
            f"{misnamed[0]!r} is beside 'train', but the folder of validation images must be called 'val'. "
            f"Rename {misnamed[0]!r} to 'val'."
        )
    if "train" not in folders or (others and not folders & {"val", "test"}):
        return False
    if others:
        raise DatasetError(
            f"DATA mixes labels and splits: {', '.join(sorted(folders))}. Use DATA/<label>/* or "
            "DATA/{train,val,test}/<label>/*, and move other folders elsewhere."
        )
    return True


def _check_listing(listing: Listing, data: str) -> None:
    if not listing.images:
        raise DatasetError(
            f"{data} has {len(listing.strays):,} files, none of them in a label's folder. Arrange them as "
            "DATA/<label>/* or DATA/{train,val,test}/<label>/*."
        )
    sides = {part: {i.label for i in listing.images if i.part == part} for part in ("train", "val")}
    if sides["val"] and sides["train"] != sides["val"]:
        only = {part: ", ".join(sorted(sides[part] - sides[other])) or "none" for part, other in _BOTH_WAYS}
        raise DatasetError(
            "DATA/train and DATA/val must have the same labels. In one of them only: "
            f"{only['train']} (train), {only['val']} (val)."
        )
    empty = _find_empty_folders(listing)
    if empty:
        raise DatasetError(f"These label folders are empty: {', '.join(empty)}. Fill them or remove them.")
    if len(listing.labels) < 2:
        raise DatasetError(
            f"{data} has only one label, {listing.labels[0]}. Training needs two or more, a folder for each."
        )


_BOTH_WAYS = (("train", "val"), ("val", "train"))


def _find_empty_folders(listing: Listing) -> list[str]:
    """Return label folders without files. Only a local DATA can have them: a bucket has no empty folders."""
    parts = sorted({image.part for image in listing.images})
    empty = []
    for part in parts:
        above = os.path.join(listing.root, part)
        filled = {image.label for image in listing.images if image.part == part} | {*_PARTS, _NOT_LABELS}
        if os.path.isdir(above):
            with os.scandir(above) as found:
                folders = {item.name for item in found if item.is_dir() and not item.name.startswith(".")}
            empty += [os.path.join(part, name) for name in folders - filled]
    return sorted(empty)
