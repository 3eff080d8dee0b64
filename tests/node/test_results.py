"""Results as their judges see them: dciodvfy (dicom3tools) and dsrdump (dcmtk), where they are installed."""

from __future__ import annotations

import io
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from tests.node.conftest import make_image
from wetread.errors import ImageError, UsageError
from wetread.node.results.making import make_result
from wetread.node.results.picture import FAINTEST, draw_result, explain_colors
from wetread.node.results.source_image import NOTICE, derive_uid, is_own_result, read_origin
from wetread.node.results.structured_report import make_report
from wetread.runtime.explain import Box, Explanation
from wetread.runtime.scoring.rows import Prediction

# By the types of their values: date, time, date and time.
DATES = ("DA", "TM", "DT")


def save(made: Dataset, path: Path) -> Path:
    made.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("kind", ["sr", "sc"])
@pytest.mark.parametrize("bare", [False, True])
def test_dciodvfy_finds_no_error(model, tmp_path, kind, bare):
    if not shutil.which("dciodvfy"):
        pytest.skip("dciodvfy is not installed: apt-get install dicom3tools (.ci/run does, as root)")
    more = dict.fromkeys(("PatientName", "PatientID", "AccessionNumber", "StudyTime"), "") if bare else {}
    path = save(make_result(model, make_image(**more), kind=kind), tmp_path / "result.dcm")
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, errors="replace")
    said = (done.stdout + done.stderr).splitlines()
    assert any(line in ("ComprehensiveSR", "SCImage") for line in said)
    assert [line for line in said if line.startswith("Error")] == []


def test_dsrdump_reads_the_report(model, tmp_path):
    if not shutil.which("dsrdump"):
        pytest.skip("dsrdump is not installed: apt-get install dcmtk (.ci/run does, as root)")
    path = save(make_result(model, make_image(), kind="sr"), tmp_path / "result.dcm")
    done = subprocess.run(["dsrdump", "+Pl", str(path)], capture_output=True, text=True, check=True)
    (prediction,) = model.score(write(tmp_path / "image.dcm", make_image()))
    for wanted in (
        "Verification Flag   : UNVERIFIED",
        "Preliminary Flag    : PRELIMINARY",
        f'"Probability of {model.spec.labels[1]}")="{prediction.probabilities[1]}"',
        f'"Finding")=({prediction.label},99WETREAD,"{prediction.label}")',
        f'"Algorithm Version")="{model.digest}"',
        f'"Algorithm Parameters")="{NOTICE}"',
        '"Source of Measurement")=(CR image,)',
    ):
        assert wanted in done.stdout, wanted


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", ["sr", "sc"])
def test_the_same_image_gives_the_same_result_but_for_its_dates(model, kind):
    one, two = (make_result(model, make_image(), kind=kind) for _ in range(2))
    for made in (one, two):
        made.walk(lambda within, element: within.pop(element.tag) if element.VR in DATES else None)
    assert one == two
    other = make_result(model, make_image(2), kind=kind)
    assert other.SOPInstanceUID != one.SOPInstanceUID and other.SeriesInstanceUID == one.SeriesInstanceUID
    assert one.StudyInstanceUID == "1.2.3.0" and one.SeriesInstanceUID != "1.2.3.0.1"


@pytest.mark.parametrize("kind", ["sr", "sc"])
def test_a_result_holds_only_what_an_archive_files_it_by(model, kind):
    private = {
        "PatientComments": "SECRET-COMMENT",
        "PatientAddress": "SECRET-ADDRESS",
        "OperatorsName": "SECRET-OPERATOR",
        "InstitutionName": "SECRET-HOSPITAL",
        "StudyDescription": "SECRET-STUDY",
    }
    made = make_result(model, make_image(**private), kind=kind)
    assert (made.PatientName, made.PatientID, made.AccessionNumber) == (
        "Doe^Secret",
        "SECRET-42",
        "SECRET-ACC",
    )
    text = str(made)
    assert [value for value in private.values() if value in text] == []


def test_results_are_known_as_our_own(model, tmp_path):
    for kind in ("sr", "sc"):
        assert is_own_result(
            save(make_result(model, make_image(), kind=kind), tmp_path / "x.dcm").read_bytes()
        )
    assert not is_own_result(make_image())
    assert not is_own_result(b"") and not is_own_result(b"text" * 100)


