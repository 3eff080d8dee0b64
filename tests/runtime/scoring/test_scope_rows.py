"""The columns scope and scope_reason, wherever rows are written, and --refuse-outside."""

from __future__ import annotations

import csv
import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.models import build_model, toy_spec
from tests.runtime.images.dicom.drawing import write_dicom
from tests.scoped import build_scoped, draw_disc, encode
from wetread import Classifier
from wetread.cli import run
from wetread.errors import MachineError, ModelError, UsageError
from wetread.runtime.model.scope import AttributeRule, Scope
from wetread.runtime.scoring.run import ScoreOptions, score_to_file
from wetread.runtime.shards.merge import MergeOptions, merge_shards
from wetread.runtime.shards.shard import Shard, ShardScorer
from wetread.runtime.sources.manifest_writing import ManifestOptions, make_manifest
from wetread.runtime.watch.watcher import WatchOptions, watch_folder

RULES = (
    AttributeRule(keyword="Modality", one_of=("CR", "DX")),
    AttributeRule(keyword="PatientAge", most="005Y"),
)
DISC = draw_disc(900)
CHANGES = {
    "180.png": (np.rot90(DISC, 2), "looks turned by 180 degrees"),
    "left.png": (np.rot90(DISC), "looks turned by 90 degrees to the left"),
    "mirrored.png": (DISC[:, ::-1], "looks mirrored"),
    "negative.png": (np.invert(DISC), "looks a negative"),
    "right.png": (np.rot90(DISC, 3), "looks turned by 90 degrees to the right"),
}


@pytest.fixture(scope="module")
def model() -> Classifier:
    return Classifier(build_scoped(), device="cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "in"
    place.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 1), dtype=np.uint8)
    for name, picture in {"a.png": DISC, "b.png": np.rot90(DISC, 2), "noise.png": noise}.items():
        (place / name).write_bytes(encode(picture))
    (place / "cut.png").write_bytes(encode(DISC)[:-40])
    return place


def test_what_is_like_the_training_images_is_inside(model):
    unlike = model.judge(np.stack([draw_disc(seed) for seed in range(1000, 1200)]))[1]
    assert (unlike <= np.float32(model.spec.scope.unlike.threshold)).mean() > 0.95


def test_a_change_is_outside_and_named(model, tmp_path):
    for name, (picture, _) in CHANGES.items():
        (tmp_path / name).write_bytes(encode(picture))
    rows = {Path(row.path).name: row for row in model.score(tmp_path)}
    assert {name: row.scope_reason for name, row in rows.items()} == {
        name: f"unlike the training images: {reason}" for name, (_, reason) in CHANGES.items()
    }
    assert all((row.scope, row.status) == ("outside", "ok") and row.probabilities for row in rows.values())


def test_a_row_says_inside_outside_or_nothing(model, folder):
    rows = {Path(row.path).name: row for row in model.score(folder)}
    assert {name: row.scope for name, row in rows.items()} == {
        "a.png": "inside",
        "b.png": "outside",
        "cut.png": None,
        "noise.png": "outside",
    }
    assert rows["a.png"].scope_reason is None
    assert rows["noise.png"].scope_reason == "unlike the training images"


def test_probabilities_are_those_of_the_model_without_a_scope(model, folder):
    """Existing weights keep their answers to the bit."""
    bare = Classifier(build_model(toy_spec()), device="cpu")
    images = np.stack([draw_disc(seed) for seed in range(40)])
    assert np.array_equal(model.judge(images)[0], bare.classify(images))
    assert np.array_equal(model.classify(images), bare.classify(images))
    for one, other in zip(model.score(folder), bare.score(folder), strict=True):
        assert one.probabilities == other.probabilities
        assert (other.scope, other.scope_reason) == (None, None)


