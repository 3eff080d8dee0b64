"""`--dicom-tags`: columns after `error`, the same in every format, by every way in."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.conftest import draw_image
from tests.runtime.images.dicom.drawing import draw_xray, write_dicom
from tests.runtime.watch.test_watcher import Scene
from wetread.cli import run
from wetread.errors import UsageError
from wetread.runtime.scoring.classifier import Classifier
from wetread.runtime.scoring.run import ScoreOptions, score_to_file

TAGS = "SOPInstanceUID,StudyDate,Modality"
COLUMNS = ["SOPInstanceUID", "StudyDate", "Modality"]


def fill(folder: Path) -> Path:
    folder.mkdir()
    for index in range(5):
        uid = f"1.2.3.{index}"
        file = write_dicom(draw_xray(12, seed=index), bits=12, extra={"SOPInstanceUID": uid})
        (folder / f"{index}.dcm").write_bytes(file if index != 2 else file[:-40])
    (folder / "photo.jpg").write_bytes(draw_image(1))
    (folder / "text.txt").write_bytes(b"no picture")
    return folder


EXPECTED = [
    *(("ok" if index != 2 else "truncated", f"1.2.3.{index}", "20260102", "DX") for index in range(5)),
    ("ok", None, None, None),
    ("not_an_image", None, None, None),
]


def score(*arguments: object) -> int:
    return run(["score", *map(str, arguments), "--quiet"])


@pytest.fixture
def source(tmp_path) -> Path:
    return fill(tmp_path / "in")


def test_they_stand_after_error_in_every_format(source, tmp_path, toy_model):
    for kind in ("csv", "jsonl", "parquet"):
        output = tmp_path / f"out.{kind}"
        assert score(source, "--model", toy_model, "--output", output, "--dicom-tags", TAGS) == 3
    with (tmp_path / "out.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        by_csv = list(reader)
    assert reader.fieldnames[-4:] == ["error", *COLUMNS]
    by_json = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert list(by_json[0])[-4:] == ["error", *COLUMNS]
    assert [tuple(row[name] for name in ("status", *COLUMNS)) for row in by_json] == EXPECTED
    assert [tuple(row[name] or None for name in ("status", *COLUMNS)) for row in by_csv] == EXPECTED
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert table.column_names[-5:] == ["error", *COLUMNS, "path_bytes"]
    assert [tuple(row[name] for name in ("status", *COLUMNS)) for row in table.to_pylist()] == EXPECTED


def test_there_are_none_unless_asked_for_and_the_rest_of_a_row_is_the_same(source, toy_model, capsysbinary):
    score(source, "--model", toy_model)
    plain = capsysbinary.readouterr().out.splitlines()
    assert plain[0].endswith(b",error")
    score(source, "--model", toy_model, "--dicom-tags", TAGS)
    tagged = capsysbinary.readouterr().out.splitlines()
    assert [line.rsplit(b",", 3)[0] for line in tagged] == plain


def test_a_file_named_twice_has_its_columns_twice(source, tmp_path, toy_model, capsys):
    names = tmp_path / "names"
    names.write_text(f"{source / '0.dcm'}\n" * 40)
    assert score("--from-file", names, "--model", toy_model, "--dicom-tags", "SOPInstanceUID") == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row.rpartition(",")[2] for row in rows] == ["1.2.3.0"] * 40


def test_a_run_resumes_only_with_the_same_ones(source, tmp_path, toy_model, capsys):
    def options(**more) -> ScoreOptions:
        values = {"sources": (str(source),), "output": str(tmp_path / "out.csv"), "batch_size": 2}
        return ScoreOptions(**(values | {"dicom_tags": ("Modality",)} | more))

    classifier = Classifier(toy_model)
    whole = ScoreOptions(sources=(str(source),), output=str(tmp_path / "whole.csv"), dicom_tags=("Modality",))
    score_to_file(classifier, whole)
    assert score_to_file(classifier, options(), stop=lambda: True).interrupted
    again = ["--model", toy_model, "--output", tmp_path / "out.csv", "--batch-size", 2, "--resume"]
    assert score(source, *again) == 1
    assert "begun with another dicom_tags: ['Modality'], not None" in capsys.readouterr().err
    score_to_file(classifier, options(resume=True))
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    record = json.loads((tmp_path / "out.csv.run.json").read_text())
    assert record["options"]["dicom_tags"] == ["Modality"]


def test_a_tag_that_may_name_a_patient_ends_it_before_anything_is_written(
    source, tmp_path, toy_model, capsys
):
    output = tmp_path / "out.csv"
    assert score(source, "--model", toy_model, "--output", output, "--dicom-tags", "Modality,PatientID") == 2
    assert "cannot include 'PatientID' (0010,0020), LO:" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [source]
    with pytest.raises(UsageError, match="PatientName"):
        ScoreOptions(sources=("x",), dicom_tags=("PatientName",))


def test_no_name_and_no_number_of_the_patient_is_written_anywhere(source, tmp_path, toy_model, capfd):
    """The drawn files' patient is Doe^Secret, SECRET-42."""
    assert b"Doe^Secret" in (source / "0.dcm").read_bytes()
    output = tmp_path / "out.csv"
    score(source, "--model", toy_model, "--output", output, "--dicom-tags", TAGS)
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert len(written) > 500
    out, err = capfd.readouterr()
    assert b"secret" not in (written + out.encode() + err.encode()).lower()


