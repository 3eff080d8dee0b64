from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.train.drawn import draw_folder
from tests.train.test_fit import StopError, configure, stop_after
from wetread.errors import ConfigError
from wetread.train.fit import train


def read_scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Every scalar in the event files of a folder, by name and step."""
    import tensorflow
    from tensorflow.core.util import event_pb2

    found: dict[str, dict[int, float]] = {}
    for file in folder.iterdir():
        for record in tensorflow.data.TFRecordDataset(str(file)):
            event = event_pb2.Event.FromString(record.numpy())
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                found.setdefault(value.tag, {})[event.step] = float(tensorflow.make_ndarray(value.tensor))
    return found


@pytest.mark.long
def test_every_epoch_is_in_the_logs_over_a_resumed_run(tmp_path: Path) -> None:
    data = draw_folder(tmp_path / "data", counts={"bar": 16, "disc": 16})
    config = configure(data, tmp_path / "run", epochs=3, tensorboard=True)
    with pytest.raises(StopError):
        train(config, on_event=stop_after(2))
    result = train(config, resume=True)
    found = read_scalars(tmp_path / "run" / "logs")
    with (result.run / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert set(found) == {*rows[0], "seconds"} - {"epoch"}
    for name in set(found) - {"seconds"}:
        wanted = {int(row["epoch"]): pytest.approx(float(row[name]), rel=1e-5) for row in rows}
        assert found[name] == wanted
    assert not (train(configure(data, tmp_path / "other", epochs=1)).run / "logs").exists()


def test_a_bucket_takes_no_logs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tensorboard needs a local output"):
        configure(tmp_path, "gs://b/run", tensorboard=True)
