"""DICOM through the front door: files in a folder, rows out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest

from tests.runtime.images.dicom.drawing import SYNTAXES, decode_dicom, draw_xray, strip_meta, write_dicom
from wetread import Classifier
from wetread.errors import ConfigError
from wetread.runtime.images.formats import read_header
from wetread.runtime.images.pixels import read_pixels
from wetread.runtime.images.recipe import PixelRecipe

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
WINDOW = {"WindowCenter": "2100", "WindowWidth": "1700", "RescaleIntercept": "12.5", "RescaleSlope": "1.25"}


def write_png(path: Path, pixels: np.ndarray) -> None:
    done, data = cv2.imencode(".png", pixels[..., ::-1] if pixels.shape[2] == 3 else pixels)
    assert done
    path.write_bytes(data.tobytes())


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_dicom_and_the_png_made_from_it_score_alike(tmp_path, toy_model, syntax):
    bits = 8 if syntax == "jpeg baseline" else 12
    extra = WINDOW if bits == 12 else {}  # that window lies outside the values of 8 bits
    file = write_dicom(
        draw_xray(bits, shape=(150, 130)), bits=bits, syntax=syntax, photometric="MONOCHROME1", extra=extra
    )
    (tmp_path / "a").write_bytes(file)
    write_png(tmp_path / "b", decode_dicom(file))
    one, other = Classifier(toy_model).score(tmp_path)
    assert (one.status, one.label, one.probabilities) == ("ok", other.label, other.probabilities)


def test_a_color_dicom_and_its_png_are_the_same_pixels(tmp_path):
    colors = np.stack([draw_xray(8, shape=(90, 70), seed=seed) for seed in range(3)], axis=2)
    file = write_dicom(colors, bits=8, photometric="RGB")
    write_png(tmp_path / "same.png", colors)
    png = (tmp_path / "same.png").read_bytes()
    for recipe in (PixelRecipe(), PixelRecipe(color="rgb", resize="fit"), PixelRecipe(equalize="histogram")):
        np.testing.assert_array_equal(read_pixels(file, recipe), read_pixels(png, recipe))


def test_what_arrives_in_a_folder_gets_a_row_each(tmp_path, toy_model):
    whole = write_dicom(draw_xray(12), bits=12)
    files = {
        "bare": strip_meta(whole),
        "cut.dcm": whole[:-100],
        "no-extension": whole,
        "preamble-of-a-tiff": b"II*\0" + whole[4:],
        "report.dcm": (BUNDLED / "reportsi.dcm").read_bytes(),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    rows = {Path(row.path).name: row for row in Classifier(toy_model).score(tmp_path)}
    statuses = {name: row.status for name, row in rows.items()}
    assert statuses == {
        "bare": "ok",
        "cut.dcm": "truncated",
        "no-extension": "ok",
        "preamble-of-a-tiff": "ok",
        "report.dcm": "unsupported",
    }
    assert rows["bare"].probabilities == rows["no-extension"].probabilities


def test_a_header_tells_the_size_before_anything_is_decoded():
    header = read_header(write_dicom(draw_xray(12), bits=12, syntax="jpeg-ls"))
    assert (header.kind, header.height, header.width) == ("dicom", 52, 47)


def test_a_rule_that_this_version_does_not_know_is_refused():
    assert PixelRecipe().dicom == "voi-first"
    with pytest.raises(ConfigError, match="The pixel field 'dicom' must be one of voi-first"):
        replace(PixelRecipe(), dicom="window-first")