def test_a_model_without_a_scope_writes_the_columns_it_always_wrote(folder, tmp_path, toy_model):
    output = tmp_path / "rows.csv"
    score_to_file(Classifier(toy_model), ScoreOptions(sources=(str(folder),), output=str(output)))
    header = output.read_bytes().splitlines()[0]
    assert header == b"path,status,label,probability,p_NORMAL,p_PNEUMONIA,error"
    assert "scope" not in json.loads(Path(f"{output}.run.json").read_text())


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("refuse", [False, True])
def test_every_format_has_both_columns_and_the_record_counts_them(model, folder, tmp_path, kind, refuse):
    output = tmp_path / f"rows.{kind}"
    options = ScoreOptions(sources=(str(folder),), output=str(output), refuse_outside=refuse)
    tally = score_to_file(model, options)
    rows = read_rows(output, kind)
    names = ["path", "status", "label", "probability", "p_NORMAL", "p_PNEUMONIA", "error"]
    assert list(rows[0])[:9] == [*names, "scope", "scope_reason"]
    assert [row["scope"] or None for row in rows] == ["inside", "outside", None, "outside"]
    outside = "out_of_scope" if refuse else "ok"
    assert [row["status"] for row in rows] == ["ok", outside, "truncated", outside]
    assert [row["label"] in (None, "") for row in rows] == [False, refuse, True, refuse]
    record = json.loads(Path(f"{output}.run.json").read_text())
    assert record["scope"] == {"inside": 1, "outside": 2} == tally.scope
    assert record["counts"] == tally.counts
    again = score_to_file(model, replace(options, resume=True))
    assert (again.scope, again.resumed) == (tally.scope, 4)


def read_rows(output: Path, kind: str) -> list[dict]:
    if kind == "parquet":
        return pytest.importorskip("pyarrow.parquet").read_table(output).to_pylist()
    lines = output.read_text().splitlines()
    return list(csv.DictReader(lines)) if kind == "csv" else [json.loads(line) for line in lines]


def test_what_is_interrupted_goes_on_counting(model, folder, tmp_path):
    output = tmp_path / "rows.csv"
    options = ScoreOptions(sources=(str(folder),), output=str(output), batch_size=1, workers=1)
    first = score_to_file(model, options, stop=lambda: True)
    assert first.interrupted and first.rows == 1
    assert score_to_file(model, replace(options, resume=True)).scope == {"inside": 1, "outside": 2}


@pytest.mark.parametrize("refuse", [False, True])
def test_shards_and_their_merge_say_the_same(model, folder, tmp_path, refuse):
    manifest, shards, merged, whole = (str(tmp_path / name) for name in ("m", "shards", "m.csv", "w.csv"))
    score_to_file(model, ScoreOptions(sources=(str(folder),), output=whole, refuse_outside=refuse))
    make_manifest(ManifestOptions(sources=(str(folder),), output=manifest))
    scorer = ShardScorer(
        model, ScoreOptions(from_manifest=manifest, output=shards, batch_size=1, refuse_outside=refuse)
    )
    for index in range(2):
        scorer.score(Shard(index, 2))
    merge_shards(MergeOptions(folder=shards, output=merged))
    assert Path(merged).read_bytes() == Path(whole).read_bytes()
    assert json.loads(Path(f"{merged}.run.json").read_text())["scope"] == {"inside": 1, "outside": 2}


@pytest.mark.parametrize("refuse", [False, True])
def test_a_watch_says_it_and_moves_what_it_refuses(model, folder, tmp_path, refuse):
    output, failed = tmp_path / "rows.csv", tmp_path / "failed"
    options = WatchOptions(
        folder=str(folder), output=str(output), failed=str(failed),
        poll=0.05, settle=0.1, patience=0.2, workers=1, refuse_outside=refuse,
    )  # fmt: skip
    over = threading.Event()
    thread = threading.Thread(target=watch_folder, args=(model, options), kwargs={"stop": over.is_set})
    thread.start()
    end, wanted = time.monotonic() + 20, {"cut.png"} | ({"b.png", "noise.png"} if refuse else set())
    while time.monotonic() < end and {path.name for path in failed.glob("*")} != wanted:
        time.sleep(0.05)
    over.set()
    thread.join()
    assert {path.name for path in failed.glob("*")} == wanted
    rows = {Path(row["path"]).name: row["scope"] for row in csv.DictReader(output.read_text().splitlines())}
    assert rows == {"a.png": "inside", "b.png": "outside", "cut.png": "", "noise.png": "outside"}


