from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import draw_image
from tests.models import build_model, toy_spec
from wetread.cli import run
from wetread.errors import DatasetError, OutputError, SourceError, UsageError
from wetread.evaluate.evaluation import EvaluateOptions, evaluate
from wetread.evaluate.metrics import measure
from wetread.evaluate.outputs import check_output, encode_predictions, write_outputs
from wetread.runtime.model.spec import Band, ModelSpec
from wetread.runtime.scoring.classifier import Classifier

LABELS = ("NORMAL", "PNEUMONIA")


def draw_folders(folder: Path, *, images: int = 12, labels: tuple[str, ...] = LABELS) -> Path:
    """DATA/<label>/person<k>_<i>.jpg: two images for each patient."""
    for column, label in enumerate(labels):
        (folder / label).mkdir(parents=True)
        for index in range(images):
            number = column * images + index
            (folder / label / f"person{number // 2}_{index}.jpg").write_bytes(draw_image(number))
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return draw_folders(tmp_path / "data")


@pytest.fixture(scope="module")
def model(toy_model: Path) -> Classifier:
    return Classifier(toy_model, device="cpu")


def judge(model: Classifier, data: Path, **options: object):
    return evaluate(model, EvaluateOptions(**{"data": str(data), "resamples": 20, **options}))


def write_run(folder: Path, sides: dict[str, tuple[str, str, str]], *, data: str = "") -> Path:
    """A RUN directory with a split: name -> (label, group, side)."""
    folder.mkdir()
    rows = [f"{name},{','.join(row)}\n" for name, row in sides.items()]
    (folder / "splits.csv").write_text("name,label,group,split\n" + "".join(rows))
    (folder / "config.json").write_text(json.dumps({"group_regex": r"person\d+"}))
    (folder / "history.csv").write_text("epoch,loss,val_loss\n1,0.5,0.6\n2,0.4,0.55\n")
    (folder / "inputs.json").write_text(json.dumps({"data": data}))
    return folder


def sides_of(data: Path) -> dict[str, tuple[str, str, str]]:
    """Every fourth image is on the side 'val', its patient called q<k>."""
    names = sorted(path.relative_to(data).as_posix() for path in data.rglob("*.jpg"))
    return {
        name: (name.split("/")[0], f"q{i}", "val" if i % 4 == 0 else "train") for i, name in enumerate(names)
    }


def test_it_scores_as_score_does_and_measures_as_measure_does(model, data) -> None:
    found = judge(model, data)
    rows = list(model.score(data))
    assert list(found.scores.predictions) == rows
    truth = np.array([LABELS.index(Path(row.path).parent.name) for row in rows])
    patients = [Path(row.path).name.split("_")[0] for row in rows]
    probabilities = np.array([row.probabilities for row in rows], np.float32)
    expected = measure(probabilities, truth, model.spec, groups=patients, resamples=20)
    assert found.metrics == expected
    assert (found.metrics.images, found.metrics.patients) == (24, 12)
    assert (found.notes, found.unscored, found.strays) == ((), 0, ())


def test_one_worker_or_many_say_the_same(model, data) -> None:
    one, many = (judge(model, data, workers=w, batch_size=5).to_dict() for w in (1, 3))
    assert one == many


def test_files_without_a_score_are_counted_and_listed_and_never_judged(model, data) -> None:
    (data / "NORMAL" / "person0_cut.jpg").write_bytes(draw_image(1)[:400])
    (data / "PNEUMONIA" / "notes.txt").write_text("no image")
    (data / "readme.txt").write_text("a stray")
    found = judge(model, data)
    assert found.unscored == 2
    assert found.metrics.images == 24
    plain = found.to_dict()["data"]
    assert plain["unscored"] == {"not_an_image": 1, "truncated": 1}
    assert (plain["images"], plain["unlabelled"]) == (26, 1)
    assert found.notes == (
        "2 images have no score and are left out of the metrics.",
        "No patient was found in the names of 1 of 26 images: each counts as one patient. If patients have "
        "several images, the intervals are too narrow: give --group-regex.",
    )
    rows = list(csv.DictReader(encode_predictions(found.scores).decode().splitlines()))
    assert len(rows) == 26
    assert {Path(row["path"]).name: row["status"] for row in rows if row["status"] != "ok"} == {
        "person0_cut.jpg": "truncated",
        "notes.txt": "not_an_image",
    }


def test_identical_files_are_one_patient(model, data) -> None:
    (data / "PNEUMONIA" / "person99_0.jpg").write_bytes(draw_image(0))
    found = judge(model, data)
    assert found.metrics.patients == 12
    assert len({found.scores.groups[i] for i, im in enumerate(found.scores.images) if "99" in im.name}) == 1


