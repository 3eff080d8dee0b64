"""Processes that decode for one session, as for a GPU's: the rows of threads, and their pixels on the way."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.conftest import draw_image
from tests.runtime.images.dicom.drawing import draw_xray, write_dicom
from tests.runtime.scoring.process_run import only_processes
from tests.runtime.scoring.test_processes import is_alive, score
from wetread.runtime.scoring.chunk_scorer import ChunkDecoder
from wetread.runtime.scoring.classifier import Classifier
from wetread.runtime.scoring.run import ScoreOptions
from wetread.runtime.scoring.worker_process import receive, send

INPUTS = 24


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Inputs of all kinds; every seventh is no image."""
    folder = tmp_path_factory.mktemp("images")
    for index in range(INPUTS):
        (folder / f"i{index:02d}.jpg").write_bytes(draw_image(index) if index % 7 else b"text")
    dicom = write_dicom(draw_xray(8, shape=(80, 72), seed=1), bits=8, extra={"StudyTime": "101010"})
    (folder / "x.dcm").write_bytes(dicom)
    return folder


@pytest.fixture
def classifier(toy_model, monkeypatch) -> Classifier:
    """A model that computes here, and that says it does on a GPU: batches are filled up."""
    made = Classifier(toy_model, device="cpu")
    monkeypatch.setattr(made, "device", "cuda")
    return made


@pytest.fixture
def only_decoders(monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a thread decoded")

    monkeypatch.setattr(ChunkDecoder, "decode", refuse)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("more", [{}, {"dicom_tags": ("StudyTime",), "workers": 3}])
def test_rows_are_those_of_threads(classifier, images, tmp_path, kind, more, request):
    options = ScoreOptions(
        sources=(str(images),), output=str(tmp_path / f"a.{kind}"), batch_size=4, **{"workers": 2} | more
    )
    whole = score(classifier, options)
    request.getfixturevalue("only_decoders")
    with only_processes() as started:
        assert score(classifier, replace(options, output=str(tmp_path / f"b.{kind}"))) == whole
    assert whole.count(b"\n") == INPUTS + 1 + (kind == "csv") and (b"101010" in whole) == bool(more)
    assert started and not any(map(is_alive, started))


def test_an_image_that_ends_its_decoder_loses_its_row_alone(classifier, images, tmp_path, only_decoders):
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(10):
        os.link(images / f"i{index:02d}.jpg", folder / f"i{index:02d}.jpg")
    (folder / "kills.jpg").write_bytes(draw_image(1))
    with only_processes():
        options = ScoreOptions(
            sources=(str(folder),), output=str(tmp_path / "x.csv"), batch_size=4, workers=2
        )
        rows = score(classifier, options).decode().splitlines()[1:]
    assert [row.split(",")[1] for row in rows].count("ok") == 8
    assert rows[-1].startswith(f'{folder}/kills.jpg,unreadable,,,,,"It ended the process that')


@given(
    arrays.arrays(st.sampled_from([np.uint8, np.float32]), arrays.array_shapes(min_dims=1, min_side=0)),
    st.booleans(),
    st.integers(0, 10_000),
)
def test_a_message_comes_whole_or_not_at_all(array, transposed, cut):
    array = array.T if transposed else array
    stream = io.BytesIO()
    send(stream, ("words", array, array[:1]))
    data = stream.getvalue()
    words, *found = receive(io.BytesIO(data))  # type: ignore[arg-type]
    assert words == "words"
    for each, wanted in zip(found, (array, array[:1]), strict=True):
        assert (each.dtype, each.shape) == (wanted.dtype, wanted.shape) and each.tobytes() == wanted.tobytes()
    assert receive(io.BytesIO(data[: cut % len(data)])) is None