@pytest.mark.parametrize("missing", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_what_cannot_be_filed_is_said(model, missing):
    with pytest.raises(ImageError, match=f"it has no {missing}") as caught:
        make_result(model, make_image(**{missing: ""}), kind="sr")
    assert caught.value.status == "unsupported"


def test_cut_and_damaged_objects_are_an_image_error(model):
    data = make_image()
    for cut in range(0, len(data), 97):
        try:
            origin = read_origin(data[:cut], model_digest=model.digest)
        except ImageError as error:
            assert error.status in ("truncated", "unsupported")
        else:
            assert (origin.uid, origin.filed.StudyInstanceUID) == ("1.2.3.1", "1.2.3.0")


ODD = {
    "PatientBirthDate": ["2026.01.02", "19700230", "unknown", "20261332"],
    "PatientSex": ["U", "female", "X"],
    "StudyDate": ["2026.01.02", "20260102-20260103"],
    "StudyTime": ["10:11:12", "noon", "256000"],
    "AccessionNumber": ["A" * 40],
    "StudyID": ["S" * 40],
    "PatientName": ["A" * 200, "Müller^Änne", "^^^^^^^"],
}


@pytest.mark.parametrize("kind", ["sr", "sc"])
@pytest.mark.parametrize(("name", "value"), [(name, value) for name in ODD for value in ODD[name]])
def test_values_that_break_a_rule_make_a_result_all_the_same(model, tmp_path, kind, name, value):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = make_image(**{name: value})
    save(make_result(model, data, kind=kind), tmp_path / "result.dcm")


def test_without_a_score_there_is_no_report(model):
    origin = read_origin(make_image(), model_digest=model.digest)
    with pytest.raises(UsageError, match="its status is blank"):
        make_report(origin, Prediction("x", "blank"), spec=model.spec, model_name="m")  # type: ignore[arg-type]


def test_uids_are_uids():
    for words in (("a",), ("a", "b"), ("ab",)):
        uid = derive_uid(*words)
        assert pydicom.uid.UID(uid).is_valid and len(uid) <= 64
    assert len({derive_uid("a", "b"), derive_uid("ab"), derive_uid("a b c")}) == 3


@pytest.mark.parametrize("sides", [(40, 30), (300, 2000), (512, 512), (3000, 2500), (1, 900)])
def test_the_picture_shows_the_image_beside_the_map(sides):
    height, width = sides
    heat = np.zeros((8, 8), np.float32)
    heat[0, 0], heat[7, 7], heat[0, 7] = 2.5, -3.0, FAINTEST / 2
    gray = np.full((height, width, 1), 100, np.uint8)
    box = Box(top=0, left=0, height=height, width=width)
    found = Explanation(
        method="occlusion",
        label="A",
        probability=0.9,
        probabilities={"A": 0.9, "B": 0.1},
        map=heat,
        box=box,
        picture=gray,
    )
    drawn = draw_result(found, ["A: probability 0.9"])
    shown = round(max(sides) * (512 / max(sides) if max(sides) < 512 else min(1, 1024 / max(sides))))
    half = max(1, round(width * shown / max(sides)))
    assert drawn.shape[1] >= 2 * half
    if min(sides) > 1:
        plain, tinted = drawn[:, :half], drawn[:, half + 8 : 2 * half + 8]
        assert plain[0, 0].tolist() == [100, 100, 100]
        red, blue = tinted[0, 0].astype(int), tinted[round(height * shown / max(sides)) - 1, -1].astype(int)
        assert red[0] - red[2] > 50 and blue[2] - blue[0] > 50
        assert tinted[0, -1].tolist() == [100, 100, 100]  # too faint to be tinted


def test_a_map_that_shows_nothing_says_so():
    zero = np.zeros((4, 4), np.float32)
    found = Explanation(
        method="cam",
        label="A",
        probability=0.5,
        probabilities={},
        map=zero,
        box=Box(top=0, left=0, height=4, width=4),
        picture=np.zeros((4, 4, 1), np.uint8),
    )
    assert explain_colors(found) == ["No single place made A much more or less likely."]


def test_a_capture_can_be_read_and_says_what_it_is(model, tmp_path):
    path = save(make_result(model, make_image(), kind="sc"), tmp_path / "result.dcm")
    made = pydicom.dcmread(io.BytesIO(path.read_bytes()))
    assert made.pixel_array.shape[2] == 3
    assert list(made.ImageType) == ["DERIVED", "SECONDARY"]
    assert made.ImageComments == NOTICE
    assert made.SourceImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.1"
