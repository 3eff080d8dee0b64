"""Training from a bucket and into one: the same arrays, the same run, and what a lost machine costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.gcs_server import Faults, Server
from tests.train.drawn import draw_folder
from wetread.errors import OutputError, SourceError
from wetread.runtime.gcs.billing import bill_project
from wetread.train.config import TrainConfig
from wetread.train.dataset import load_dataset
from wetread.train.events import EpochEnded
from wetread.train.fit import train

RUN = "gs://runs/one"


def configure(data: Path | str, output: Path | str, **values) -> TrainConfig:
    defaults = {
        "color": "gray",
        "learning_rate": 1e-3,
        "architecture": "tests.train.networks:tiny",
        "size": 20,
        "epochs": 3,
        "batch_size": 16,
        "augment": "light",
        "validation": 0.25,
    }
    return TrainConfig(data=str(data), output=str(output), **{**defaults, **values})


@pytest.fixture
def data(cloud, tmp_path) -> Path:
    """A labelled folder, and the same in the bucket `b`; an empty bucket for runs."""
    folder = draw_folder(tmp_path / "data", counts={"bar": 24, "disc": 36})
    (folder / "bar" / "person3_cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    cloud.buckets.fill("b", str(folder), prefix="data/")
    cloud.buckets.create("runs")
    return folder


def count_reads(cloud: Server) -> int:
    return sum("('alt', 'media')" in line for line in cloud.log)


def test_the_same_arrays_bit_for_bit(cloud, data, tmp_path):
    cloud.faults = Faults(throttle=20, truncate=40, corrupt=30)
    local = load_dataset(configure(data, tmp_path / "run"))
    remote = load_dataset(configure("gs://b/data", tmp_path / "run", cache=str(tmp_path / "cache")))
    assert remote.pixels.tobytes() == local.pixels.tobytes()
    assert remote.pixels.shape == local.pixels.shape
    for name in ("labels", "names", "groups", "splits", "left_out", "fingerprint", "leaks"):
        assert getattr(remote, name) == getattr(local, name), name
    assert np.array_equal(remote.targets, local.targets)


def test_images_stream_once_for_all_runs(cloud, data, tmp_path):
    cloud.keep_log = True
    cache = str(tmp_path / "cache")
    first = load_dataset(configure("gs://b/data", tmp_path / "one", cache=cache))
    assert count_reads(cloud) == 61
    second = load_dataset(configure("gs://b/data", tmp_path / "two", cache=cache, seed=4))
    assert count_reads(cloud) == 61
    assert second.pixels.tobytes() == first.pixels.tobytes()
    # An object that was replaced, by the same bytes even, has another generation: it is read again.
    cloud.buckets.put("b", "data/bar/person0_0.jpg", cloud.buckets.get("b", "data/bar/person0_0.jpg").data)
    load_dataset(configure("gs://b/data", tmp_path / "three", cache=cache))
    assert count_reads(cloud) == 122


@pytest.fixture(scope="module")
def local_history(tmp_path_factory) -> bytes:
    folder = draw_folder(tmp_path_factory.mktemp("local") / "data", counts={"bar": 24, "disc": 36})
    (folder / "bar" / "person3_cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    train(configure(folder, folder.parent / "run"))
    return (folder.parent / "run" / "history.csv").read_bytes()


def test_a_run_in_a_bucket_is_the_run_on_disk(cloud, data, local_history):
    result = train(configure("gs://b/data", RUN))
    assert result.run == RUN
    names = [name.removeprefix("one/") for name in cloud.buckets.names("runs")]
    assert [name for name in names if not name.endswith(".png")] == [
        "calibration/files.txt",
        "config.json",
        "corrupt.csv",
        "history.csv",
        "inputs.json",
        "learned_last.csv",
        "metrics.json",
        "model.keras",
        "spec.json",
        "splits.csv",
    ]
    assert [name for name in names if name.endswith(".png")] == [
        *("augmentation.png", "history.png", "learned_last.png")
    ]
    assert cloud.buckets.get("runs", "one/history.csv").data == local_history
    config = json.loads(cloud.buckets.get("runs", "one/config.json").data)
    assert (config["data"], config["output"]) == ("gs://b/data", RUN)


@pytest.mark.long
def test_calibration_and_judging_read_what_training_kept(cloud, data, monkeypatch, tmp_path, capsys):
    """The bucket's images stream once: later commands find their arrays, and say the same without them."""
    from wetread.cli import run

    monkeypatch.setenv("WETREAD_CACHE", str(tmp_path / "cache"))
    train(configure("gs://b/data", RUN, epochs=1))
    cloud.keep_log = True

    def ask(*arguments: str) -> str:
        assert run([*arguments]) in (0, 3)
        return capsys.readouterr().out

    def work(place: Path) -> tuple[bytes, list[str]]:
        place.mkdir()
        model = str(place / "m.onnx")
        ask("export", RUN, "--output", model, "-q")
        sides = [ask("evaluate", "gs://b/data", "-m", model, "--run", RUN, "--split", "val", "-q")]
        sides.append(ask("evaluate", "gs://b/data", "-m", model, "--output", str(place / "report"), "-q"))
        rows = (place / "report" / "predictions.csv").read_bytes()
        return rows, [side.replace(str(place), "") for side in sides]

    kept = work(tmp_path / "one")
    images = [line for line in cloud.log if "('alt', 'media')" in line and "/o/data" in line]
    assert images == []
    monkeypatch.delenv("WETREAD_CACHE")
    assert work(tmp_path / "two") == kept
    assert len([line for line in cloud.log if "('alt', 'media')" in line and "/o/data" in line]) > 100


