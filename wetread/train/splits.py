"""Split images into train and val by patient, stratified by label, from the seed alone.

A split is a pure function of names, labels, contents and the seed: not of the data's location or listing
order. Two images of one patient, or two byte-identical files, are always on one side.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence

from wetread.errors import DatasetError
from wetread.evaluate.patients import PATIENT
from wetread.runtime.wording import pluralize

_EXPLAINED = {PATIENT: " (groups)"}


class TooFewPatientsError(DatasetError):
    """A label has fewer patients (groups) than the split has parts."""

    def blame_alike(self, images: int, *, word: str) -> TooFewPatientsError:
        """Return the same error, adding how many images share a group because they are near-identical."""
        return TooFewPatientsError(
            f"{self} {images:,} images are near-identical to another and count as one {word} with it. "
            "If they are different pictures, separate them with --no-near-identical."
        )


def assign_folds(
    groups: Sequence[str],
    targets: Sequence[int],
    *,
    fractions: Sequence[float],
    seed: int,
    word: str = PATIENT,
) -> list[int]:
    """Assign whole groups of images to folds, stratified by label, at least one group of a label to each.

    `groups`: the patient of each image; `targets`: its label's index; `fractions` sum to 1 (0.9 and 0.1:
    train and validation; five times 0.2: five folds). Returns the fold of each image. Large groups are
    assigned first, equal ones in an order from the seed and their names; each goes to the fold that lacks
    its labels most. `word`: what a group is, for messages. Raises TooFewPatientsError if a label has fewer
    groups than there are folds.
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
        _give_each_fold_one(target, members, chosen, folds=len(fractions), word=word)
    return [chosen[group] for group in groups]


def _lack(counts: Counter[int], wanted: dict[int, float], placed: Counter[int]) -> float:
    """How much a fold would still lack with the group in it, weighted by the group's labels."""
    return sum(n * (wanted[t] - placed[t] - n) / wanted[t] for t, n in counts.items()) / counts.total()


def _give_each_fold_one(
    target: int, members: dict[str, Counter[int]], chosen: dict[str, int], *, folds: int, word: str
) -> None:
    """Move the smallest group that a fold can spare into each fold that has none of a label."""
    owners = sorted(
        (group for group, counts in members.items() if counts[target]),
        key=lambda group: (members[group].total(), group),
    )
    if len(owners) < folds:
        owned = f"{len(owners)} {pluralize(word)}{_EXPLAINED.get(word, '')}"
        raise TooFewPatientsError(
            f"Label number {target + 1} by name has {owned}. "
            f"Each label needs {folds} or more, one for each part of the split. Add images, or say with "
            f"--group-regex which part of a name is the {word}."
        )
    for fold in range(folds):
        shares = Counter(chosen[group] for group in owners)
        if not shares[fold]:
            moved = next(group for group in owners if shares[chosen[group]] > 1)
            chosen[moved] = fold


def hash_name(name: str, *, seed: int) -> bytes:
    """Return 32 bytes to sort names by: a random order that is the same on every machine."""
    return hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogateescape")).digest()
