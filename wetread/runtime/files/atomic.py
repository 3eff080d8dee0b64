"""Files that take their names when they are whole, and outputs that take theirs together with a record.

    with replace_file("model.onnx") as staged:   # .model.tmp.onnx, synced and renamed at the end
        staged.write_bytes(data)

Nothing else in wetread renames or links a file. Rows and record are two files, and no system renames two at
once: `publish` sees to it that at no moment the record of one run stands beside the rows of another.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wetread.errors import ShareWarning
from wetread.runtime.entries import RECORD_SUFFIX

# What a file system says that cannot sync files, or folders.
_WITHOUT_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF})


@contextmanager
def replace_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a hidden name beside `path`, with its suffix; the file written there takes the name `path`.

    It is on the disk by then. Where the block fails, nothing of it stays. A link still stands afterwards: the
    file that it names is replaced. A device or a pipe is written to as it is. Raises OSError.
    """
    place = Path(path)
    if (
        place.exists() and not place.is_file()
    ):  # asked before links are followed: /dev/stdout leads to no name
        yield place
        return
    place = Path(os.path.realpath(path)) if place.is_symlink() else place
    with _staged(_stage(place)) as staged:
        yield staged
        _sync_path(staged)
        os.replace(staged, place)
        sync_folder(str(place))


def write_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file that appears whole or not at all. Raises OSError."""
    with replace_file(path) as staged:
        staged.write_bytes(data)


def copy_file(source: Path, path: str, *, overwrite: bool) -> bool:
    """Copy a file to a name where other machines may write as well; tell whether it was written.

    Without `overwrite`, a file that stands there stays, and it is not. Raises OSError.
    """
    with _staged(_stage(Path(path), uuid.uuid4().hex)) as staged:
        shutil.copyfile(source, staged)
        _sync_path(staged)
        if overwrite:
            os.replace(staged, path)
        elif not _link(staged, path):
            return False
        sync_folder(path)
        return True


def _link(staged: Path, path: str) -> bool:
    """Give a file its name, unless it is taken."""
    try:
        os.link(staged, path)
    except FileExistsError:
        return False
    except OSError:
        # Some file systems know no links. A rename asks first there: who comes between writes the same rows.
        if os.path.lexists(path):
            return False
        os.rename(staged, path)
    return True


def name_folder(whole: Path, place: Path) -> None:
    """Give a folder that was made beside `place` that name; one that another process put there serves too."""
    shutil.rmtree(place, ignore_errors=True)
    try:
        os.rename(whole, place)
    except OSError:
        if not place.is_dir():
            raise


def publish(whole: str, path: str, record: str) -> None:
    """Give the file `whole` the name `path`, with its record beside it. Raises OSError.

    An output that stands there first gives up its name, then its record, and goes when the new ones stand:
    a kill between two steps leaves the name free and `whole` where it was. A failure puts all of it back.
    """
    if os.path.isdir(path) and not os.path.islink(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    place, aside = Path(path + RECORD_SUFFIX), _aside(path)
    old_record = place.read_bytes() if place.exists() else None
    replaces = os.path.lexists(path)
    with _staged(_stage(place)) as staged:
        staged.write_bytes(record.encode("utf-8", "surrogateescape"))
        _sync_path(staged)  # a full disk says so here, before anything is touched
        if replaces:
            os.replace(path, aside)
        recorded = False
        try:
            # The record first: a whole output without one could not be told from a user's own file.
            os.replace(staged, place)
            recorded = True
            os.replace(whole, path)
        except OSError:
            with suppress(OSError):
                if recorded:  # where this fails, the old rows must not come back to stand beside the new one
                    _put_back(place, old_record)
                if replaces:
                    os.rename(aside, path)
            raise
    sync_folder(path)
    remove_aside(path)


def remove_aside(path: str) -> None:
    """Remove the output that a whole one replaced, if a kill left it there."""
    with suppress(OSError):
        os.remove(_aside(path))


def _aside(path: str) -> str:
    return hide(path, ".old.tmp")


def _put_back(place: Path, old_record: bytes | None) -> None:
    if old_record is not None:
        write_file(place, old_record)
    elif place.exists():
        os.remove(place)


def _stage(place: Path, word: str = "") -> Path:
    """A hidden name beside a file's, with its suffix, by which Keras and others choose what they write."""
    return place.with_name(f".{place.stem}{word and '.' + word}.tmp{place.suffix}")


@contextmanager
def _staged(staged: Path) -> Iterator[Path]:
    """Remove a file at the end if nobody renamed it."""
    try:
        yield staged
    finally:
        with suppress(FileNotFoundError):
            os.remove(staged)


def hide(path: str, suffix: str = ".tmp") -> str:
    """A dot-file's name beside `path`: one that a kill leaves behind is never taken for an input."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}{suffix}")


def _sync_path(path: Path) -> None:
    with path.open("r+b") as file:
        sync_file(file.fileno())


def sync_file(descriptor: int) -> None:
    """See a file or a folder on the disk.

    Warns with a ShareWarning where the file system does not sync: what was written is right, but a power cut
    soon afterwards may take it away.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _WITHOUT_SYNC:
            raise
        warnings.warn(
            f"this file system does not sync what is written ({error.strerror}): after a power cut, see "
            "whether files that were finished shortly before are there and whole.",
            ShareWarning,
            stacklevel=2,
        )


def sync_folder(path: str) -> None:
    """Make a rename of `path` survive a power cut, where the system can (not on Windows)."""
    if os.name == "nt":
        return
    descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    try:
        sync_file(descriptor)
    finally:
        os.close(descriptor)