def test_an_expression_of_ones_own_finds_patients(model, data) -> None:
    assert judge(model, data, group_regex=r"^[A-Z]+").metrics.patients == 2


def test_the_fingerprint_is_that_of_training(model, data) -> None:
    """As wetread.train.dataset computes it; tests/train holds that side to the same rule."""
    files = sorted(path for path in data.rglob("*.jpg"))
    lines = sorted(
        f"{path.relative_to(data).as_posix()}\n{hashlib.sha256(path.read_bytes()).hexdigest()}\n"
        for path in files
    )
    expected = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert judge(model, data).to_dict()["data"]["fingerprint"] == expected
    spec = dataclasses.replace(toy_spec(), training={"data": expected})
    trained = judge(Classifier(build_model(spec), device="cpu"), data)
    assert [note[:57] for note in trained.notes] == [
        "The model was trained on these images: the numbers say no"
    ]


@pytest.mark.parametrize("where", ["model", "run"])
def test_the_split_of_a_run(model, data, tmp_path, where) -> None:
    sides = sides_of(data)
    run_folder = write_run(tmp_path / "run", sides, data="other")
    spec = dataclasses.replace(toy_spec(), training={"data": "mine"}) if where == "run" else model.spec
    judged = model if where == "model" else Classifier(build_model(spec), device="cpu")
    found = judge(judged, data, run=str(run_folder), split="val")
    names = [image.name for image in found.scores.images]
    assert names == sorted(name for name, (_, _, side) in sides.items() if side == "val")
    assert set(found.scores.groups) == {sides[name][1] for name in names}
    notes = [] if where == "model" else ["The model was not trained on the data of this RUN"]
    assert [note.split(":")[0] for note in found.notes] == notes
    assert [row["val_loss"] for row in found.run.history] == [0.6, 0.55]


def test_images_that_a_run_learned_from_are_counted(model, data, tmp_path) -> None:
    """Without a split, splits.csv of the run still says which of the images are no new patients."""
    sides = sides_of(data)
    for name in [name for name, row in sides.items() if row[2] == "train"][:5]:
        sides[name] = (*sides[name][:2], "cal")
    sides["NORMAL/gone.jpg"] = ("NORMAL", "q99", "train")
    folder = write_run(tmp_path / "run", sides)
    (data / "NORMAL" / "person0_new.jpg").write_bytes(draw_image(99))

    def notes_of(**options: object) -> list[str]:
        found = judge(model, data, run=str(folder), **options)
        return [note for note in found.notes if "splits.csv" in note]

    words = "the numbers are too good for new patients. Evaluate with --split val."
    assert notes_of() == [
        f"By splits.csv of the RUN, 13 of these 25 images trained its network (train): {words}",
        "By splits.csv of the RUN, 5 of these 25 images were set aside to fit its temperature and threshold "
        f"(cal): {words}",
    ]
    assert notes_of(split="val") == []
    assert notes_of(split="cal") == [
        "By splits.csv of the RUN, 5 of these 5 images were set aside to fit its temperature and threshold "
        f"(cal): {words}"
    ]
    (data / "NORMAL" / "gone.jpg").write_bytes(draw_image(98))
    trained = judge(model, data, run=str(folder), split="train").notes
    assert [note.split(":")[0] for note in trained if "train" in note] == [
        "The model was trained on these images"
    ]


def test_a_split_that_does_not_fit_is_refused(model, data, tmp_path) -> None:
    sides = sides_of(data)
    folder = write_run(tmp_path / "run", sides)
    with pytest.raises(UsageError, match="one of train, val, not 'test'"):
        judge(model, data, run=str(folder), split="test")
    val = next(name for name, row in sides.items() if row[2] == "val")
    (data / val).rename(data / "PNEUMONIA" / "moved.jpg")
    with pytest.raises(DatasetError, match=f"lacks 1 of the . images of val .*'{val}' among them"):
        judge(model, data, run=str(folder), split="val")
    with pytest.raises(SourceError, match="RUN directory"):
        judge(model, data, run=str(data), split="val")
    with pytest.raises(UsageError, match="or give --run"):
        judge(model, data, split="val")