def test_refusing_needs_a_scope(toy_model, folder, tmp_path, capfd):
    options = ScoreOptions(sources=(str(folder),), output=str(tmp_path / "x.csv"), refuse_outside=True)
    with pytest.raises(UsageError, match="--scope"):
        score_to_file(Classifier(toy_model), options)
    assert run(["score", str(folder), "--model", str(toy_model), "--refuse-outside"]) == 2
    assert "needs a model with a scope" in capfd.readouterr().err


def test_the_command_refuses_what_is_outside(folder, tmp_path, capfdbinary):
    file = tmp_path / "scoped.onnx"
    file.write_bytes(build_scoped())
    assert run(["score", str(folder), "--model", str(file), "--refuse-outside"]) == 3
    said = capfdbinary.readouterr()
    assert said.out.count(b",out_of_scope,,,,,") == 2
    assert b"2 outside the model's scope" in said.err


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"Modality": "DX"}, None),
        ({"Modality": "CT"}, "Modality is CT, not CR or DX"),
        ({"Modality": "DX", "PatientAge": "004Y"}, None),
        ({"Modality": "DX", "PatientAge": "044Y"}, "PatientAge is not to 005Y"),
        ({"Modality": "MR", "PatientAge": "044Y"}, "Modality is MR, not CR or DX; PatientAge is not to 005Y"),
    ],
)
def test_attributes_are_read_of_dicom_files_alone(tmp_path, extra, reason):
    model = Classifier(build_scoped((), RULES), device="cpu")
    window = {"WindowCenter": "128", "WindowWidth": "256"}
    (tmp_path / "a.dcm").write_bytes(write_dicom(DISC[..., 0], bits=8, extra=window | extra))
    (tmp_path / "b.png").write_bytes(encode(DISC))
    dicom, png = model.score(tmp_path)
    assert (png.scope, png.scope_reason) == ("inside", None)
    assert (dicom.scope, dicom.scope_reason) == ("outside" if reason else "inside", reason)


def test_rules_work_without_a_measure(tmp_path):
    spec = replace(toy_spec(), scope=Scope(purpose="Discs", attributes=RULES))
    model = Classifier(build_model(spec), device="cpu")
    (tmp_path / "a.dcm").write_bytes(write_dicom(DISC[..., 0], bits=8, extra={"Modality": "CT"}))
    (tmp_path / "noise.png").write_bytes(encode(np.random.default_rng(0).integers(0, 256, (64, 64, 1))))
    assert [row.scope for row in model.score(tmp_path)] == ["outside", "inside"]
    with pytest.raises(ModelError, match="unlike"):
        model.judge(DISC[None])


def test_a_file_whose_graph_lacks_the_output_is_refused():
    unlike = Classifier(build_scoped(), device="cpu").spec.scope.unlike
    spec = replace(toy_spec(), scope=Scope(purpose="Discs", unlike=unlike))
    with pytest.raises(ModelError, match="second output of .* must be 'unlike'"):
        Classifier(build_model(spec), device="cpu")


def test_a_machine_that_measures_otherwise_is_refused(monkeypatch):
    judge = Classifier.judge

    def shifted(self, images):
        probabilities, unlike = judge(self, images)
        return probabilities, unlike * np.float32(1.3)

    monkeypatch.setattr(Classifier, "judge", shifted)
    with pytest.raises(MachineError, match="'unlike'"):
        Classifier(build_scoped(), device="cpu")


def test_verify_covers_the_output(tmp_path, capfd):
    (tmp_path / "m.onnx").write_bytes(build_scoped())
    assert run(["verify", str(tmp_path / "m.onnx")]) == 0
    assert "scope           ok" in capfd.readouterr().out
