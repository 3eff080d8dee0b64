"""Find a row's image file and read its pixels as stored.

    places = Places(root="/mnt/inbox", names=paths)      # 'inbox/a/x.png' -> '/mnt/inbox/a/x.png'

File names come from the scores file only: a browser sends row numbers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from wetread.errors import ImageError, SourceError, Status
from wetread.runtime.entries import is_bucket_location
from wetread.runtime.files.long_paths import reach
from wetread.runtime.files.reading import read_local
from wetread.runtime.gcs.bucket_folder import read_file
from wetread.runtime.images.stored_picture import StoredPicture
from wetread.runtime.sources.moved_images import find_prefix, split_name

# Larger pictures do not fit a browser's canvas on a common machine.
MOST_PIXELS = 32 << 20


@dataclass(frozen=True, kw_only=True)
class Moved:
    """A folder that was moved: `prefix`, the first parts of every name, is now the folder `root`."""

    prefix: tuple[str, ...]
    root: str

    def find(self, name: str) -> str:
        """Return where a file is now. Raises ImageError('unreadable') for a name outside the folder."""
        parts = split_name(name)
        rest = parts[len(self.prefix) :]
        if parts[: len(self.prefix)] != self.prefix or not rest or ".." in rest:
            raise ImageError(
                Status.UNREADABLE,
                f"The name is not below {'/'.join(self.prefix) or '.'}, the folder that --images replaces.",
            )
        return os.path.join(self.root, *rest)


def find_moved(root: str, names: Sequence[str]) -> Moved:
    """Find the first parts of all names that `root` replaces. Raises SourceError if no file is there."""

    def is_file(parts: tuple[str, ...]) -> bool:
        return os.path.isfile(reach(os.path.join(root, *parts)))

    prefix = find_prefix(names, is_file)
    if prefix is not None:
        return Moved(prefix=prefix, root=root)
    first = f", such as {names[0]!r}" if names else ""
    raise SourceError(
        f"None of the files in the scores file{first} is below --images {root!r}. Name the folder that was "
        "scored, at its present place."
    )


def read_image(name: str, moved: Moved | None, *, project: str | None = None) -> bytes:
    """Read a row's file, local or in a bucket. Raises ImageError('unreadable') if it is not there."""
    if moved is not None:
        return read_local(moved.find(name))
    if not is_bucket_location(name):
        return read_local(name)
    try:
        return read_file(name, project=project)
    except SourceError as error:
        raise ImageError(Status.UNREADABLE, str(error)) from error


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A picture as the page receives it.

    `body`: the lookup table, then the samples, little-endian, row by row. `bits`: of a sample. `levels`: the
    table's length. `low` and `high`: the first window. `falls`: whether larger values are darker. `slope` and
    `offset`: from stored values to the picture's unit. `shrunk`: the factor by which it was made smaller.
    """

    height: int
    width: int
    channels: int
    bits: int
    levels: int
    low: float
    high: float
    falls: bool
    slope: float
    offset: float
    shrunk: int
    body: bytes

    def describe(self) -> dict[str, float]:
        """Return all fields but the body."""
        return {name: value for name, value in vars(self).items() if name != "body"}


def pack_picture(picture: StoredPicture) -> Sent:
    """Prepare a picture for the page; one of more than MOST_PIXELS is made smaller."""
    small, factor = picture.shrink(MOST_PIXELS)
    samples = small.samples
    if samples.itemsize == 2:
        samples = samples.astype("<u2", copy=False)
    height, width, channels = samples.shape
    return Sent(
        height=height,
        width=width,
        channels=channels,
        bits=8 * samples.itemsize,
        levels=len(small.table),
        low=small.window[0],
        high=small.window[1],
        falls=small.falls,
        slope=small.slope,
        offset=small.offset,
        shrunk=factor,
        # Samples of two bytes must begin at an even offset.
        body=b"".join([small.table.tobytes(), bytes(len(small.table) % 2), samples.tobytes()]),
    )
