"""Names of images that lie elsewhere now: which first parts of all of them another folder stands for.

    find_prefix(["/data/inbox/a/x.png", "/data/inbox/b/x.png"], lambda parts: is_file("/mnt", *parts))
    ("data", "inbox")     # where /mnt/a/x.png is a file

The same parts are cut off every name, so no two names lead to one file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

_TRIED = 50


def split_name(name: str) -> tuple[str, ...]:
    """A name's parts, without the scheme of a bucket, empty parts and '.'."""
    plain = name.removeprefix("gs://")
    return tuple(
        part
        for part in (plain.replace("\\", "/") if os.name == "nt" else plain).split("/")
        if part not in ("", ".")
    )


def find_prefix(names: Sequence[str], exists: Callable[[tuple[str, ...]], bool]) -> tuple[str, ...] | None:
    """Tell the fewest first parts, shared by all names, without which any exists; None: there are none.

    `exists` is asked of the rest of the first names; one with '..' in it is passed over.
    """
    split = [split_name(name) for name in names]
    common = _find_common([parts[:-1] for parts in split])
    tried = [parts for parts in split[:_TRIED] if ".." not in parts]
    for count in range(len(common) + 1):
        if any(exists(parts[count:]) for parts in tried):
            return common[:count]
    return None


def _find_common(names: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The first parts that all names share: those of the first and the last in order."""
    if not names:
        return ()
    low, high = min(names), max(names)
    pairs = enumerate(zip(low, high, strict=False))
    return low[: next((k for k, (a, b) in pairs if a != b), min(len(low), len(high)))]
