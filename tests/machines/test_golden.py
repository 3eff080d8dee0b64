"""This machine gives what the repository keeps; on every machine where the tests run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.machines import golden
from wetread.errors import Status
from wetread.runtime.images.recipe import KERNELS

pytest.importorskip("pydicom")
pytest.importorskip("imagecodecs")


@pytest.fixture(scope="module")
def measured() -> golden.Measured:
    return golden.measure()


def test_this_machine_gives_the_same_answer(measured):
    verdict = golden.compare(measured, golden.read_expected())
    assert verdict.passed, golden.report(measured, verdict)
    assert measured.digest == golden.read_expected().digest


def test_the_digest_is_the_one_that_the_page_names():
    page = Path(__file__).parents[2] / "docs" / "results" / "machines.md"
    assert golden.read_expected().digest in page.read_text(encoding="utf-8")


def test_a_changed_pixel_a_changed_row_and_a_far_probability_are_found(measured):
    expected = golden.read_expected()
    name = "scaled-large-gray"
    other = dict.fromkeys(expected.pixels[name], "0" * 16)
    wrong = dataclasses.replace(measured, pixels={**measured.pixels, name: other})
    assert golden.compare(wrong, expected).pixels == (name,)
    assert wrong.digest != expected.digest
    status, label, probabilities, scope = expected.scores["int8"][name]
    for row in (
        ("truncated", "", (), ""),
        (status, "else", probabilities, scope),
        (status, label, (0.5, 0.5), scope),
        (status, label, probabilities, "inside" if scope == "outside" else "outside"),
    ):
        scores = {**measured.scores, "int8": {**measured.scores["int8"], name: row}}
        assert not golden.compare(dataclasses.replace(measured, scores=scores), expected).passed


def test_the_corpus_has_every_status_format_transfer_syntax_and_kernel(measured):
    from tests.runtime.images.dicom.drawing import SYNTAXES

    statuses = {value for row in measured.pixels.values() for value in row.values() if len(value) != 16}
    statuses |= {row[0] for rows in measured.scores.values() for row in rows.values()}
    assert statuses == {*map(str, Status)} - {"unreadable", "no_answer", "out_of_scope"}
    names = "\n".join(measured.pixels)
    for syntax in SYNTAXES:
        assert f"\ndicom-{syntax.replace(' ', '-')}-" in names
    for kernel in KERNELS:
        found = {row[kernel] for row in measured.pixels.values() if kernel in row}
        assert len(found) == len(golden.RESIZED), kernel


def test_int8_and_float32_agree_on_what_the_model_is_for():
    """On this machine; `compare` holds every other machine to the same rows."""
    scores = golden.read_expected().scores
    assert {row[3] for row in scores["packaged"].values()} == {"inside", "outside", ""}
    assert {row[3] for row in scores["float32"].values()} == {"inside", "outside", ""}
    for name, row in scores["float32"].items():
        assert scores["int8"][name][3] == row[3], name
