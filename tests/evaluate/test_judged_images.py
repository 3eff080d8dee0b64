from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from tests.evaluate.drawn_scores import draw_evaluation, draw_scores, name_labels
from wetread.errors import Status
from wetread.evaluate.judged_images import find_confusions, find_mistakes, select_judged
from wetread.evaluate.labelled_folders import Listing
from wetread.evaluate.notes import note_data
from wetread.evaluate.tables import sort_labels, tabulate_confusion, tabulate_labels
from wetread.runtime.scoring.rows import Prediction


def test_confusions_are_the_cells_off_the_diagonal_the_most_frequent_first() -> None:
    scores = draw_scores(name_labels(12), silent=3)
    labels, confusion = scores.spec.labels, draw_evaluation(scores, resamples=0).metrics.confusion
    found = find_confusions(select_judged(scores), examples=2)
    cells = {
        (labels[down], labels[across]): count
        for down, row in enumerate(confusion)
        for across, count in enumerate(row)
        if count and down != across
    }
    assert {(pair.truth, pair.chosen): pair.images for pair in found} == cells
    assert [pair.images for pair in found] == sorted(cells.values(), reverse=True)
    assert all(pair.share == pair.images / 20 for pair in found)
    assert not any(pair.chosen == labels[3] for pair in found)


def test_the_examples_of_a_confusion_are_its_most_certain_images() -> None:
    judged = select_judged(draw_scores(name_labels(5), images=40))
    for pair in find_confusions(judged, examples=3):
        truth, chosen = (judged.spec.labels.index(label) for label in (pair.truth, pair.chosen))
        inside = [p for p in range(200) if (judged.truth[p], judged.chosen[p]) == (truth, chosen)]
        certain = judged.probabilities[:, chosen]
        assert sorted(certain[inside])[::-1][: len(pair.examples)] == certain[list(pair.examples)].tolist()
        assert len(pair.examples) == min(3, pair.images)


def test_files_without_a_score_are_not_judged() -> None:
    scores = draw_scores(("a", "b"), images=3)
    cut = Prediction(path=scores.predictions[0].path, status=Status.TRUNCATED, error="cut short")
    judged = select_judged(replace(scores, predictions=(cut, *scores.predictions[1:])))
    assert judged.names == tuple(image.name for image in scores.images[1:])
    assert Counter(judged.truth.tolist()) == {0: 2, 1: 3}
    assert np.array_equal(judged.chosen, judged.probabilities[:, 1] >= 0.5)
    assert all(m.truth != m.chosen for m in find_mistakes(judged, count=9))


def test_the_worst_label_comes_first_and_one_without_images_last() -> None:
    scores = draw_scores(("a", "b", "c", "d"), images=30, silent=2)
    metrics = draw_evaluation(scores, resamples=0).metrics
    order = sort_labels(metrics)
    assert order[0] == "c" and metrics.per_label["c"].f1 == 0
    values = [metrics.per_label[label].f1 for label in order]
    assert values == sorted(values)
    assert [row[0] for row in tabulate_labels(metrics)[1]] == order


def test_absent_labels_of_many_are_counted() -> None:
    scores = draw_scores([f"label {k:03d}" for k in range(50)], images=2)
    few = replace(scores, images=tuple(replace(image, label="label 000") for image in scores.images))
    listing = Listing(source=None, root="", labels=few.spec.labels, images=few.images, strays=())
    [note] = note_data(few, listing, split=None, run=None, word="group")
    assert note == (
        "No image of label 001, label 002, label 003 and 46 more labels: metrics that need one are not "
        "defined."
    )


def test_a_terminal_lists_the_most_confused_pairs_of_many_labels() -> None:
    scores = draw_scores(name_labels(30), images=40)
    metrics, pairs = draw_evaluation(scores, resamples=0).metrics, find_confusions(select_judged(scores))
    header, rows = tabulate_confusion(metrics)
    assert (header, len(rows)) == (["truth", "chosen", "images"], 21)
    assert sorted(rows[:20]) == sorted([p.truth, p.chosen, str(p.images)] for p in pairs[:20])
    assert rows[20] == [f"{len(pairs) - 20} more pairs", "", str(sum(p.images for p in pairs[20:]))]
    few = draw_evaluation(draw_scores(name_labels(12)), resamples=0).metrics
    assert len(tabulate_confusion(few)[0]) == 13