class PulledPlugError(Exception):
    pass


def pull_plug(event: object) -> None:
    if isinstance(event, EpochEnded) and event.epoch == 2:
        raise PulledPlugError


@pytest.mark.long
def test_a_lost_machine_costs_the_epoch_at_hand(cloud, data, local_history):
    with pytest.raises(PulledPlugError):
        train(configure("gs://b/data", RUN), on_event=pull_plug)
    assert "one/checkpoint.npz" in cloud.buckets.names("runs")
    assert "one/metrics.json" not in cloud.buckets.names("runs")
    with pytest.raises(OutputError, match=f"{RUN} already holds an unfinished run"):
        train(configure("gs://b/data", RUN))
    result = train(configure("gs://b/data", RUN), resume=True)
    assert result.new_epochs == 2
    assert cloud.buckets.get("runs", "one/history.csv").data == local_history
    assert "one/checkpoint.npz" not in cloud.buckets.names("runs")
    assert train(configure("gs://b/data", RUN), resume=True).new_epochs == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGTERM")
def test_a_terminated_trainer_leaves_its_epochs_and_no_pixels(cloud, data, tmp_path):
    """What a cloud service sends before it takes a machine away."""
    passing = tmp_path / "passing"
    passing.mkdir()
    options = ["--architecture", "tests.train.networks:tiny", "--size", "20", "--epochs", "100000", "-q"]
    process = subprocess.Popen(
        [sys.executable, "-m", "wetread", "train", "gs://b/data", "--output", RUN, *options],
        env={**os.environ, "TMPDIR": str(passing)},
    )
    try:
        for _ in range(1200):
            if "one/history.csv" in cloud.buckets.names("runs") or process.poll() is not None:
                break
            time.sleep(0.1)
        assert any(passing.rglob("pixels.npy"))
        process.terminate()
        assert process.wait(60) == 143
    finally:
        process.kill()
    assert list(passing.iterdir()) == []
    assert {"one/checkpoint.npz", "one/config.json"} <= set(cloud.buckets.names("runs"))


def test_another_trainer_in_the_same_place_is_noticed(cloud, data):
    def intrude(event: object) -> None:
        if isinstance(event, EpochEnded):
            cloud.buckets.put("runs", "one/history.csv", b"another trainer's")

    with pytest.raises(OutputError, match="Another program writes into 'gs://runs/one/'"):
        train(configure("gs://b/data", RUN), on_event=intrude)
    assert cloud.buckets.get("runs", "one/history.csv").data == b"another trainer's"


def test_the_whole_way_without_a_file_of_ones_own(cloud, data, monkeypatch, tmp_path, capsys):
    """Train, export, compare, score and explain: in buckets whose requesters pay, nothing on this disk."""
    from wetread.cli import run as run_unpaid

    def run(arguments: list[str]) -> int:
        return run_unpaid([*arguments, "--project", "payer"])

    cloud.faults = Faults(requester_pays=True)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    with bill_project("payer"):
        train(configure("gs://b/data", RUN, epochs=1))
    model, scores = "gs://runs/m.onnx", "gs://runs/scores.csv"
    assert run_unpaid(["export", RUN, "--output", model]) == 1
    assert "Say to which project: --project PROJECT" in capsys.readouterr().err
    assert run(["export", RUN, "--output", model]) == 0
    assert capsys.readouterr().out.split()[:2] == ["model", model]
    assert run(["parity", RUN, model, "--images", "gs://b/data", "--json", "gs://runs/parity.json"]) == 0
    report = json.loads(cloud.buckets.get("runs", "parity.json").data)
    assert report["reference"] == RUN
    assert report["images"] == 60
    assert run(["score", "gs://b/data", "--model", model, "--output", scores, "-q"]) == 3
    assert cloud.buckets.get("runs", "scores.csv").data.count(b"\n") == 62
    judge = ["evaluate", "gs://b/data", "--model", model, "--run", RUN, "--output", "gs://runs/report", "-q"]
    assert run(judge) == 3
    written = [name for name in cloud.buckets.names("runs") if name.startswith("report/")]
    assert written == ["report/metrics.json", "report/predictions.csv", "report/report.html"]
    assert cloud.buckets.get("runs", "report/predictions.csv").data.count(b"gs://b/data/") == 61
    assert run(judge) == 1  # what stands there is not replaced without --overwrite
    assert "--output gs://runs/report already holds" in capsys.readouterr().err
    assert run([*judge, "--overwrite"]) == 3
    image = "gs://b/" + next(name for name in cloud.buckets.names("b") if "/disc/" in name)
    explain = ["explain", image, "--model", model, "--output", "gs://runs/e.png"]
    assert [run(explain), run(explain), run([*explain, "--overwrite"])] == [0, 1, 0]
    assert cloud.buckets.get("runs", "e.png").data.startswith(b"\x89PNG")
    assert [run(["inspect", model]), run(["verify", model])] == [0, 0]
    assert sorted(tmp_path.iterdir()) == before


def test_setup_errors_come_before_any_work(cloud, data):
    with pytest.raises(SourceError, match="The bucket 'nowhere'"):
        train(configure("gs://b/data", "gs://nowhere/run"))
    with pytest.raises(SourceError, match="holds nothing"):
        train(configure("gs://b/nothing", RUN))
    assert cloud.buckets.names("runs") == []
