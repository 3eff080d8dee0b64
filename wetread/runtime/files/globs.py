"""Globs: `*` and `?` within a folder, `**` across folders, `[...]` a set."""

from __future__ import annotations

import os
import re

from wetread.errors import UsageError

_WILDCARD = re.compile(r"[*?\[]")


def is_wildcard(name: str) -> bool:
    """Whether a name contains `*`, `?` or `[`."""
    return _WILDCARD.search(name) is not None


def find_fixed_parts(pattern: str) -> tuple[str, str]:
    """Split a glob into the folders before its first wildcard, with a `/` at the end, and the rest."""
    parts = pattern.split("/")
    fixed = next(i for i, part in enumerate(parts) if is_wildcard(part))
    return "/".join(parts[:fixed]) + "/" if fixed else "", "/".join(parts[fixed:])


def compile_glob(pattern: str, *, whole: bool = False) -> re.Pattern[str]:
    """Compile a glob: `*` and `?` stop at `/`, `**/` is any number of folders, `[...]` a set.

    Without a `/` in it (and unless `whole`), the pattern is matched against the last part of a name.
    """
    out, at = [], 0
    pattern = pattern.replace(os.sep, "/")
    while at < len(pattern):
        if pattern.startswith("**/", at):
            out.append("(?:[^/]*/)*")
            at += 3
        elif pattern.startswith("**", at):
            out.append(".*")
            at += 2
        elif pattern[at] == "[" and (end := pattern.find("]", at + 2)) > 0:
            inner = pattern[at + 1 : end].replace("\\", "\\\\")
            out.append(f"[{'^' + inner[1:] if inner[0] in '!^' else inner}]")
            at = end + 1
        else:
            out.append({"*": "[^/]*", "?": "[^/]"}.get(pattern[at]) or re.escape(pattern[at]))
            at += 1
    anywhere = "" if whole or "/" in pattern else "(?:.*/)?"
    try:
        return re.compile(anywhere + "".join(out), re.DOTALL)
    except re.error as error:
        raise UsageError(f"{pattern!r} is not a glob: {error}.") from error


def refuse_folders(include: str | None) -> None:
    """Refuse a glob with a `/` for a source that is one file: it could never match. Raises UsageError."""
    if include and "/" in include:
        raise UsageError(f"--include {include!r} cannot match a SOURCE that is a file. Leave out the '/'.")


def matches(pattern: re.Pattern[str], name: str) -> bool:
    """Whether a name below a source matches a compiled glob."""
    return pattern.fullmatch(name.replace(os.sep, "/")) is not None


class Beside:
    """The folders in which nothing can match a glob: they are not listed and need not be readable."""

    def __init__(self, root: str, rest: str) -> None:
        self._skip = len(root)
        *folders, _ = rest.split("/")
        deep = next((i for i, part in enumerate(folders) if "**" in part), None)
        self._levels = [compile_glob(part, whole=True) for part in folders[:deep]]
        self._deep = deep is not None or "**" in rest

    def __contains__(self, folder: object) -> bool:
        parts = str(folder)[self._skip : -1].replace(os.sep, "/").split("/")
        if len(parts) > len(self._levels) and not self._deep:
            return True
        return not all(level.fullmatch(part) for level, part in zip(self._levels, parts, strict=False))