def test_folders_of_parts(model, tmp_path) -> None:
    for part, images in (("train", 6), ("val", 4), ("test", 2)):
        draw_folders(tmp_path / "data" / part, images=images)
    with pytest.raises(DatasetError, match="test, train, val. Name one of them, or choose it with --split"):
        judge(model, tmp_path / "data")
    assert judge(model, tmp_path / "data", split="test").metrics.images == 4
    assert judge(model, tmp_path / "data" / "val").metrics.images == 8
    notes = judge(model, tmp_path / "data", split="train").notes
    assert [note.split(":")[0] for note in notes[:1]] == ["The model was trained on these images"]


def test_labels_that_the_model_does_not_know_are_refused(model, data, tmp_path) -> None:
    (data / "COVID").mkdir()
    (data / "COVID" / "a.jpg").write_bytes(draw_image(1))
    with pytest.raises(DatasetError, match="NORMAL, PNEUMONIA, and .* other names: COVID"):
        judge(model, data)
    with pytest.raises(DatasetError, match="none of them in a label's folder"):
        judge(model, data / "NORMAL")
    with pytest.raises(UsageError, match="--resamples"):
        judge(model, data, resamples=-1)


def test_one_label_alone_is_judged_as_far_as_it_can_be(model, data) -> None:
    for path in (data / "NORMAL").iterdir():
        path.unlink()
    found = judge(model, data)
    plain = found.to_dict()["metrics"]
    assert plain["specificity"] is None and plain["auc"] is None
    assert plain["accuracy"] == plain["sensitivity"]
    assert found.notes[0] == "No image of NORMAL: metrics that need one are not defined."


def test_nothing_readable_is_an_error(model, tmp_path) -> None:
    (tmp_path / "data" / "NORMAL").mkdir(parents=True)
    (tmp_path / "data" / "NORMAL" / "a.jpg").write_bytes(b"")
    with pytest.raises(DatasetError, match="No image in .* has a score: 1 empty"):
        judge(model, tmp_path / "data")


def test_two_models_are_compared_on_what_both_scored(model, data) -> None:
    other = Classifier(build_model(toy_spec(size=32), seed=5), device="cpu")
    (data / "NORMAL" / "person0_cut.jpg").write_bytes(draw_image(1)[:400])
    options = EvaluateOptions(data=str(data), resamples=20)
    found = evaluate(model, options, other=other)
    assert found.comparison.images == 24
    assert found.unscored == 2
    alone = evaluate(other, options)
    difference = found.metrics.auc - alone.metrics.auc
    assert found.comparison.differences["auc"][0] == pytest.approx(difference)
    assert json.dumps(found.to_dict(), allow_nan=False)


def run_command(*arguments: object) -> int:
    return run(["evaluate", *map(str, arguments)])


def test_the_command_prints_and_writes(toy_model, data, tmp_path, capsys) -> None:
    output = tmp_path / "out"
    assert run_command(data, "--model", toy_model, "--output", output, "--resamples", 20) == 0
    printed = capsys.readouterr().out
    metrics = json.loads((output / "metrics.json").read_text())
    values = metrics["metrics"]
    low, high = values["intervals"]["balanced_accuracy"]
    line = next(line for line in printed.splitlines() if line.startswith("balanced accuracy"))
    assert line.split()[2:] == [f"{values['balanced_accuracy']:.4f}", f"{low:.4f}", "to", f"{high:.4f}"]
    rows = (output / "predictions.csv").read_text().splitlines()
    assert rows[0] == "path,status,label,probability,p_NORMAL,p_PNEUMONIA,error,truth,patient"
    assert len(rows) == 25
    assert sorted(path.name for path in output.iterdir()) == [
        "metrics.json",
        "predictions.csv",
        "report.html",
    ]
    assert run_command(data, "--model", toy_model, "--output", output) == 1
    assert "--overwrite" in capsys.readouterr().err
    (data / "NORMAL" / "empty.jpg").write_bytes(b"")
    assert run_command(data, "--model", toy_model, "--output", output, "--overwrite", "--resamples", 0) == 3
    assert "empty.jpg: The file is empty: it has 0 bytes." in capsys.readouterr().out
    assert run_command(data, "--model", toy_model, "--overwrite") == 2


def test_the_packaged_model_is_judged_where_none_is_named(data, capsys) -> None:
    assert run_command(data, "--resamples", 0) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0].split()[:3] == ["model", "chest-xray.onnx", "(int8,"]
    assert printed.err.startswith("wetread: no --model given: using the packaged chest-xray.onnx,")


