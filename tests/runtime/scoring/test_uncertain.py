"""`--uncertain`: a column after `error` that says what lies in the model's band around its threshold."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest

from tests.models import build_model, toy_spec
from tests.runtime.watch.test_watcher import Scene
from wetread.cli import run
from wetread.errors import UsageError
from wetread.runtime.model.spec import Band
from wetread.runtime.scoring.classifier import Classifier
from wetread.runtime.scoring.run import ScoreOptions, score_to_file


@pytest.fixture
def banded(tmp_path: Path, image_folder: Path, toy_model: Path) -> Path:
    """The toy model with a band that holds about half of the test's images."""
    (image_folder / "text.txt").write_bytes(b"no picture")
    scored = [p for p in Classifier(toy_model).score(image_folder) if p.status == "ok"]
    shown = np.array([p.probabilities[1] for p in scored])
    low, high = (float(value) for value in np.quantile(shown, [0.25, 0.75]))
    band = Band(low=low, high=high, rule="images 0.5")
    spec = dataclasses.replace(toy_spec(), threshold=(low + high) / 2, uncertain=band)
    path = tmp_path / "banded.onnx"
    path.write_bytes(build_model(spec))
    return path


def score(*arguments: object) -> int:
    return run(["score", *map(str, arguments), "--quiet"])


def test_it_stands_after_error_in_every_format(banded: Path, image_folder: Path, tmp_path: Path) -> None:
    for kind in ("csv", "jsonl", "parquet"):
        output = tmp_path / f"out.{kind}"
        assert score(image_folder, "--model", banded, "--output", output, "--uncertain") == 3
    by_json = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert list(by_json[0])[-2:] == ["error", "uncertain"]
    band = Classifier(banded).spec.uncertain
    assert band is not None
    for row in by_json:
        inside = None if row["status"] != "ok" else bool(band.low <= row["p_PNEUMONIA"] <= band.high)
        assert row["uncertain"] is inside
    told = [row["uncertain"] for row in by_json]
    assert {True, False, None} == set(told)
    with (tmp_path / "out.csv").open(newline="") as file:
        written = {True: "true", False: "false", None: ""}
        assert [row["uncertain"] for row in csv.DictReader(file)] == [written[one] for one in told]
    table = parquet.read_table(tmp_path / "out.parquet")
    assert str(table.schema.field("uncertain").type) == "bool"
    assert table.column("uncertain").to_pylist() == told


def test_without_the_option_rows_are_as_ever(banded: Path, image_folder: Path, tmp_path: Path) -> None:
    assert score(image_folder, "--model", banded, "--output", tmp_path / "out.csv") == 3
    assert (tmp_path / "out.csv").read_text().splitlines()[0].endswith(",error")
    told = {prediction.uncertain for prediction in Classifier(banded).score(image_folder)}
    assert told == {True, False, None}


def test_it_stands_before_attributes(banded: Path, image_folder: Path, tmp_path: Path) -> None:
    options = ("--uncertain", "--dicom-tags", "Modality")
    assert score(image_folder, "--model", banded, "--output", tmp_path / "out.csv", *options) == 3
    assert (tmp_path / "out.csv").read_text().splitlines()[0].endswith(",error,uncertain,Modality")


def test_a_model_without_a_band_is_refused_before_anything_is_written(
    toy_model: Path, image_folder: Path, tmp_path: Path
) -> None:
    options = ScoreOptions(sources=(str(image_folder),), output=str(tmp_path / "out.csv"), uncertain=True)
    with pytest.raises(UsageError, match="--uncertain-band"):
        score_to_file(Classifier(toy_model), options)
    assert score(image_folder, "--model", toy_model, "--uncertain") == 2
    assert not list(tmp_path.glob("out*"))


def test_a_run_resumes_with_the_same_columns_only(banded: Path, image_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    assert score(image_folder, "--model", banded, "--output", output, "--uncertain") == 3
    whole = output.read_bytes()
    assert score(image_folder, "--model", banded, "--output", output, "--uncertain", "--resume") == 3
    assert score(image_folder, "--model", banded, "--output", output, "--resume") == 1
    assert output.read_bytes() == whole


def test_a_watched_folder_has_it_too(banded: Path, image_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "watched").mkdir()
    scene = Scene(tmp_path / "watched", banded)
    names = sorted(path for path in image_folder.rglob("*") if path.suffix)
    with scene.watching(uncertain=True):
        for number, path in enumerate(names):
            scene.put(f"{number:02d}{path.suffix}", path.read_bytes())
        scene.wait(lambda: len(scene.rows()) == len(names))
    assert {row["uncertain"] for row in scene.rows()} == {"true", "false", ""}
