"""Rows that are written straight from the arrays are the bytes that predictions are written as."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.models import toy_spec
from tests.runtime.scoring.test_batches import Mean, entries, read_flat
from wetread.errors import ImageError
from wetread.runtime.entries import Entry
from wetread.runtime.images.limits import MAX_MEMORY
from wetread.runtime.model.scope import Scope, Unlike
from wetread.runtime.model.spec import Band
from wetread.runtime.scoring import row_encoding
from wetread.runtime.scoring.batches import Chunk, Scored, Seconds, make_chunk, map_chunks, score_chunks
from wetread.runtime.scoring.chunk_scorer import ChunkScorer, RowOptions, refuse_chunk
from wetread.runtime.scoring.input_digest import mark_entry
from wetread.runtime.scoring.row_encoding import Encoder, encode_chunk
from wetread.runtime.scoring.rows import make_failure

KINDS = ("csv", "jsonl", "parquet")
SCOPED = ("scope", "scope_reason")
NAMES = st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=12) | st.binary(
    min_size=1, max_size=8
).map(lambda name: name.decode("utf-8", "surrogateescape"))
LABELS = (("NORMAL", "PNEUMONIA"), ('a,"b', "50%", "%s", "ünï\\"), ("a\rb", "c"), ("x\ud800", "y"))
FIRST = st.floats(0, 1, width=32) | st.sampled_from([1e-4, 1e-5, 0.5, 1.0, 5e-8])


def keep(chunk: Chunk) -> Chunk:
    return chunk


def score(names: list[str | None], first: list[float], labels: tuple[str, ...]) -> tuple[Mean, Scored]:
    """What a model answers for names; None is a file that cannot be read."""
    model = Mean(spec=toy_spec(labels=labels))
    listed = [Entry(name or "gone.jpg", 5, "7") for name in names]
    failure = make_failure("gone.jpg", ImageError("unreadable", 'It is "gone".'))
    failures = [failure if name is None else None for name in names]
    good = failures.count(None)
    answers = np.zeros((good, len(labels)), np.float32)
    answers[:, 0] = first[:good]
    answers[:, 1] = 1 - answers[:, 0]
    batch = np.zeros((good, *model.spec.pixels.shape), np.uint8)
    return model, Scored(listed, failures, batch, answers, None, [""] * good, Seconds(1, 2, 3))


@pytest.mark.parametrize("kind", KINDS)
@given(
    labels=st.sampled_from(LABELS),
    rows=st.lists(st.tuples(NAMES | st.none(), FIRST), min_size=1, max_size=4),
)
@example(labels=LABELS[1], rows=[("a.jpg", 0.25), ("ä/%s.jpg", 1e-7)])
@example(
    labels=LABELS[0],
    rows=[('a,"b', 0.25), ("b\rc", 0.5), (None, 0), ("\\", 1), ("\udcff,", 0), ("\ud800", 0)],
)
def test_both_ways_give_the_same_rows(kind, labels, rows):
    model, scored = score([name for name, _ in rows], [value for _, value in rows], labels)
    found = Encoder(model, kind=kind, finish=keep).encode(scored)
    assert found == encode_chunk(make_chunk(model, scored), labels, kind=kind)


@dataclass
class Scoped(Mean):
    """A model with a scope: images of 200 or more are unlike, and turned by 180 degrees they still are."""

    def judge(self, images):
        answers = self.classify(images)
        return answers, images.mean(axis=(1, 2, 3), dtype=np.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("refuse", [False, True])
@given(
    rows=st.lists(
        st.tuples(
            NAMES | st.none(),
            FIRST,
            st.sampled_from([0.0, 199.0, 200.0, float("nan")]),
            st.sampled_from(["", "Modality is CT"]),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_both_ways_give_the_same_rows_with_a_scope(kind, refuse, rows):
    model, scored = score([row[0] for row in rows], [row[1] for row in rows], ("NORMAL", "PNEUMONIA"))
    rule = Unlike(threshold=199.0, method="mean", features=(), images=(1, 1), kept=1.0, changes=("turned",))
    spec = replace(model.spec, scope=Scope(purpose="Dark pictures", attributes=(), unlike=rule))
    model = Scoped(spec=spec)
    good = [row for row in rows if row[0] is not None]
    scored = replace(
        scored,
        pixels=scored.pixels + 255,
        unlike=np.array([row[2] for row in good], np.float32),
        breaches=[row[3] for row in good],
    )
    finish = refuse_chunk if refuse else keep
    found = Encoder(model, kind=kind, optional=SCOPED, finish=finish).encode(scored)
    whole = finish(make_chunk(model, scored))
    assert found == encode_chunk(whole, model.spec.labels, kind=kind, optional=SCOPED)
    assert json.dumps(found.describe()) == json.dumps(
        encode_chunk(whole, model.spec.labels, kind=kind, optional=SCOPED).describe()
    )


def test_ordinary_rows_make_no_predictions(monkeypatch):
    monkeypatch.setattr(row_encoding, "make_chunk", lambda *_: pytest.fail("a prediction was made"))
    model, scored = score(["a.jpg", "ö.jpg", None], [0.25, 0.1], ("NORMAL", "PNEUMONIA"))
    rows = Encoder(model, kind="csv", finish=keep).encode(scored)
    assert rows.data.decode().splitlines() == [
        "a.jpg,ok,PNEUMONIA,0.75,0.25,0.75,",
        "ö.jpg,ok,PNEUMONIA,0.9,0.1,0.9,",
        'gone.jpg,unreadable,,,,,"It is ""gone""."',
    ]
    assert (rows.counts, rows.scope, rows.size) == ({"ok": 2, "unreadable": 1}, {}, 3)
    assert rows.marks == "".join(map(mark_entry, scored.entries))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("workers", [1, 3])
def test_chunks_that_workers_encode_are_those_of_their_predictions(kind, workers):
    model = Mean(spec=replace(toy_spec(), uncertain=Band(low=0.3, high=0.7, rule="test")))
    for optional in ((), ("uncertain",)):
        how = RowOptions(
            kind=kind,
            optional=optional,
            dicom_tags=(),
            refuse_outside=False,
            batch_size=8,
            max_memory=MAX_MEMORY,
        )
        work = ChunkScorer(model, how, read=read_flat).score
        rows = [
            each for found in map_chunks(work, entries(50), workers=workers, batch_size=8) for each in found
        ]
        whole = [
            encode_chunk(chunk, model.spec.labels, kind=kind, optional=optional)
            for chunk in score_chunks(model, entries(50), read=read_flat, workers=workers, batch_size=8)
        ]
        assert [each.data for each in rows] == [each.data for each in whole]
        state = [json.dumps(each.describe()) for each in rows]
        assert state == [json.dumps(each.describe()) for each in whole]


def test_an_input_that_ends_processes_is_not_read():
    how = RowOptions(
        kind="csv", optional=(), dicom_tags=(), refuse_outside=False, batch_size=8, max_memory=MAX_MEMORY
    )
    scorer = ChunkScorer(Mean(), how, read=read_flat)
    (whole,), (found,) = scorer.score(entries(3)), scorer.score(entries(3), fatal=(1,))
    first, second, third = found.data.splitlines()
    assert [first, third] == whole.data.splitlines()[::2]
    assert second.startswith(b'dark1,unreadable,,,,,"It ended the process that read it,')


def test_joined_chunks_are_scored_as_each_alone():
    how = RowOptions(
        kind="csv", optional=(), dicom_tags=(), refuse_outside=False, batch_size=4, max_memory=MAX_MEMORY
    )
    scorer, listed = ChunkScorer(model := Mean(), how, read=read_flat), entries(10)
    found = scorer.score(listed, fatal=(1, 9))
    assert max(model.batches) <= 4
    alone = (
        scorer.score(listed[:4], fatal=(1,))
        + scorer.score(listed[4:8])
        + scorer.score(listed[8:], fatal=(1,))
    )
    assert [each.describe() for each in found] == [each.describe() for each in alone]
    assert [each.size for each in found] == [4, 4, 2]