def test_the_command_compares_and_knows_three_labels(tmp_path, capsys) -> None:
    labels = ("a", "b", "c")
    data = draw_folders(tmp_path / "data", images=6, labels=labels)
    models = []
    for seed in (0, 1):
        models.append(tmp_path / f"m{seed}.onnx")
        models[-1].write_bytes(build_model(toy_spec(labels=labels), seed=seed))
    output = tmp_path / "out"
    code = run_command(data, "-m", models[0], "--compare", models[1], "-o", output, "--resamples", 20)
    printed = capsys.readouterr().out
    assert code == 0
    assert "McNemar (exact binomial)" in printed
    assert "DeLong, AUC of c" in printed
    assert "patients repeat" in printed
    assert "sensitivity" in printed.split("truth")[1]
    assert "sensitivity" not in printed.split("truth")[0]
    comparison = json.loads((output / "metrics.json").read_text())["comparison"]
    assert (comparison["first"], comparison["second"], comparison["images"]) == ("m0.onnx", "m1.onnx", 18)
    assert len((output / "predictions.compared.csv").read_text().splitlines()) == 19


def test_an_output_that_cannot_be_is_refused_before_scoring(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Choose another --output"):
        check_output(str(tmp_path / "file"), overwrite=False)


def test_names_with_odd_characters_keep_their_rows(model, tmp_path) -> None:
    data = draw_folders(tmp_path / "data", images=2)
    odd = ["a,b.jpg", 'q"uote.jpg', "line\rend.jpg", "two\nlines.jpg", "ünï.jpg", "bad\udcff.jpg"]
    for name in odd:
        (data / "NORMAL" / name).write_bytes(draw_image(3))
    found = judge(model, data)
    (tmp_path / "out").mkdir()
    write_outputs(found, str(tmp_path / "out"))
    with (tmp_path / "out" / "predictions.csv").open(
        encoding="utf-8", errors="surrogateescape", newline=""
    ) as lines:
        names = [Path(row["path"]).name for row in csv.DictReader(lines)]
    assert set(odd) < set(names)
    assert len(names) == 10


def test_judging_loads_no_tensorflow(toy_model, data) -> None:
    code = (
        "import sys\nfrom wetread.cli import run\n"
        f"assert run(['evaluate', {str(data)!r}, '--model', {str(toy_model)!r}, '--resamples', '5']) == 0\n"
        "assert not {'tensorflow', 'keras', 'onnx', 'sklearn', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_real_x_rays_of_a_split(xray_data, model, tmp_path) -> None:
    """Every hundredth real X-ray: patients by the names that the data set has."""
    folder = xray_data / "chest-xray-224"
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpeg"))[::100]
    run_folder = write_run(tmp_path / "run", {name: (name.split("/")[0], name, "val") for name in names})
    found = judge(model, folder, run=str(run_folder), split="val")
    assert (found.metrics.images, found.unscored) == (len(names), 0)
    assert isinstance(found.scores.spec, ModelSpec)


def test_what_temperature_and_band_did_is_told(tmp_path: Path) -> None:
    data = draw_folders(tmp_path / "data", images=20)
    band = Band(low=0.3, high=0.8, rule="images 0.5")
    spec = dataclasses.replace(toy_spec(), temperature=2.0, uncertain=band)
    evaluation = evaluate(Classifier(build_model(spec), device="cpu"), EvaluateOptions(data=str(data)))
    told, scores = evaluation.to_dict(), evaluation.scores
    shown = scores.probabilities(scores.scored)
    # The toy's graph has no temperature in it, so the spec's makes "before" twice as sure.
    logits = np.log(shown[:, 1].astype(float)) - np.log(shown[:, 0].astype(float))
    before = 1 / (1 + np.exp(-2 * logits))
    expected = measure(np.stack([1 - before, before], axis=1), scores.truth(scores.scored), spec)
    assert told["calibration"]["temperature"] == 2.0
    assert told["calibration"]["at_temperature_1"]["log_loss"] == pytest.approx(expected.log_loss, rel=1e-5)
    inside = (shown[:, 1] >= np.float32(0.3)) & (shown[:, 1] <= np.float32(0.8))
    wrong = (shown[:, 1] >= 0.5) != (scores.truth(scores.scored) == 1)
    assert told["uncertain"] == {
        "low": 0.3,
        "high": 0.8,
        "rule": "images 0.5",
        "images": int(inside.sum()),
        "errors": int((inside & wrong).sum()),
        "all_errors": wrong.sum(),
    }
    assert 0 < inside.sum() < len(inside)
    plain = evaluate(Classifier(build_model(toy_spec()), device="cpu"), EvaluateOptions(data=str(data)))
    assert (plain.to_dict()["calibration"], plain.to_dict()["uncertain"]) == (None, None)
