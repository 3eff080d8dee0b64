"""The picture that people see: its layout, colors and words, and its metadata as other programs read them."""

from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
import zlib
from dataclasses import replace
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.runtime.images.dicom.drawing import draw_xray, write_dicom
from tests.runtime.test_explain import build_looking_model, draw, draw_bright_corner, make_classifier, split
from wetread.cli import run
from wetread.runtime import explanation_picture
from wetread.runtime.explain import Box, Explanation, explain_image
from wetread.runtime.explanation_picture import (
    NOTICE,
    Caption,
    describe,
    draw_explanation,
    explain_colors,
    make_metadata,
)
from wetread.runtime.images.dicom.display import Display
from wetread.runtime.model.spec import ModelSpec
from wetread.runtime.overlay import FAINTEST, SCALES

CR = "1.2.840.10008.5.1.4.1.1.1"
CAPTION = Caption(
    model="m", digest="ab" * 32, positive="B", threshold=0.4, identity="1.2.3", day=date(2026, 11, 29)
)


def make_found(sides: tuple[int, int], heat: np.ndarray | None = None, **more: object) -> Explanation:
    height, width = sides
    values: dict[str, object] = {
        "method": "occlusion",
        "label": "A",
        "answer": "A",
        "probability": 0.9,
        "probabilities": {"A": 0.9, "B": 0.1},
        "map": np.zeros((8, 8), np.float32) if heat is None else heat,
        "box": Box(top=0, left=0, height=height, width=width),
        "picture": np.full((height, width, 1), 100, np.uint8),
    }
    return Explanation(**(values | more))  # type: ignore[arg-type]


@pytest.mark.parametrize("method", SCALES)
@pytest.mark.parametrize("sides", [(40, 30), (32, 32), (300, 2000), (512, 512), (3000, 2500), (1, 900)])
def test_the_image_stands_beside_the_tinted_one(sides, method):
    scale = SCALES[method]
    heat = np.zeros((8, 8), np.float32)
    heat[0, 0], heat[7, 7], heat[0, 7] = 1.2 * scale, -1.5 * scale, FAINTEST * scale * 0.9
    found = make_found(sides, heat, method=method)
    drawn = draw(found, make_classifier())
    plain, tinted = split(drawn, found)
    assert 512 <= max(plain.shape) <= 1024 and drawn.shape[1] >= 1032
    assert (plain == 100).all()
    if min(plain.shape[:2]) > 40:
        red, blue = tinted[0, 0], tinted[-1, -1]
        assert red[0] - red[2] > 50 and blue[2] - blue[0] > 50
        assert tinted[0, -1].tolist() == [100, 100, 100]  # too faint to be tinted
        assert (tinted != plain).any(axis=2).mean() < 0.1  # only what matters


def test_what_is_tinted_can_still_be_seen():
    """Half of the contrast is left below the strongest color."""
    picture = np.indices((64, 64)).sum(axis=0)[..., None] % 2 * 200
    found = make_found((64, 64), np.full((8, 8), 9, np.float32), picture=picture.astype(np.uint8))
    _, tinted = split(draw(found, make_classifier()), found)
    assert np.ptp(tinted[..., 1]) >= 0.45 * 200


@pytest.mark.parametrize("strength", [0.5, 1.0, 4.0])
def test_one_scale_for_all_pictures(strength):
    """The color of a place says how much it moved, whatever else is in the map."""
    colors = set()
    for largest in (strength, 50.0):
        heat = np.zeros((8, 8), np.float32)
        heat[:4, :4], heat[7, 7] = strength, largest
        found = make_found((512, 512), heat)
        colors.add(tuple(split(draw(found, make_classifier()), found)[1][100, 100]))
    assert len(colors) == 1


