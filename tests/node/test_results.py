"""Results as their judges see them: dciodvfy (dicom3tools) and dsrdump (dcmtk), where they are installed."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset

from tests.node.conftest import make_image
from wetread.errors import ImageError, UsageError
from wetread.node.results.making import make_result
from wetread.node.results.source_image import derive_uid, is_own_result, read_origin
from wetread.node.results.structured_report import make_report
from wetread.runtime.explanation_picture import NOTICE
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


def test_the_report_says_whose_its_codes_are(model):
    """Every scheme that is not the standard's is identified (PS3.3, C.12.1.1.1)."""
    made = make_result(model, make_image(), kind="sr")
    schemes: set[str] = set()
    made.walk(lambda within, element: schemes.add(within.get("CodingSchemeDesignator", "DCM")))
    assert "99WETREAD" in schemes
    identified = {item.CodingSchemeDesignator for item in made.CodingSchemeIdentificationSequence}
    assert schemes - {"DCM", "SCT", "UCUM", "RFC5646"} == identified
