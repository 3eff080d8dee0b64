from __future__ import annotations

import json

from wetread.runtime.watch.faults import Faults
from wetread.runtime.watch.status import EVERY, Heartbeat


def test_it_is_written_when_it_is_time_and_when_something_breaks(tmp_path):
    path, seconds, state = tmp_path / "status.json", [0.0], {"waiting": 1}
    faults = Faults(print)
    heart = Heartbeat(
        str(path), about={"device": "cpu"}, find_state=lambda: state, faults=faults, clock=lambda: seconds[0]
    )
    heart.beat()
    found = json.loads(path.read_text())
    assert found["state"] == "running"
    assert (found["device"], found["waiting"], found["last_error"]) == ("cpu", 1, None)
    assert {"wetread", "onnxruntime", "numpy"} <= found["versions"].keys()
    state["waiting"] = 2
    seconds[0] = EVERY - 1
    heart.beat()
    assert json.loads(path.read_text())["waiting"] == 1
    faults.say("output", "full")
    heart.beat()
    found = json.loads(path.read_text())
    assert (found["waiting"], found["last_error"]["what"]) == (2, "full")
    state["waiting"] = 3
    seconds[0] += EVERY
    heart.beat()
    assert json.loads(path.read_text())["waiting"] == 3
    heart.close()
    assert json.loads(path.read_text())["state"] == "stopped"
    assert [each.name for each in tmp_path.iterdir()] == ["status.json"]


def test_a_file_that_cannot_be_written_is_a_fault_that_ends(tmp_path):
    said: list[str] = []
    folder, seconds = tmp_path / "later", [0.0]
    faults = Faults(said.append)
    heart = Heartbeat(
        str(folder / "status.json"), about={}, find_state=dict, faults=faults, clock=lambda: seconds[0]
    )
    for _ in range(3):
        heart.beat()
    folder.mkdir()
    seconds[0] = EVERY
    heart.beat()
    assert len(said) == 2
    assert "status.json' cannot be written: No such file" in said[0]
    assert said[1].startswith("over at")


def test_without_a_path_nothing_is_asked():
    heart = Heartbeat(None, about={}, find_state=lambda: 1 / 0, faults=Faults(print))  # type: ignore[arg-type, return-value]
    heart.beat()
    heart.close()
