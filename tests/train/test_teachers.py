from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import wetread
from tests.models import build_model, toy_spec
from tests.runtime.gcs_server import Server
from tests.train.drawn import draw_folder
from tests.train.teacher_runs import TRAINING, make_teacher
from tests.train.test_fit import StopError, configure, load_weights, stop_after
from wetread.errors import ConfigError, OutputError
from wetread.train import teachers
from wetread.train.augment import Policy, augment_images
from wetread.train.config import TrainConfig, join_teachers, split_teachers
from wetread.train.dataset import load_dataset
from wetread.train.defaults import settle
from wetread.train.events import TeachersFound, describe_event
from wetread.train.fit import train
from wetread.train.network import predict_probabilities
from wetread.train.teachers import open_teachers


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("taught") / "data", counts={"bar": 32, "disc": 32})


@pytest.fixture(scope="module")
def teacher(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(train(configure(data, tmp_path_factory.mktemp("teacher") / "run", epochs=6)).run)


@pytest.fixture(scope="module")
def folded(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("folded") / "run"
    return Path(train(configure(data, run, epochs=1, folds=2, seed=3)).run)


def learn(data: Path, run: Path, teacher: Path | str, **values) -> TrainConfig:
    return configure(data, run, **{"teacher": str(teacher), "teacher_share": 1.0, **values})


def test_a_student_learns_from_answers_alone(data: Path, teacher: Path, tmp_path: Path) -> None:
    """The teacher's labels are exchanged: who learns from its answers alone learns them, not the truth."""
    liar = tmp_path / "liar"
    shutil.copytree(teacher, liar)
    spec = json.loads((liar / "spec.json").read_text())
    spec["labels"], spec["positive"] = spec["labels"][::-1], spec["labels"][0]
    (liar / "spec.json").write_text(json.dumps(spec))
    told: list = []
    result = train(learn(data, tmp_path / "run", liar, epochs=6), on_event=told.append)
    assert result.metrics["validation"]["accuracy"] <= 0.25
    found = next(event for event in told if isinstance(event, TeachersFound))
    assert (found.networks, found.share, found.unknown) == (1, 1.0, ())
    assert describe_event(found) == "teachers: 1 network, 1 of the loss, temperature 1"
    assert result.spec.training["teachers"] == 1


def test_a_teacher_is_asked_about_each_augmented_view(data: Path, teacher: Path, tmp_path: Path) -> None:
    import keras

    config = settle(learn(data, tmp_path / "run", teacher, teacher_temperature=1.0))
    found, policy = load_dataset(config), Policy(rotate=20, noise=0.1)
    opened = open_teachers(config, found, policy, on_event=lambda _: None)
    positions = found.select("train")[:9]
    model = keras.models.load_model(teacher / "model.keras", compile=False)
    for epoch in (1, 2):
        views = augment_images(
            found.pixels[found.rows[positions]], policy, indices=positions, seed=0, epoch=epoch
        )
        answers = opened.answer(views, positions, epoch)
        expected = predict_probabilities(model, views, np.arange(9))
        np.testing.assert_allclose(answers, expected, atol=1e-5)


def test_a_teacher_of_another_size_sees_the_same_change(data: Path, teacher: Path, tmp_path: Path) -> None:
    """Mirror images by chance: both see the same of them mirrored, each at its own size."""
    config, policy = settle(learn(data, tmp_path / "run", teacher, size=40)), Policy(flip=0.5)
    found = load_dataset(config)
    opened = open_teachers(config, found, policy, on_event=lambda _: None)
    seen: list[np.ndarray] = []
    (member,) = opened.members
    spy = replace(member, answer=lambda images: seen.append(images) or member.answer(images))
    positions = found.select("train")[:30]
    plain = found.pixels[found.rows[positions]]
    views = augment_images(plain, policy, indices=positions, seed=0, epoch=4)
    replace(opened, members=(spy,)).answer(views, positions, 4)
    small = member.pixels[found.rows[positions]]
    assert small.shape == (30, 20, 20, 1)
    mirrored = [not np.array_equal(view, image) for view, image in zip(views, plain, strict=True)]
    assert 5 < sum(mirrored) < 25
    for view, image, turned in zip(seen[0], small, mirrored, strict=True):
        np.testing.assert_array_equal(view, image[:, ::-1] if turned else image)


def test_a_model_file_teaches_and_what_it_knows_is_doubted(data: Path, tmp_path: Path) -> None:
    model = tmp_path / "toy.onnx"
    model.write_bytes(build_model(toy_spec(labels=("disc", "bar"), size=16)))
    told: list = []
    train(learn(data, tmp_path / "run", model, epochs=1, teacher_share=0.5), on_event=told.append)
    (line,) = [describe_event(event) for event in told if isinstance(event, TeachersFound)]
    assert line == (
        "teachers: 1 network, 0.5 of the loss, temperature 1\n"
        "warning: which images trained toy.onnx is not known. Where they validate "
        "here, the figures are too good"
    )


def test_a_resumed_run_is_the_same(data: Path, teacher: Path, tmp_path: Path) -> None:
    config = learn(data, tmp_path / "whole", teacher, teacher_share=0.6)
    train(config)
    broken = replace(config, output=str(tmp_path / "broken"))
    with pytest.raises(StopError):
        train(broken, on_event=stop_after(2))
    moved = tmp_path / "elsewhere"
    shutil.copytree(teacher, moved)
    train(replace(broken, teacher=str(moved)), resume=True)
    for one, other in zip(load_weights(tmp_path / "whole"), load_weights(tmp_path / "broken"), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def begun(data: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """A student with one epoch behind it."""
    config = learn(data, tmp_path_factory.mktemp("begun") / "run", teacher, validation=0.25)
    with pytest.raises(StopError):
        train(config, on_event=stop_after(1))
    return config


@pytest.mark.parametrize("change", ["network", "labels", "share", "none", "gone"])
def test_a_run_resumes_with_its_own_teacher(
    begun: TrainConfig, teacher: Path, folded: Path, tmp_path: Path, change: str
) -> None:
    other = tmp_path / "other"
    shutil.copytree(teacher, other)
    config = replace(begun, teacher=str(other))
    if change == "network":
        (other / "model.keras").write_bytes((folded / "model.keras").read_bytes())
        match = "The teachers changed since"
    elif change == "labels":
        spec = json.loads((other / "spec.json").read_text())
        (other / "spec.json").write_text(json.dumps({**spec, "labels": spec["labels"][::-1]}))
        match = "The teachers changed since"
    elif change == "share":
        config, match = replace(config, teacher_share=0.5), r"began with teacher_share 1\.0, not 0\.5"
    elif change == "none":
        config, match = replace(begun, teacher=None, teacher_share=0.7), r"began with teacher '.*', not None"
    else:
        shutil.rmtree(other)
        match = "'.*other' is neither. There is nothing of that name"
    with pytest.raises(ConfigError, match=match):
        train(config, resume=True)


def test_a_run_that_began_without_a_teacher_takes_none(data: Path, teacher: Path, tmp_path: Path) -> None:
    config = configure(data, tmp_path / "run")
    with pytest.raises(StopError):
        train(config, on_event=stop_after(1))
    with pytest.raises(ConfigError, match=r"began with teacher None, not '.*run'"):
        train(replace(config, teacher=str(teacher)), resume=True)


def test_a_finished_run_needs_no_teacher_any_more(data: Path, tmp_path: Path) -> None:
    teacher = make_teacher(tmp_path / "teacher", ["elsewhere/1.png"])
    config = learn(data, tmp_path / "run", teacher, epochs=1)
    train(config)
    shutil.rmtree(teacher)
    assert train(config, resume=True).new_epochs == 0
    with pytest.raises(OutputError, match="already holds a finished run"):
        train(replace(config, teacher=config.output))


def test_a_teacher_that_saw_the_validating_patients_is_refused(
    data: Path, teacher: Path, tmp_path: Path
) -> None:
    match = r"patients who are held out here \(\d+, such as \w+/person\d+_\d+\.\w+\): .*the same --seed"
    with pytest.raises(ConfigError, match=match):
        train(learn(data, tmp_path / "run", teacher, seed=5))
    assert not (tmp_path / "run" / "config.json").exists()


def test_each_fold_learns_from_the_same_fold(
    data: Path, folded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    real = teachers.open_member
    monkeypatch.setattr(
        teachers,
        "open_member",
        lambda place, *rest: opened.append(place.path.relative_to(folded).as_posix()) or real(place, *rest),
    )
    train(learn(data, tmp_path / "run", folded, epochs=1, folds=2, seed=3))
    assert opened == ["fold-0", "fold-1", "."]


def test_networks_of_folds_answer_where_the_whole_run_may_not(
    data: Path, folded: Path, tmp_path: Path
) -> None:
    """DATA/val of a student holds the patients of one fold: that fold's network never saw them."""
    rows = [line.split(",") for line in (folded / "fold-1" / "splits.csv").read_text().splitlines()[1:]]
    parted = tmp_path / "parted"
    for name, *_, side in rows:
        place = parted / ("train" if side == "train" else "val") / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(data / name, place)
    told: list = []
    train(learn(parted, tmp_path / "run", folded, epochs=1), on_event=told.append)
    (found,) = [event for event in told if isinstance(event, TeachersFound)]
    assert found.networks == 1


def test_another_hospitals_patients_are_others(data: Path, teacher: Path, tmp_path: Path) -> None:
    """The same numbers in other names are no one whom the teacher saw."""
    other = tmp_path / "data"
    for path in data.rglob("person*"):
        place = other / path.parent.name / f"{path.stem}_b{path.suffix}"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    train(learn(other, tmp_path / "run", teacher, epochs=1, seed=5))


def test_a_teacher_that_names_the_same_files_otherwise_is_doubted(data: Path, tmp_path: Path) -> None:
    teacher = make_teacher(tmp_path / "teacher", [f"scans/{path.name}" for path in data.rglob("person1_*")])
    config, told = settle(learn(data, tmp_path / "run", teacher)), []
    open_teachers(config, load_dataset(config), Policy(), on_event=told.append)
    (line,) = map(describe_event, told)
    assert line.endswith(
        "which images trained teacher is not known. Where they validate here, the figures are too good"
    )


@pytest.mark.parametrize("difference", [{}, {"seed": 1}, {"data": "1" * 64}], ids=["its own", "seed", "data"])
def test_a_model_file_in_its_runs_folder_is_of_that_run(data: Path, tmp_path: Path, difference: dict) -> None:
    """What trained the run trained the file that was exported from it, and no other that lies there."""
    config = settle(learn(data, tmp_path / "run", tmp_path / "teacher" / "model.onnx"))
    found = load_dataset(config)
    trained, held = (str(np.array(found.names)[found.select(split)][0]) for split in ("train", "val"))
    spec = replace(toy_spec(labels=("bar", "disc"), size=20), training={**TRAINING, **difference})
    told: list = []
    for names in ([trained], [trained, held]):
        make_teacher(tmp_path / "teacher", names)
        (tmp_path / "teacher" / "model.onnx").write_bytes(build_model(spec))
        if len(names) == 1 or difference:
            open_teachers(config, found, Policy(), on_event=told.append)
        else:
            with pytest.raises(ConfigError, match=rf"held out here \(1, such as {held}\)"):
                open_teachers(config, found, Policy(), on_event=told.append)
        shutil.rmtree(tmp_path / "teacher")
    assert {event.unknown for event in told} == {("model.onnx",) if difference else ()}


def test_every_other_option_goes_with_a_teacher(tmp_path: Path) -> None:
    """Three labels in any order, a softmax, colour for gray, another size, a model file, a comma."""
    labels = ("bar", "disc", "ring")
    data = draw_folder(tmp_path / "data", counts=dict.fromkeys(labels, 24), color=True)
    first = make_teacher(tmp_path / "a, b" / "first", ["x/1"], labels=labels[::-1], height=24, color="rgb")
    second = tmp_path / "second.onnx"
    second.write_bytes(build_model(toy_spec(labels=(*labels[1:], labels[0]), size=20)))
    values = {
        "architecture": "tests.train.networks:softmax",
        "loss": "focal",
        "label_smoothing": 0.1,
        "best": "loss",
        "ema": 0.9,
        "calibration_split": 0.2,
        "subset": 60,
        "class_weight": "bar=2",
        "teacher": join_teachers([str(first), str(second)]),
        "teacher_share": 0.5,
    }
    config = configure(data, tmp_path / "run", color="gray", **values)
    assert split_teachers(config.teacher) == [str(first), str(second)]
    told: list = []
    result = train(config, on_event=told.append)
    assert next(event for event in told if isinstance(event, TeachersFound)).unknown == ("second.onnx",)
    assert result.spec.training["teachers"] == 2
    assert result.spec.head == "softmax"
    assert "operating_point" in result.metrics
    assert np.isfinite([row["loss"] for row in result.metrics["history"]]).all()


def test_images_in_a_bucket_are_read_for_the_teacher_too(cloud: Server, data: Path, tmp_path: Path) -> None:
    cloud.buckets.fill("b", str(data), prefix="data/")
    teacher = make_teacher(tmp_path / "teacher", ["elsewhere/1.png"], height=28, width=12, color="rgb")
    answers = []
    for place in (str(data), "gs://b/data"):
        config = settle(learn(data, tmp_path / "run", teacher, subset=40, cache=str(tmp_path / "cache")))
        config = replace(config, data=place)
        found = load_dataset(config)
        opened = open_teachers(config, found, Policy(rotate=20), on_event=lambda _: None)
        positions = found.select("train")
        answers.append(opened.answer(found.pixels[found.rows[positions]], positions, 1))
    assert np.ptp(answers[0], axis=0).min() > 0
    np.testing.assert_array_equal(*answers)


def test_teachers_of_one_recipe_share_their_views(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"a": 24, "b": 24, "c": 28, "d": 20}
    made = [make_teacher(tmp_path / name, ["x/1"], height=h, width=h) for name, h in sizes.items()]
    config = settle(learn(data, tmp_path / "run", join_teachers(map(str, made))))
    found = load_dataset(config)
    opened = open_teachers(config, found, Policy(flip=0.5), on_event=lambda _: None)
    changed: list[int] = []
    real = teachers.augment_images
    monkeypatch.setattr(
        teachers,
        "augment_images",
        lambda images, *a, **k: changed.append(len(images[0])) or real(images, *a, **k),
    )
    positions = found.select("train")[:4]
    opened.answer(found.pixels[found.rows[positions]], positions, 1)
    assert changed == [24, 28]


def test_what_is_no_teacher_is_named(data: Path, teacher: Path, tmp_path: Path) -> None:
    def refuse(name: str, match: str, **values) -> None:
        with pytest.raises(ConfigError, match=match):
            train(learn(data, tmp_path / "run", name, **values))

    refuse(str(tmp_path / "nothing"), "teacher must be a finished run or a model file")
    refuse(str(data), "neither. This folder has no model.keras")
    refuse(str(next(data.rglob("*.png"))), "neither. Of another Keras file")
    refuse(str(teacher / "model.keras"), f"neither. Name the run's folder: {teacher}")
    refuse(f"{tmp_path}/a,b", "write a comma in a name twice")
    refuse("gs://bucket/run", "is in a bucket")
    refuse(f"{teacher}, ", "a teacher is empty")
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "config.json").write_text("{}")
    refuse(str(begun), "is not finished. Continue it with --resume first")
    third = draw_folder(tmp_path / "third", counts={"bar": 8, "disc": 8, "ring": 8})
    with pytest.raises(ConfigError, match="answers bar, disc, and the labels here are bar, disc, ring"):
        train(learn(third, tmp_path / "run", teacher))
    with pytest.raises(ConfigError, match="give teacher as well"):
        configure(data, tmp_path / "run", teacher_share=0.5)
    with pytest.raises(ConfigError, match="teacher_share must be above 0 and at most 1"):
        learn(data, tmp_path / "run", teacher, teacher_share=0.0)


def test_a_rate_is_searched_with_the_teacher(data: Path, teacher: Path, tmp_path: Path) -> None:
    keywords = vars(learn(data, tmp_path / "run", teacher))
    taken = ("architecture", "size", "augment", "validation", "batch_size", "teacher", "teacher_share")
    found = wetread.find_learning_rate(
        data, output=tmp_path / "run", color="gray", epochs=1, **{name: keywords[name] for name in taken}
    )
    assert found.rate > 0
