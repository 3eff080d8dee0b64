"""Which images train and which validate: by patient, in every label's proportion, from the seed alone.

A split is a pure function of names, labels, contents and the seed: not of where the data lie, nor of the
order in which they were listed. Two images of one patient, or two byte-identical files, are on one side.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence

from wetread.errors import DatasetError


class TooFewPatientsError(DatasetError):
    """A label has fewer patients (groups) than there are sides."""

    def blame_alike(self, images: int) -> TooFewPatientsError:
        """Return the same error, which adds how many images became one patient for being near-identical."""
        return TooFewPatientsError(
            f"{self} {images:,} images are near-identical to another and count as one patient with it: "
            "where they are not one picture saved twice, --no-near-identical keeps them apart."
        )


def assign_folds(
    groups: Sequence[str], targets: Sequence[int], *, fractions: Sequence[float], seed: int
) -> list[int]:
    """Share images among folds: whole groups, each label in the folds' proportions, at least one each.

    `groups`: the patient of each image; `targets`: its label's index; `fractions` sum to 1 (0.9 and 0.1:
    train and validation; five times 0.2: five folds). Returns the fold of each image. Large groups are
    dealt first, equal ones in an order that only the seed and their names decide; each goes where its
    labels are furthest behind. Raises TooFewPatientsError when a label has fewer groups than there are
    folds.
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
        raise TooFewPatientsError(
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