@pytest.mark.parametrize(
    ("tag", "value"), [("PixelAspectRatio", [2, 1]), ("ImagerPixelSpacing", ["0.4", "0.2"])]
)
@pytest.mark.skipif(not shutil.which("dcm2pnm"), reason="dcmtk is not installed: apt-get install dcmtk")
@pytest.mark.parametrize("turned", [False, True])
def test_pixels_that_are_not_square_are_shown_as_dcmtk_shows_them(tmp_path, tag, value, turned):
    value = value[::-1] if turned else value
    shape = (300, 600) if not turned else (600, 300)
    image = tmp_path / "image.dcm"
    uids = {"SOPClassUID": CR, "SOPInstanceUID": "1.2.3"}
    image.write_bytes(write_dicom(draw_xray(8, shape=shape), bits=8, extra={**uids, tag: value}))
    model = make_classifier()
    found = explain_image(model, image.read_bytes())
    plain, _ = split(draw(found, model), found)
    assert plain.shape[:2] == (600, 600)
    option = "+Sxv" if not turned else "+Syv"
    subprocess.run(["dcm2pnm", option, "600", str(image), str(tmp_path / "theirs.pgm")], check=True)
    theirs = cv2.imread(str(tmp_path / "theirs.pgm"), cv2.IMREAD_GRAYSCALE).astype(int)
    assert theirs.shape == plain.shape[:2]
    assert np.abs(theirs - plain[..., 0]).mean() < 4


def test_the_patients_directions_stand_around_the_image():
    plain = draw(make_found((512, 512)), make_classifier())
    framed = draw(make_found((512, 512), display=Display(edges=("R", "L", "H", "F"))), make_classifier())
    assert framed.shape[0] == plain.shape[0] + 68
    assert (framed[34:546, 34:546] == 100).all()
    for place in ((slice(270, 310), slice(0, 34)), (slice(270, 310), slice(546, 580))):  # left, right
        assert framed[place].max() > 200
    for place in ((slice(0, 34), slice(270, 310)), (slice(546, 580), slice(270, 310))):  # top, bottom
        assert framed[place].max() > 200


def test_the_words_say_what_and_how():
    said = describe(make_found((8, 8), np.full((2, 2), 2, np.float32)), CAPTION)
    assert said[0] == "A: probability 0.9000, threshold 0.4 (for B)"
    assert said[-1] == NOTICE
    text = "\n".join(said)
    for wanted in (
        "hiding this place made A less likely",
        "Model m, digest abababababababab",
        "2026-11-29",
        "1.2.3",
    ):
        assert wanted in text
    assert "scope" not in text
    other = describe(make_found((8, 8), answer="B"), CAPTION)
    assert "The model's answer is another label: B, probability 0.1000." in other
    many = make_found((8, 8), probabilities={"A": 0.5, "B": 0.3, "C": 0.2})
    assert describe(many, replace(CAPTION, threshold=None))[0].endswith(", one of 3 labels")


@pytest.mark.parametrize("identity", ["x" * 3000, "ü" * 1000, "word " * 600])
def test_long_words_are_broken_into_lines_without_measuring_each_end(monkeypatch, identity):
    """Two labels of 4,000 letters took 192 s to draw; a damaged name of a patient may be longer."""
    measured = []
    whole = explanation_picture.measure_text
    monkeypatch.setattr(
        explanation_picture,
        "measure_text",
        lambda text, **how: measured.append(len(text)) or whole(text, **how),
    )
    found = make_found((8, 8))
    drawn = draw_explanation(found, replace(CAPTION, identity=identity))
    plain = draw_explanation(found, replace(CAPTION, identity="x"))
    assert drawn.shape[0] > plain.shape[0] + 10 * 30
    assert sum(measured) < 400 * len(identity)


def test_a_map_that_shows_nothing_says_so():
    for method in SCALES:
        found = make_found((4, 4), method=method)
        assert explain_colors(found) == [
            "No single place made A much more or less likely: nothing is tinted."
        ]


def test_a_color_model_keeps_the_originals_colors():
    model = make_classifier(color="rgb")
    picture = np.zeros((80, 80, 3), np.uint8)
    picture[..., 1] = 180  # green
    picture[:20, :20] = 0
    found = explain_image(model, cv2.imencode(".png", picture)[1].tobytes())
    plain, tinted = split(draw(found, model), found)
    assert plain[400, 400].tolist() == tinted[400, 400].tolist() == [0, 180, 0]


