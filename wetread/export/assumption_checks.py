"""Are a model file's terms the owner's: its labels, pixels, scale and head? What can be seen of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ExportError
from wetread.export import network
from wetread.export.assumptions import Terms
from wetread.export.expectations import Expectations, weigh_labels
from wetread.export.owner_comparison import OwnerReport, list_trusted, report_owner
from wetread.export.owner_pipeline import Answers, Owner
from wetread.runtime.model.spec import ModelSpec


@dataclass(frozen=True)
class Question:
    """Whose terms are judged: the network as it was loaded and wrapped, the file's spec and terms.

    `expected` of them, and the `owner` who was asked, if one was.
    """

    model: Any
    wrapped: Any
    spec: ModelSpec
    terms: Terms
    expected: Expectations
    owner: Owner | None


@dataclass(frozen=True)
class Evidence:
    """What was seen: files, their names below the folder, what Keras and the owner answered, some pixels."""

    names: Sequence[str]
    below: Sequence[str]
    keras: NDArray[np.float64]
    answers: Sequence[Answers]
    few: NDArray[np.uint8]


@dataclass(frozen=True)
class Verdict:
    """What came of it; the fields of a ParityReport."""

    owner: OwnerReport | None
    contradictions: tuple[str, ...]
    doubts: tuple[str, ...]
    trusted: tuple[str, ...]


def judge_terms(question: Question, seen: Evidence) -> Verdict:
    """Judge a model file's terms by all that was given beside the file.

    What folders' names and the network itself say against them is a doubt, and where the owner was asked, a
    contradiction.
    """
    spec, owner = question.spec, question.owner
    report = report_owner(owner, seen.answers, seen.keras, seen.names, spec) if owner is not None else None
    certain, unsure = list(question.expected.contradict(spec)), []
    if owner is not None and owner.labels not in (None, spec.labels):
        certain.append(
            f"the reference has the labels {', '.join(owner.labels or ())}, and the file has "
            f"{', '.join(spec.labels)}"
        )
    evidence = weigh_labels(seen.below, _answers(seen), spec)
    if evidence.better and not question.expected.labels:
        unsure.append(evidence.describe(spec))
    head = _find_head(question, seen)
    if head not in (None, spec.head):
        unsure.append(f"the network ends in {head}, and the file says {spec.head}: was it applied twice?")
    if owner is not None:
        certain, unsure = certain + unsure, []
    named = bool(seen.answers) and all(answer.named for answer in seen.answers)
    labels_checked = evidence.agrees or named or (owner is not None and owner.labels is not None)
    return Verdict(
        owner=report,
        contradictions=tuple(certain),
        doubts=tuple(unsure),
        trusted=list_trusted(
            question.terms,
            question.expected,
            owner,
            labels_checked=labels_checked,
            head_checked=head == spec.head,
        ),
    )


def _answers(seen: Evidence) -> NDArray[np.float64]:
    if not seen.answers:
        return seen.keras
    return np.concatenate([one.probabilities for one in seen.answers])


def _find_head(question: Question, seen: Evidence) -> str | None:
    """What the network itself says that it ends in; None where it does not."""
    inputs = network.scale_pixels(seen.few[:8], question.spec)
    with network.quiet():
        outputs = np.asarray(question.wrapped.predict_on_batch(inputs))
    try:
        return network.find_head(question.model, outputs, len(question.spec.labels))
    except ExportError:
        return None
