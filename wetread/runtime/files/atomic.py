"""Write files atomically: a file gets its name when it is complete, an output together with its record.

    with replace_file("model.onnx") as staged:   # .model.tmp.onnx, synced and renamed at the end
        staged.write_bytes(data)

Nothing else in wetread renames or links a file. Rows and record are two files, which no system can rename at
once: `publish` makes sure that the record of one run is never beside the rows of another.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wetread.errors import ShareWarning
from wetread.runtime.entries import RECORD_SUFFIX
from wetread.runtime.files.permissions import make_opener

# Errors of file systems that cannot sync files or folders.
_WITHOUT_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF})
# On Windows a virus scanner or an indexer opens a new file for a moment, and nobody may rename it meanwhile.
_IS_WINDOWS = os.name == "nt"
_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)


def do_patiently(act: Callable[[], object]) -> None:
    """Rename or remove a file; on Windows again for some six seconds while another program has it open.

    Raises OSError: PermissionError where it is still open then, in a spreadsheet for example.
    """
    for pause in _PAUSES if _IS_WINDOWS else ():
        try:
            act()
            return
        except PermissionError:
            time.sleep(pause)
    act()


@contextmanager
def replace_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a hidden name beside `path`, with its suffix; the file written there is renamed to `path`.

    It is synced to the disk before. If the block fails, nothing of it remains. If `path` is a link, the link
    stays and the file that it points to is replaced. A device or a pipe is written directly. Raises OSError.
    """
    place = Path(path)
    if (
        place.exists() and not place.is_file()
    ):  # checked before links are followed: /dev/stdout resolves to no name
        yield place
        return
    place = Path(os.path.realpath(path)) if place.is_symlink() else place
    with _staged(_stage(place)) as staged:
        yield staged
        _sync_path(staged)
        do_patiently(lambda: os.replace(staged, place))
        sync_folder(str(place))


def write_file(path: str | os.PathLike[str], *parts: bytes | memoryview, mode: int | None = None) -> None:
    """Write `parts`, one after another, as one file, atomically. Raises OSError.

    It gets the permissions `mode`, or those of the umask.
    """
    opener = None if mode is None else make_opener(mode)
    with replace_file(path) as staged, open(staged, "wb", opener=opener) as file:
        for part in parts:
            file.write(part)


def copy_file(source: Path, path: str, *, overwrite: bool) -> bool:
    """Copy a file atomically to a name that other machines may write too; return whether it was written.

    Without `overwrite`, an existing file is kept and nothing is written. Raises OSError.
    """
    with _staged(_stage(Path(path), uuid.uuid4().hex)) as staged:
        shutil.copyfile(source, staged)
        _sync_path(staged)
        if overwrite:
            do_patiently(lambda: os.replace(staged, path))
        elif not _link(staged, path):
            return False
        sync_folder(path)
        return True


def _link(staged: Path, path: str) -> bool:
    """Give a file its name, unless that exists."""
    try:
        os.link(staged, path)
    except FileExistsError:
        return False
    except OSError:
        # Some file systems have no links. There, a check comes before the rename; a machine that writes in
        # between writes the same rows.
        if os.path.lexists(path):
            return False
        do_patiently(lambda: os.rename(staged, path))
    return True


def name_folder(whole: Path, place: Path) -> None:
    """Rename a folder that was made beside `place`; if another process was faster, keep that one's folder."""
    shutil.rmtree(place, ignore_errors=True)
    try:
        do_patiently(lambda: os.rename(whole, place))
    except OSError:
        if not place.is_dir():
            raise


def publish(whole: str, path: str, record: str) -> None:
    """Rename the file `whole` to `path`, with its record beside it. Raises OSError.

    An existing output first loses its name, then its record, and is deleted once the new ones exist. A kill
    between two steps leaves the name free and `whole` where it was. A failure restores everything.
    """
    if os.path.isdir(path) and not os.path.islink(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    place, aside = Path(path + RECORD_SUFFIX), _aside(path)
    old_record = place.read_bytes() if place.exists() else None
    replaces = os.path.lexists(path)
    with _staged(_stage(place)) as staged:
        staged.write_bytes(record.encode("utf-8", "surrogateescape"))
        _sync_path(staged)  # a full disk fails here, before anything is changed
        if replaces:
            do_patiently(lambda: os.replace(path, aside))
        recorded = False
        try:
            # The record first: an output without one could not be told from a user's own file.
            do_patiently(lambda: os.replace(staged, place))
            recorded = True
            do_patiently(lambda: os.replace(whole, path))
        except OSError:
            with suppress(OSError):
                if recorded:  # if this fails, the old rows must not be restored beside the new record
                    _put_back(place, old_record)
                if replaces:
                    do_patiently(lambda: os.rename(aside, path))
            raise
    sync_folder(path)
    remove_aside(path)


def remove_aside(path: str) -> None:
    """Remove an output that was replaced, if a kill left it behind."""
    with suppress(OSError):
        do_patiently(lambda: os.remove(_aside(path)))


def _aside(path: str) -> str:
    return hide(path, ".old.tmp")


def _put_back(place: Path, old_record: bytes | None) -> None:
    if old_record is not None:
        write_file(place, old_record)
    elif place.exists():
        do_patiently(lambda: os.remove(place))


def _stage(place: Path, word: str = "") -> Path:
    """Return a hidden name beside a file, with its suffix, from which Keras and others choose the format."""
    return place.with_name(f".{place.stem}{word and '.' + word}.tmp{place.suffix}")


@contextmanager
def _staged(staged: Path) -> Iterator[Path]:
    """Remove a file at the end if it was not renamed."""
    try:
        yield staged
    finally:
        with suppress(FileNotFoundError):
            do_patiently(lambda: os.remove(staged))


def hide(path: str, suffix: str = ".tmp") -> str:
    """Return a dot-file's name beside `path`: if a kill leaves it behind, it is not taken for an input."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}{suffix}")


def _sync_path(path: Path) -> None:
    with path.open("r+b") as file:
        sync_file(file.fileno())


def sync_file(descriptor: int) -> None:
    """Sync a file or a folder to the disk.

    Warns with a ShareWarning if the file system cannot sync: the file is right, but may be lost in a power
    failure soon afterwards.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _WITHOUT_SYNC:
            raise
        warnings.warn(
            f"this file system cannot sync files ({error.strerror}): after a power failure, check that files "
            "that were finished shortly before exist and are complete.",
            ShareWarning,
            stacklevel=2,
        )


def sync_folder(path: str) -> None:
    """Make a rename of `path` survive a power failure, if the system can (Windows cannot)."""
    if os.name == "nt":
        return
    descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    try:
        sync_file(descriptor)
    finally:
        os.close(descriptor)
