from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wetread.errors import DatasetError
from wetread.train.splits import assign_folds

patients = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 2)), min_size=12, max_size=60)


@settings(max_examples=60, deadline=None)
@given(patients=patients, seed=st.integers(0, 99), folds=st.sampled_from([(0.9, 0.1), (0.25,) * 4]))
def test_folds_hold_whole_groups_and_every_label(patients, seed, folds) -> None:
    patients += [(1, label) for label in range(3) for _ in folds]  # enough groups of each label
    groups = [f"p{number}" for number, (images, _) in enumerate(patients) for _ in range(images)]
    targets = [label for images, label in patients for _ in range(images)]
    chosen = assign_folds(groups, targets, fractions=folds, seed=seed)
    places = defaultdict(set)
    for group, fold in zip(groups, chosen, strict=True):
        places[group].add(fold)
    assert all(len(found) == 1 for found in places.values())
    assert set(zip(targets, chosen, strict=True)) == {(t, f) for t in set(targets) for f in range(len(folds))}
    mixed = list(reversed(list(zip(groups, targets, strict=True))))
    again = assign_folds([g for g, _ in mixed], [t for _, t in mixed], fractions=folds, seed=seed)
    assert again == chosen[::-1]


def test_folds_keep_their_fractions_and_the_labels_proportions() -> None:
    groups = [f"p{i // 3}" for i in range(3000)]
    targets = [int(i // 3 % 4 > 0) for i in range(3000)]
    chosen = assign_folds(groups, targets, fractions=(0.9, 0.1), seed=0)
    counts = Counter(zip(chosen, targets, strict=True))
    assert counts == {(0, 0): 675, (0, 1): 2025, (1, 0): 75, (1, 1): 225}
    assert chosen != assign_folds(groups, targets, fractions=(0.9, 0.1), seed=1)


def test_too_few_groups_are_refused() -> None:
    with pytest.raises(DatasetError, match="needs 2 or more"):
        assign_folds(["a", "a", "b", "c"], [0, 0, 1, 1], fractions=(0.5, 0.5), seed=0)
