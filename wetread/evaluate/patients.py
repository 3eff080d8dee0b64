"""Find the patient in a file's name, and group images that belong together.

Training splits by patient and evaluation resamples by patient, so both find patients here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from wetread.errors import ConfigError

# The patient in `person1199_bacteria_3149.jpeg`, `IM-0115-0001.jpeg` and `NORMAL2-IM-0007-0001.jpeg`.
# IM-0115 and NORMAL2-IM-0115 are two people: their images are no more alike than those of any two patients
# (docs/results/experiments.md).
DEFAULT_GROUP_REGEX = r"(?:^|/)(?:(person\d+)_|((?:NORMAL\d+-)?IM-\d+)-)[^/]*$"

PATIENT, GROUP = "patient", "group"


def compile_group_regex(pattern: str) -> re.Pattern[str]:
    """Compile the expression that finds the patient in a name. Raises ConfigError."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"--group-regex {pattern!r} is not a regular expression: {error}.") from error


def find_group(name: str, pattern: re.Pattern[str]) -> str:
    """Find the patient in a name below DATA.

    It is the first group of the expression that matched, or the whole match if it has no groups. A name in
    which neither is found is a group of its own.
    """
    return _search_group(name, pattern) or name


def _search_group(name: str, pattern: re.Pattern[str]) -> str:
    match = pattern.search(name)
    if match is None:
        return ""
    return next(filter(None, match.groups()), "") if pattern.groups else match.group()


def name_group(pattern: str, names: Iterable[str], *, of_patients: bool) -> str:
    """Return the word for what the images are grouped by: 'patient', 'group', or the expression's own word.

    `(?P<plant>p[0-9]+)` says that a group is a plant. Otherwise it is a patient if the images are of patients
    or their names are those of the chest X-rays that the default expression knows. Raises ConfigError.
    """
    compiled = compile_group_regex(pattern)
    own = next(iter(compiled.groupindex), "").replace("_", " ").strip()
    if own:
        return own
    known = pattern == DEFAULT_GROUP_REGEX and any(compiled.search(name) for name in names)
    return PATIENT if of_patients or known else GROUP


def count_unmatched(names: Iterable[str], pattern: str) -> int:
    """Count the names in which no patient is found. Raises ConfigError for a malformed expression."""
    compiled = compile_group_regex(pattern)
    return sum(not _search_group(name, compiled) for name in names)


def merge_groups(
    groups: Sequence[str], keys: Iterable[Sequence[str]], *, pairs: Iterable[tuple[int, int]] = ()
) -> tuple[str, ...]:
    """Merge groups whose images share a key; a merged group gets the smallest of its names.

    `groups`: the patient of each image. Each of `keys` holds one key for each image (for example the digest
    of its bytes; '' is no key): two images with the same key, and all images of their patients, get one
    group. `pairs` of images, given by index, are merged in the same way.
    """
    parents = {group: group for group in groups}

    def find(group: str) -> str:
        while parents[group] != group:
            parents[group] = parents[parents[group]]
            group = parents[group]
        return group

    def join(one: str, other: str) -> None:
        ends = sorted((find(one), find(other)))
        parents[ends[1]] = ends[0]

    for column in keys:
        first: dict[str, str] = {}
        for group, key in zip(groups, column, strict=True):
            if key:
                join(group, first.setdefault(key, group))
    for one, other in pairs:
        join(groups[one], groups[other])
    return tuple(find(group) for group in groups)
