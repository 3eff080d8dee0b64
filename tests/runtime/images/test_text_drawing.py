from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runtime.test_explain import draw as draw_whole
from tests.runtime.test_explain import draw_bright_corner, make_classifier
from wetread.runtime.explain import explain_image
from wetread.runtime.images import text_drawing as lettering
from wetread.runtime.images.text_drawing import draw_text, escape_text, measure_text

has_font = pytest.mark.skipif(
    not hasattr(cv2, "FontFace") or not cv2.FontFace("uni").getName(), reason="an OpenCV without the font"
)


def draw(text: str) -> np.ndarray:
    picture = np.full((24, 300, 3), 255, np.uint8)
    draw_text(picture, text, (4, 16), scale=0.42, ink=(0, 0, 0), thick=1)
    return picture


@pytest.fixture
def without_font(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An OpenCV before 5."""
    monkeypatch.delattr(cv2, "FontFace", raising=False)
    lettering._find_face.cache_clear()
    lettering._can_draw.cache_clear()
    yield
    lettering._find_face.cache_clear()
    lettering._can_draw.cache_clear()


def test_ascii_is_drawn_in_opencvs_own_letters() -> None:
    picture = np.full((24, 300, 3), 255, np.uint8)
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(picture, "PNEUMONIA 0.98 ~\\", (4, 16), font, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    assert np.array_equal(draw("PNEUMONIA 0.98 ~\\"), picture)


@has_font
def test_letters_of_the_font_are_drawn() -> None:
    labels = ["阴性", "阳性", "ärger", "Привет", "한국어", "≥ 1"]
    assert [escape_text(label) for label in labels] == labels
    pictures = [draw(label) for label in labels]
    assert len({picture.tobytes() for picture in pictures}) == len(labels)
    for label, picture in zip(labels, pictures, strict=True):
        assert not np.array_equal(picture, draw("?" * len(label)))
        rows = np.flatnonzero((picture < 128).any(axis=(1, 2)))
        assert rows[0] >= 2 and rows[-1] <= 21  # within a line


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("\U0001f600", "\\U0001f600"),  # no letter of the font
        ("हि", "\\u0939\\u093f"),
        ("عر", "\\u0639\\u0631"),  # would stand the wrong way round
        ("a\u200bb", "a\\u200bb"),  # cannot be seen
        ("a\u3000b", "a\\u3000b"),
        ("a\nb\x7f", "a\\nb\\x7f"),
        ("\udce4.png", "\\udce4.png"),  # a name that is not UTF-8
        ("\ue000\uffff", "\\ue000\\uffff"),
    ],
)
def test_what_cannot_be_drawn_is_escaped(text: str, escaped: str) -> None:
    assert escape_text(text) == escaped
    assert np.array_equal(draw(text), draw(escaped))


def test_without_the_font_all_but_ascii_is_escaped(without_font: None) -> None:
    assert escape_text("阴性 é 0.5") == "\\u9634\\u6027 \\xe9 0.5"
    assert np.array_equal(draw("阴性"), draw("\\u9634\\u6027"))
    assert not np.array_equal(draw("阴性"), draw("阳性"))


@given(text=st.text(st.characters(), max_size=6))
def test_any_text_is_drawn(text: str) -> None:
    """Lone surrogates too, which OpenCV does not survive."""
    assert draw(text).shape == (24, 300, 3)
    assert escape_text(escape_text(text)) == escape_text(text)


@pytest.mark.parametrize("labels", [("阴性", "阳性"), ("हि", "हा")])
def test_explanations_of_two_labels_are_never_alike(labels: tuple[str, str]) -> None:
    model = make_classifier()
    found = explain_image(model, draw_bright_corner(64, 64))
    pictures = [draw_whole(replace(found, label=label), model) for label in labels]
    assert not np.array_equal(*pictures)


@pytest.mark.parametrize(
    "text", ["PNEUMONIA: 0.93", "i", "W" * 12, pytest.param("阳性 and 阴性", marks=has_font)]
)
def test_a_text_is_as_wide_as_it_is_measured(text: str) -> None:
    inked = np.flatnonzero((draw(text) < 128).any(axis=(0, 2)))
    assert inked[-1] - 4 == pytest.approx(measure_text(text, scale=0.42, thick=1), abs=4)
