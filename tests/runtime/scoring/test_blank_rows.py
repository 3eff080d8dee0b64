"""A blank picture's row, wherever rows are written."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import draw_image
from wetread import Classifier
from wetread.runtime.scoring.run import ScoreOptions, score_to_file
from wetread.runtime.shards.merge import MergeOptions, merge_shards
from wetread.runtime.shards.shard import Shard, ShardScorer
from wetread.runtime.sources.manifest_writing import ManifestOptions, make_manifest

NAMES = ["a-whole.jpg", "b-black.png", "c-white.jpg", "d-whole.jpg"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "in"
    place.mkdir()
    flat = {
        name: cv2.imencode(name[-4:], np.full((70, 70), level, np.uint8))[1].tobytes()
        for name, level in (("b-black.png", 0), ("c-white.jpg", 255))
    }
    for seed, name in enumerate(NAMES):
        (place / name).write_bytes(flat.get(name) or draw_image(seed))
    return place


def test_python_has_the_status_and_no_probability(folder, toy_model):
    rows = list(Classifier(toy_model).score(folder))
    assert [row.status for row in rows] == ["ok", "blank", "blank", "ok"]
    assert (rows[1].label, rows[1].probability, rows[1].probabilities) == (None, None, ())
    assert "black" in rows[1].error and "white" in rows[2].error


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_every_format_says_so_and_the_record_counts_it(folder, toy_model, tmp_path, kind):
    output = tmp_path / f"rows.{kind}"
    score_to_file(Classifier(toy_model), ScoreOptions(sources=(str(folder),), output=str(output)))
    if kind == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        rows = parquet.read_table(output).to_pylist()
    elif kind == "csv":
        rows = list(csv.DictReader(output.read_text().splitlines()))
    else:
        rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["status"] for row in rows] == ["ok", "blank", "blank", "ok"]
    assert [row["p_NORMAL"] or None for row in rows][1:3] == [None, None]
    record = json.loads(Path(f"{output}.run.json").read_text())
    assert record["counts"] == {"blank": 2, "ok": 2}


def test_shards_and_their_merge_keep_it(folder, toy_model, tmp_path):
    manifest, shards, merged = (str(tmp_path / name) for name in ("m.manifest", "shards", "merged.csv"))
    whole = tmp_path / "whole.csv"
    score_to_file(Classifier(toy_model), ScoreOptions(sources=(str(folder),), output=str(whole)))
    make_manifest(ManifestOptions(sources=(str(folder),), output=manifest))
    options = ScoreOptions(from_manifest=manifest, output=shards, batch_size=1)
    scorer = ShardScorer(Classifier(toy_model), options)
    for index in range(2):
        scorer.score(Shard(index, 2))
    assert merge_shards(MergeOptions(folder=shards, output=merged)).counts == {"blank": 2, "ok": 2}
    assert Path(merged).read_bytes() == whole.read_bytes()
