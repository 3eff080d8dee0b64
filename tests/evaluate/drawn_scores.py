"""Evaluations without a model and without pictures: probabilities are drawn, for any number of labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.models import toy_spec
from wetread.errors import Status
from wetread.evaluate.evaluation import EvaluateOptions, Evaluation
from wetread.evaluate.labelled_folders import Image
from wetread.evaluate.metrics import measure
from wetread.evaluate.scores import Scores
from wetread.runtime.entries import Entry
from wetread.runtime.scoring.rows import Prediction

_ODD = (
    "a name that somebody wrote to say everything about the class, in lower case and without an end",
    'R&D <b>bold</b> & "quoted"',
    "肺炎（细菌性）",
    "正常胸部X光片没有任何异常发现的儿童",
    "AnIdentifierWithoutAnyPlaceToBreakTheLineInIt_2026_version_17",
    "Zażółć gęślą jaźń",
    "ملصق",
)


def name_labels(count: int) -> tuple[str, ...]:
    """Names of labels: the first ones odd, the others plain."""
    return (*_ODD[:count], *(f"class {index:03d}" for index in range(len(_ODD), count)))


def draw_scores(
    labels: Sequence[str], *, images: int = 20, seed: int = 0, silent: int | None = None
) -> Scores:
    """Scores of `images` images of each label. `silent`: a label that is never chosen.

    Each label is confused most with the next one, and some images with any.
    """
    random, count = np.random.default_rng(seed), len(labels)
    truth = np.repeat(np.arange(count), images)
    logits = random.normal(size=(len(truth), count))
    logits[np.arange(len(truth)), truth] += 2.2 + 0.4 * np.log(count)
    logits[np.arange(len(truth)), (truth + 1) % count] += 1.2
    if silent is not None:
        logits[:, silent] -= 30
    spec = toy_spec(labels=tuple(labels))
    exact = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    probabilities = exact.astype(np.float32)
    chosen = spec.decide(probabilities)
    names = [f"{labels[t]}/specimen{i // 2:04d}_{i}.jpg" for i, t in enumerate(truth.tolist())]
    return Scores(
        spec=spec,
        images=tuple(Image(Entry(f"DATA/{n}"), n, labels[t], "") for n, t in zip(names, truth, strict=True)),
        predictions=tuple(
            Prediction(
                path=f"DATA/{name}",
                status=Status.OK,
                label=labels[label],
                probability=float(row[label]),
                probabilities=tuple(map(float, row)),
            )
            for name, label, row in zip(names, chosen.tolist(), probabilities, strict=True)
        ),
        groups=tuple(f"specimen{i // 2:04d}" for i in range(len(names))),
        digests=tuple(f"{i:064x}" for i in range(len(names))),
    )


def draw_evaluation(scores: Scores, *, resamples: int = 20, word: str = "group") -> Evaluation:
    """What `evaluate` returns for these scores."""
    kept = scores.scored
    metrics = measure(
        scores.probabilities(kept),
        scores.truth(kept),
        scores.spec,
        groups=scores.patients(kept),
        resamples=resamples,
    )
    return Evaluation(
        options=EvaluateOptions(data="DATA", resamples=resamples),
        model="drawn.onnx",
        provider="CPUExecutionProvider",
        scores=scores,
        metrics=metrics,
        strays=(),
        notes=(f"No image of {', '.join(scores.spec.labels)}: metrics that need one are not defined.",),
        word=word,
    )