def list_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """The chunks of a PNG, whose checksums are checked."""
    found, at = [], 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, content = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(kind + content)
        found.append((kind, content))
        at += 12 + length
    return found


LABELS = ("NORMAL", "PNEUMONIA")


def explain(folder: Path, image: bytes, *more: str, labels: tuple[str, str] = LABELS) -> bytes:
    """The PNG that the command writes of an image."""
    model, source, output = folder / "lungs.onnx", folder / "Doe_John.img", folder / "out.png"
    model.write_bytes(build_looking_model(ModelSpec(labels=labels), slice(0, 16), slice(0, 16)))
    source.write_bytes(image)
    line = ["explain", str(source), "--model", str(model), "--output", str(output), "--overwrite", *more]
    assert run(line) == 0
    return output.read_bytes()


@pytest.mark.parametrize("labels", [LABELS, ("阴性", "阳性")])
def test_other_programs_read_the_metadata(tmp_path, labels):
    data = explain(tmp_path, draw_bright_corner(60, 60), labels=labels)
    read = Image.open(io.BytesIO(data))
    read.load()
    texts = read.text  # type: ignore[attr-defined]
    assert texts["Disclaimer"] == NOTICE
    assert texts["Creation Time"] == date.today().isoformat()
    assert texts["Source"].startswith("SHA-256 ")
    assert labels[1] in texts["Title"] and "threshold 0.5" in texts["Description"]
    found = json.loads(texts["wetread"])
    assert (found["label"], found["threshold"], found["model"]) == (labels[1], 0.5, "lungs")
    kinds = [kind for kind, _ in list_chunks(data)]
    assert kinds[0] == b"IHDR" and kinds[-1] == b"IEND"
    assert (b"iTXt" in kinds) == (not labels[0].isascii())
    if shutil.which("pngcheck"):  # libpng's reading of it
        (tmp_path / "x.png").write_bytes(data)
        done = subprocess.run(["pngcheck", "-t", str(tmp_path / "x.png")], capture_output=True, text=True)
        assert done.returncode == 0 and NOTICE in done.stdout, done.stdout + done.stderr


def test_no_patient_is_named_unless_it_was_asked_for(tmp_path):
    values = {"SOPClassUID": CR, "SOPInstanceUID": "1.2.3.4", "PatientName": "Doe^John", "PatientID": "P42"}
    image = write_dicom(draw_xray(8, shape=(60, 60)), bits=8, extra=values)
    bare = explain(tmp_path, image)
    read = make_texts(bare)
    assert read["Source"] == "1.2.3.4"
    assert not [word for word in (b"Doe", b"John", b"P42") if word in bare]
    named = make_texts(explain(tmp_path, image, "--show", "patient,file"))
    assert named["Source"] == f"1.2.3.4, {tmp_path / 'Doe_John.img'}, Doe^John, P42"
    assert run(["explain", str(tmp_path / "Doe_John.img"), "--show", "name", "--output", "x.png"]) == 2


def make_texts(data: bytes) -> dict[str, str]:
    read = Image.open(io.BytesIO(data))
    read.load()
    return dict(read.text)  # type: ignore[attr-defined]


def test_metadata_of_a_name_that_is_no_text(tmp_path):
    from wetread.runtime.images.png_text import encode_png

    found = make_metadata(make_found((8, 8)), replace(CAPTION, identity="a\udcffb\0c"))
    assert make_texts(encode_png(np.zeros((4, 4, 3), np.uint8), found))["Source"] == "a\\udcffbc"


def test_a_real_x_ray_is_reduced_to_be_seen(xray_data: Path) -> None:
    data = (xray_data / "chest-xray-full" / "person1_bacteria_1.jpeg").read_bytes()
    model = make_classifier()
    found = explain_image(model, data)
    plain, _ = split(draw(found, model), found)
    whole = cv2.imdecode(np.frombuffer(data, np.uint8), 0)
    wanted = cv2.resize(whole, plain.shape[1::-1], interpolation=cv2.INTER_AREA).astype(int)
    assert max(plain.shape) == 1024 and np.abs(plain[..., 0] - wanted).max() <= 3