def test_a_bucket_gives_the_same_columns(cloud, source, toy_model, capsys):
    score(source, "--model", toy_model, "--dicom-tags", TAGS)
    local = capsys.readouterr().out
    cloud.buckets.fill("b", str(source), prefix="x/")
    score("gs://b/x", "--model", toy_model, "--dicom-tags", TAGS)
    assert capsys.readouterr().out == local.replace(str(source), "gs://b/x")
    for kind in ("csv", "parquet"):
        output = f"gs://b/out.{kind}"
        assert score("gs://b/x", "--model", toy_model, "--dicom-tags", TAGS, "--output", output) == 3
    assert cloud.buckets.get("b", "out.csv").data.decode() == local.replace(str(source), "gs://b/x")
    import io

    import pyarrow.parquet

    table = pyarrow.parquet.read_table(io.BytesIO(cloud.buckets.get("b", "out.parquet").data))
    assert [tuple(row[name] for name in ("status", *COLUMNS)) for row in table.to_pylist()] == EXPECTED


def test_watching_writes_them_too(tmp_path, toy_model):
    scene = Scene(tmp_path, toy_model)
    fill(tmp_path / "ready")
    with scene.watching(dicom_tags=("SOPInstanceUID",)):
        for path in sorted((tmp_path / "ready").iterdir()):
            path.rename(scene.folder / path.name)
        scene.wait(lambda: len(scene.rows()) == 7)
    found = {Path(row["path"]).name: row["SOPInstanceUID"] for row in scene.rows()}
    assert found == {f"{index}.dcm": f"1.2.3.{index}" for index in range(5)} | {
        "photo.jpg": "",
        "text.txt": "",
    }


def test_each_file_is_parsed_once_whatever_becomes_of_it(source, tmp_path, toy_model, monkeypatch):
    """A picture, one that is cut, and a structured report: each has its attributes, by one parse."""
    from pydicom.data import get_testdata_file

    from wetread.runtime.images.dicom import values

    report = Path(str(get_testdata_file("reportsi.dcm"))).read_bytes()
    (source / "report.dcm").write_bytes(report)
    parsed = []
    parse = values._parse_attributes
    monkeypatch.setattr(values, "_parse_attributes", lambda stream: parsed.append(1) or parse(stream))
    output = tmp_path / "out.csv"
    assert score(source, "--model", toy_model, "--output", output, "--dicom-tags", TAGS) == 3
    with output.open(newline="") as file:
        rows = {Path(row["path"]).name: row for row in csv.DictReader(file)}
    assert len(parsed) == 6
    assert rows["2.dcm"]["status"] == "truncated" and rows["2.dcm"]["SOPInstanceUID"] == "1.2.3.2"
    assert rows["report.dcm"]["status"] == "unsupported"
    assert rows["report.dcm"]["Modality"] == "SR" and rows["report.dcm"]["SOPInstanceUID"]
