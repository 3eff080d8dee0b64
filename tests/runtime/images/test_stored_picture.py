"""Pictures as stored, beside Pillow's and pydicom's reading of the same files."""

from __future__ import annotations

import errno
import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import draw_image
from wetread.errors import ImageError, Status
from wetread.runtime.images.pixels import read_picture
from wetread.runtime.images.recipe import PixelRecipe
from wetread.runtime.images.stored_picture import read_stored


def draw(bits: int, *, seed: int = 0, height: int = 40, width: int = 30) -> np.ndarray:
    kind = np.uint8 if bits <= 8 else np.uint16
    return np.random.default_rng(seed).integers(0, 1 << bits, (height, width)).astype(kind)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@given(bits=st.integers(2, 16), seed=st.integers(0, 99))
def test_deep_gray_is_what_pillow_reads_and_its_table_what_the_model_sees(suffix, bits, seed):
    picture = draw(bits, seed=seed)
    data = cv2.imencode(suffix, picture)[1].tobytes()
    stored = read_stored(data)
    np.testing.assert_array_equal(stored.samples[..., 0], np.asarray(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(stored.table[stored.samples], read_picture(data, PixelRecipe()))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".pgm"])
def test_gray_of_eight_bits(suffix):
    data = draw_image(3, suffix=suffix)
    stored = read_stored(data)
    assert stored.samples.shape == (96, 80, 1)
    np.testing.assert_array_equal(stored.table[stored.samples], read_picture(data, PixelRecipe()))


def test_colors_stay_colors():
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    data = cv2.imencode(".png", picture)[1].tobytes()
    stored = read_stored(data)
    np.testing.assert_array_equal(stored.samples, np.asarray(Image.open(io.BytesIO(data))))
    assert stored.table.tolist() == list(range(256))


def test_white_is_zero_and_orientation():
    picture = draw(12)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "TIFF", tiffinfo={262: 0, 274: 6})
    stored = read_stored(file.getvalue())
    assert stored.samples.shape == (30, 40, 1)
    np.testing.assert_array_equal(stored.table[stored.samples], read_picture(file.getvalue(), PixelRecipe()))
    assert stored.table[0] == 255
    upright = read_stored(file.getvalue(), recipe=PixelRecipe(orientation="ignore"))
    np.testing.assert_array_equal(upright.samples[..., 0], picture)


def test_dicom_has_stored_values_units_and_the_rule_as_a_table():
    pydicom = pytest.importorskip("pydicom")
    from pydicom.data import get_testdata_file

    name = get_testdata_file("CT_small.dcm")
    data = Path(name).read_bytes()
    stored = read_stored(data)
    found = pydicom.dcmread(name)
    values = found.pixel_array * float(found.RescaleSlope) + float(found.RescaleIntercept)
    np.testing.assert_array_equal(stored.samples[..., 0] * stored.slope + stored.offset, values)
    assert stored.window == (values.min() - stored.offset, values.max() - stored.offset)
    np.testing.assert_array_equal(stored.table[stored.samples], read_picture(data, PixelRecipe()))


def test_broken_and_huge_files_have_their_status():
    with pytest.raises(ImageError) as cut:
        read_stored(draw_image(1)[:-300])
    assert cut.value.status == Status.TRUNCATED
    with pytest.raises(ImageError) as large:
        read_stored(draw_image(1, height=900, width=900, suffix=".png"), max_memory=1 << 20)
    assert large.value.status == Status.TOO_LARGE


def test_memory_that_runs_out_is_told_from_a_picture_that_is_too_large(monkeypatch):
    """OpenCV's own error: it cannot allocate 16 TiB."""
    tiny, resize = np.zeros((2, 2), np.uint8), cv2.resize
    monkeypatch.setattr("cv2.imdecode", lambda *_: resize(tiny, (1 << 22, 1 << 22)))
    with pytest.raises(ImageError, match="too little memory") as caught:
        read_stored(draw_image(1, suffix=".png"))
    assert (caught.value.status, caught.value.errno) == (Status.TOO_LARGE, errno.ENOMEM)


def test_a_picture_that_is_too_large_for_a_page_shrinks_by_averages():
    data = draw_image(1, height=401, width=300, suffix=".png")
    stored = read_stored(data)
    small, factor = stored.shrink(40_000)
    assert (factor, small.samples.shape) == (2, (200, 150, 1))
    assert abs(float(small.samples.mean()) - float(stored.samples.mean())) < 1
    assert stored.shrink(1 << 20) == (stored, 1)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@given(center=st.integers(-200, 1200), width=st.integers(1, 2000), slope=st.sampled_from([1, 2, -1]))
def test_the_window_of_a_dicom_file_is_the_line_that_its_table_follows(photometric, center, width, slope):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.data import get_testdata_file

    found = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    found.PhotometricInterpretation, found.RescaleSlope = photometric, slope
    found.WindowCenter, found.WindowWidth = center, width
    file = io.BytesIO()
    found.save_as(file)
    stored = read_stored(file.getvalue())
    low, high = stored.window
    line = 255 * np.clip((np.arange(len(stored.table)) - low) / max(high - low, 1e-9), 0, 1)
    assert (
        stored.falls == ((photometric == "MONOCHROME1") != (slope < 0))
        or stored.table.min() == stored.table.max()
    )
    shown = 255 - line if stored.falls else line
    padding = stored.table != np.floor(shown + 0.5)
    assert np.abs(stored.table[padding] - shown[padding]).max(initial=0) <= 1 or padding.sum() <= 1
