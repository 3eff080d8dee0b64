from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.train.drawn import draw_folder
from wetread.errors import ConfigError, DatasetError, OutputError
from wetread.runtime.files.atomic import replace_file
from wetread.train import run as runs
from wetread.train.config import TrainConfig
from wetread.train.fit import train
from wetread.train.run import check_place


def configure(run: Path, **values) -> TrainConfig:
    return TrainConfig(data="/data", output=str(run), **values)


def begin(run: Path, **values) -> None:
    runs.write_bytes(run / runs.CONFIG, configure(run, **values).to_json().encode())


def test_a_new_directory_has_no_run(tmp_path: Path) -> None:
    for resume in (False, True):
        assert runs.check_run(tmp_path / "new", configure(tmp_path), resume=resume) is False


@pytest.mark.parametrize("state", ["an unfinished", "a finished"])
def test_a_run_is_not_overwritten(tmp_path: Path, state: str) -> None:
    begin(tmp_path)
    if state == "a finished":
        runs.write_json(tmp_path / runs.METRICS, {})
    with pytest.raises(OutputError, match=f"{state} run.*--resume"):
        runs.check_run(tmp_path, configure(tmp_path), resume=False)
    assert runs.check_run(tmp_path, configure(tmp_path), resume=True) is True


def test_a_run_is_not_resumed_with_other_options(tmp_path: Path) -> None:
    begin(tmp_path, epochs=3)
    with pytest.raises(ConfigError, match="began with epochs 3, not 4"):
        runs.check_run(tmp_path, configure(tmp_path, epochs=4), resume=True)


def test_a_configuration_that_is_broken_is_named(tmp_path: Path) -> None:
    (tmp_path / runs.CONFIG).write_text("{")
    with pytest.raises(ConfigError, match=r"config\.json"):
        runs.check_run(tmp_path, configure(tmp_path), resume=True)


def test_inputs_that_changed_are_named(tmp_path: Path) -> None:
    inputs = {"images": 10, "data": "ab", "policy": {"rotate": 1.0}}
    runs.write_json(tmp_path / runs.INPUTS, inputs)
    runs.check_inputs(tmp_path, inputs)
    with pytest.raises(DatasetError, match=r"The images changed.*: 10 then, 11 now"):
        runs.check_inputs(tmp_path, {**inputs, "images": 11, "data": "cd"})
    with pytest.raises(DatasetError, match="The data changed"):
        runs.check_inputs(tmp_path, {**inputs, "data": "cd"})
    with pytest.raises(ConfigError, match="The policy changed"):
        runs.check_inputs(tmp_path, {**inputs, "policy": {"rotate": 2.0}})


def test_one_trainer_at_a_time(tmp_path: Path) -> None:
    with (
        runs.lock_run(tmp_path / "run"),
        pytest.raises(OutputError, match="under way"),
        runs.lock_run(tmp_path / "run"),
    ):
        pass
    with runs.lock_run(tmp_path / "run"):
        pass


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"), runs.lock_run(tmp_path / "file" / "run"):
        pass


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "model.keras"
    runs.write_bytes(path, b"first")

    def fail() -> None:
        with replace_file(path) as passing:
            passing.write_bytes(b"half")
            raise RuntimeError("the plug was pulled")

    with pytest.raises(RuntimeError, match="plug"):
        fail()
    assert path.read_bytes() == b"first"
    assert [p.name for p in path.parent.iterdir()] == ["model.keras"]


def test_a_checkpoint_goes_there_and_back(tmp_path: Path) -> None:
    assert runs.load_checkpoint(tmp_path) == ({}, [])
    variables = {"0000": np.arange(6, dtype=np.float32).reshape(2, 3), "0001": np.array(7, np.int64)}
    history = [{"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": 1 / 3}]
    runs.save_checkpoint(tmp_path, variables, history)
    loaded, rows = runs.load_checkpoint(tmp_path)
    assert rows == history
    assert {name: (a.dtype, a.tolist()) for name, a in loaded.items()} == {
        name: (a.dtype, a.tolist()) for name, a in variables.items()
    }


def test_a_broken_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / runs.CHECKPOINT).write_bytes(b"PK nothing")
    with pytest.raises(OutputError, match="checkpoint"):
        runs.load_checkpoint(tmp_path)


@pytest.mark.parametrize("part", range(8))
def test_a_checkpoint_with_a_wrong_byte_is_refused(tmp_path: Path, part: int) -> None:
    runs.save_checkpoint(tmp_path, {"0000": np.arange(600, dtype=np.float32)}, [{"epoch": 1, "loss": 0.5}])
    whole = (tmp_path / runs.CHECKPOINT).read_bytes()
    at = 200 + part * 250  # in the array's bytes, which have a checksum
    (tmp_path / runs.CHECKPOINT).write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    with pytest.raises(OutputError, match="checkpoint"):
        runs.load_checkpoint(tmp_path)


def test_tables_keep_names_as_they_are(tmp_path: Path) -> None:
    names = ["a,b.png", 'q"uote.png', "new\nline.png", b"l\xe4tin.png".decode("utf-8", "surrogateescape")]
    runs.write_table(tmp_path / "t.csv", ("name", "label"), ((name, "x") for name in names))
    assert (tmp_path / "t.csv").read_bytes() == (
        b'name,label\n"a,b.png",x\n"q""uote.png",x\n"new\nline.png",x\nl\xe4tin.png,x\n'
    )
    runs.write_names(tmp_path / "names.txt", [names[0], names[3]])
    assert (tmp_path / "names.txt").read_bytes() == b"a,b.png\nl\xe4tin.png\n"


def test_history_holds_no_clock(tmp_path: Path) -> None:
    """Two runs with one seed leave the same file, to the byte."""
    runs.write_history(tmp_path, [{"epoch": 1, "loss": 0.123456789, "seconds": 3.2}])
    assert (tmp_path / runs.HISTORY).read_text() == "epoch,loss\n1,0.123457\n"


def test_json_holds_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        runs.write_json(tmp_path / "x.json", {"a": float("nan")})
    runs.write_json(tmp_path / "x.json", {"a": None})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": None}


@pytest.mark.parametrize("place", ["run", "bar/run", "a/../run", ""])
def test_a_run_inside_the_data_is_refused_and_leaves_nothing(tmp_path: Path, place: str) -> None:
    data = draw_folder(tmp_path / "data", counts={"bar": 4, "disc": 4})
    before = sorted(data.rglob("*"))
    with pytest.raises(ConfigError, match="is inside DATA"):
        train(TrainConfig(data=str(data), output=str(data / place)))
    assert sorted(data.rglob("*")) == before


def test_a_run_beside_the_data_whose_name_begins_alike_is_taken(tmp_path: Path) -> None:
    check_place(TrainConfig(data=str(tmp_path / "data"), output=str(tmp_path / "data-run")))
    check_place(TrainConfig(data="gs://b/data", output="gs://b/data-run"))
    with pytest.raises(ConfigError, match="is inside DATA"):
        check_place(TrainConfig(data="gs://b/data", output="gs://b/data/run"))
