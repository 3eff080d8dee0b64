"""Local sources: a file, a folder, or a glob.

An input is every regular file under the source except dot-files and files in dot-folders, `Thumbs.db`,
`desktop.ini` and wetread's own outputs. They are sorted by the bytes of the whole name with `/` after each
directory, like git and Cloud Storage. Listing keeps only one directory's names in memory.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Container, Iterator
from operator import itemgetter
from typing import Any

from wetread.errors import SourceError
from wetread.runtime.entries import Entry, describe_names, is_hidden, is_part, own_outputs
from wetread.runtime.files.globs import (
    Beside,
    compile_glob,
    find_fixed_parts,
    matches,
    refuse_folders,
)
from wetread.runtime.files.long_paths import reach
from wetread.runtime.files.reading import find_entry, read_entry

Folders = tuple[str, ...]
_BEAT_EVERY = 1_000
_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()


class _LocalSource:
    """The base of local sources: how they read."""

    read_file = staticmethod(read_entry)

    def read(self, entry: Entry) -> bytes:
        """Return the bytes of one listed file. Raises ImageError('unreadable')."""
        return read_entry(entry)

    def read_ahead(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """Return entries unchanged: the system reads ahead."""
        return entries

    def describe(self) -> dict[str, Any]:
        """Return an empty dict: there is nothing to report."""
        return {}


class LocalFolder(_LocalSource):
    """A local folder, walked recursively, or one local file."""

    def __init__(self, location: str, *, include: str | None = None) -> None:
        self.location = location
        self._pattern = include
        self._include = compile_glob(include) if include else None
        try:
            mode = os.stat(reach(location)).st_mode
        except OSError as error:
            raise SourceError(f"{location!r} cannot be read: {error.strerror}. Check the name.") from error
        if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            raise SourceError(f"{location!r} is a device, socket or pipe, not a file or folder.")
        self._is_folder = stat.S_ISDIR(mode)
        if not self._is_folder:
            refuse_folders(include)

    def entries(self) -> Iterator[Entry]:
        """List the folder's inputs in order; a file lists itself. Raises SourceError."""
        if not self._is_folder:
            if self._include is None or matches(self._include, os.path.basename(self.location)):
                yield find_entry(self.location)
            return
        root, include = self._root(), self._include
        if include is None:
            yield from walk(root)
        else:
            yield from (entry for entry in walk(root) if matches(include, entry.name[len(root) :]))

    def _root(self) -> str:
        return self.location if self.location.endswith(("/", os.sep)) else self.location + "/"

    def explain_empty(self) -> str:
        """Describe what the folder contains. Raises SourceError."""
        names = (entry.name for entry in walk(self._root())) if self._is_folder else [self.location]
        return describe_names(names, place=self.location, pattern=self._pattern)


class LocalGlob(_LocalSource):
    """The local files whose names match a pattern with `*`, `?`, `[...]` and `**`."""

    def __init__(self, pattern: str, *, include: str | None = None) -> None:
        self._words = f"{pattern} with --include {include}" if include else pattern
        self._root, rest = find_fixed_parts(pattern.replace(os.sep, "/"))
        self._pattern = compile_glob(rest, whole=True)
        self._passed_over = Beside(self._root, rest)
        self._include = compile_glob(include) if include else None
        if not os.path.isdir(reach(self._root or ".")):
            raise SourceError(f"There is no folder {self._root!r} to search. Check the name.")

    def entries(self) -> Iterator[Entry]:
        """List the matching files in order. Raises SourceError."""
        for entry in walk(self._root, pruned=self._passed_over):
            name = entry.name[len(self._root) :]
            if self._pattern.fullmatch(name) and (self._include is None or matches(self._include, name)):
                yield entry

    def explain_empty(self) -> str:
        """Describe what the folder that was searched contains. Raises SourceError."""
        names = (entry.name for entry in walk(self._root))
        return describe_names(names, place=self._root or ".", pattern=self._words)


def walk(root: str, *, pruned: Container[str] = ()) -> Iterator[Entry]:
    """List the inputs under `root` ('' or a name that ends in '/'), in order.

    `pruned`: folders to skip, by their whole names, each with a '/' at its end. Links to folders are
    followed, except to a folder that contains the link. A directory that cannot be listed raises SourceError,
    because its images would be missing without a row.
    """
    yield from _walk(root, (), pruned)


def _walk(folder: str, above: tuple[tuple[int, int], ...], pruned: Container[str]) -> Iterator[Entry]:
    try:
        here = os.stat(reach(folder or "."))
    except OSError as error:
        raise explain_listing(folder, error) from error
    key = (here.st_dev, here.st_ino)
    if key in above and here.st_ino:
        return
    for found in _list_sorted(folder, pruned):
        if isinstance(found, Entry):
            yield found
        else:
            yield from _walk(found, (*above, key), pruned)


def list_folder(
    folder: str, pruned: Container[str], beat: Callable[[], None] = lambda: None
) -> tuple[list[Entry], Folders]:
    """List one folder's inputs, and the folders in it, as `walk` names them. Raises SourceError.

    `beat` is called every thousand names: on a slow share that many may take seconds.
    """
    found: list[Entry | str] = []
    for each in _list_sorted(folder, pruned):
        found.append(each)
        if len(found) % _BEAT_EVERY == 0:
            beat()
    files = [each for each in found if isinstance(each, Entry)]
    return files, tuple(each for each in found if not isinstance(each, Entry))


def _list_sorted(folder: str, pruned: Container[str]) -> Iterator[Entry | str]:
    """List one folder's inputs, and the names of its folders, in order."""
    try:
        with os.scandir(reach(folder or ".")) as listing:
            found = [(_sort_key(item), item) for item in listing]
    except OSError as error:
        raise explain_listing(folder, error) from error
    own = own_outputs(item.name for name, item in found if not name.endswith(b"/"))
    found.sort(key=itemgetter(0))
    for name, item in found:
        if is_hidden(item.name):
            continue
        if name.endswith(b"/"):
            if not is_part(item.name) and folder + item.name + "/" not in pruned:
                yield folder + item.name + "/"
        elif item.name not in own and (entry := _file_entry(folder + item.name, item)):
            yield entry


def explain_listing(folder: str, error: OSError) -> SourceError:
    """Make the error of a folder that cannot be listed."""
    return SourceError(
        f"The folder {folder or '.'!r} cannot be listed: {error.strerror}. "
        "Give read permission, or leave it out of the source."
    )


def _sort_key(item: os.DirEntry[str]) -> bytes:
    """The bytes of a name, with a slash after a folder's."""
    name = item.name.encode(_ENCODING, _ERRORS)  # as os.fsencode does
    try:
        return name + b"/" if item.is_dir() else name
    except OSError:
        return name


def _file_entry(name: str, item: os.DirEntry[str]) -> Entry | None:
    """Return the entry of a regular file; None for one that must not be opened (pipe, socket, device)."""
    try:
        status = item.stat()
    except OSError:
        return Entry(name)  # a dangling link, or deleted meanwhile: its row will say so
    if not stat.S_ISREG(status.st_mode):
        return None
    return Entry(name, status.st_size, str(status.st_mtime_ns))
