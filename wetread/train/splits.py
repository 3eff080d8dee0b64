"""Which images train and which validate: by patient, in every label's proportion, from the seed alone.

A split is a pure function of names, labels, contents and the seed: not of where the data lie, nor of the
order in which they were listed. Two images of one patient, or two byte-identical files, are on one side.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from wetread.errors import ConfigError, DatasetError

# The patient in `person1199_bacteria_3149.jpeg`, `IM-0115-0001.jpeg` and `NORMAL2-IM-0007-0001.jpeg`.
# IM-0115 and NORMAL2-IM-0115 are two people: their images are no more alike than strangers' are
# (docs/training.md).
DEFAULT_GROUP_REGEX = r"(?:^|/)(?:(person\d+)_|((?:NORMAL\d+-)?IM-\d+)-)[^/]*$"


def compile_group_regex(pattern: str) -> re.Pattern[str]:
    """Compile the expression that finds the patient in a name. Raises ConfigError."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"Expected a regular expression for --group-regex. Received {pattern!r}: {error}."
        ) from error


def find_group(name: str, pattern: re.Pattern[str]) -> str:
    """Find the patient in a name below DATA.

    It is the first group of the expression that took part, or the whole match where it has no groups; a
    name that does not match is a group of its own.
    """
    match = pattern.search(name)
    if match is None:
        return name
    return next((part for part in match.groups() if part), match.group()) or name


def merge_groups(groups: Sequence[str], keys: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Join groups that share a key, each under the smallest of its names.

    `groups`: the patient of each image. Each of `keys` says something else of each image (the digest of its
    bytes, say; '' says nothing): two images with one key come into one group, and so do their patients.
    """
    parents = {group: group for group in groups}

    def find(group: str) -> str:
        while parents[group] != group:
            parents[group] = parents[parents[group]]
            group = parents[group]
        return group

    for column in keys:
        first: dict[str, str] = {}
        for group, key in zip(groups, column, strict=True):
            if key:
                ends = sorted((find(group), find(first.setdefault(key, group))))
                parents[ends[1]] = ends[0]
    return tuple(find(group) for group in groups)


def assign_folds(
    groups: Sequence[str], targets: Sequence[int], *, fractions: Sequence[float], seed: int
) -> list[int]:
    """Share images among folds: whole groups, each label in the folds' proportions, at least one each.

    `groups`: the patient of each image; `targets`: its label's index; `fractions` sum to 1 (0.9 and 0.1:
    train and validation; five times 0.2: five folds). Returns the fold of each image. Large groups are
    dealt first, equal ones in an order that only the seed and their names decide; each goes where its
    labels are furthest behind. Raises DatasetError when a label has fewer groups than there are folds.
    """
    members: dict[str, Counter[int]] = defaultdict(Counter)
    for group, target in zip(groups, targets, strict=True):
        members[group][target] += 1
    totals = Counter(targets)
    wanted = [
        {target: max(1.0, fraction * total) for target, total in totals.items()} for fraction in fractions
    ]
    placed = [Counter[int]() for _ in fractions]
    chosen: dict[str, int] = {}
    for group in sorted(members, key=lambda name: (-members[name].total(), hash_name(name, seed=seed))):
        counts = members[group]
        fold = max(range(len(fractions)), key=lambda i: (_lack(counts, wanted[i], placed[i]), -i))
        chosen[group] = fold
        placed[fold].update(counts)
    for target in sorted(totals):
        _give_each_fold_one(target, members, chosen, folds=len(fractions))
    return [chosen[group] for group in groups]


def _lack(counts: Counter[int], wanted: dict[int, float], placed: Counter[int]) -> float:
    """How far behind a fold would still be with the group in it, weighed by the group's labels."""
    return sum(n * (wanted[t] - placed[t] - n) / wanted[t] for t, n in counts.items()) / counts.total()


def _give_each_fold_one(
    target: int, members: dict[str, Counter[int]], chosen: dict[str, int], *, folds: int
) -> None:
    """Move the smallest group that a fold can spare into each fold that has none of a label."""
    owners = sorted(
        (group for group, counts in members.items() if counts[target]),
        key=lambda group: (members[group].total(), group),
    )
    if len(owners) < folds:
        raise DatasetError(
            f"Expected {folds} or more patients (groups) of each label, one for each part of the split. "
            f"Received {len(owners)} for label number {target + 1} by name. Add images, or say with "
            "--group-regex which part of a name is the patient."
        )
    for fold in range(folds):
        shares = Counter(chosen[group] for group in owners)
        if not shares[fold]:
            moved = next(group for group in owners if shares[chosen[group]] > 1)
            chosen[moved] = fold


def hash_name(name: str, *, seed: int) -> bytes:
    """32 bytes that order names at random, the same on every machine."""
    return hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogateescape")).digest()
