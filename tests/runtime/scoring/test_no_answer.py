"""An image on which a network overflows has a status, and no label, wherever it is scored."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.models import build_model, toy_spec
from wetread import Classifier
from wetread.cli import run as run_command
from wetread.errors import ImageError, Status
from wetread.runtime.entries import Entry
from wetread.runtime.explain import explain_image
from wetread.runtime.model.scope import Scope, Unlike
from wetread.runtime.scoring.batches import Decoded, make_chunk, score_decoded
from wetread.runtime.scoring.rows import make_failure
from wetread.runtime.scoring.run import ScoreOptions, score_to_file


@pytest.fixture(scope="module")
def overflowing(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "overflowing.onnx"
    path.write_bytes(build_model(toy_spec(), weight=1e37))
    return path


def draw(level: int) -> bytes:
    """A gradient around a level: no blank picture."""
    ramp = np.linspace(level - 30, level + 30, 70)
    return cv2.imencode(".png", np.tile(ramp, (70, 1)).astype(np.uint8))[1].tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "in"
    place.mkdir()
    for name, level in (("a.png", 60), ("b.png", 200), ("d.png", 70), ("e.png", 210)):
        (place / name).write_bytes(draw(level))
    (place / "c.png").write_bytes(b"text")
    return place


EXPECTED = ["ok", "no_answer", "not_an_image", "ok", "no_answer"]


def test_python_has_the_status_and_no_label(folder, overflowing):
    rows = list(Classifier(overflowing).score(folder))
    assert [row.status for row in rows] == EXPECTED
    assert (rows[1].label, rows[1].probability, rows[1].probabilities) == (None, None, ())
    assert rows[1].error.startswith("The model answered nan, which is no probability.")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_format_says_so_and_the_record_counts_it(
    folder, overflowing, tmp_path, monkeypatch, kind, device
):
    output = tmp_path / f"rows.{kind}"
    model = Classifier(overflowing)
    monkeypatch.setattr(model, "device", device)  # for "cuda" a chunk is padded to a whole batch
    score_to_file(model, ScoreOptions(sources=(str(folder),), output=str(output)))
    if kind == "parquet":
        rows = pytest.importorskip("pyarrow.parquet").read_table(output).to_pylist()
    elif kind == "csv":
        rows = list(csv.DictReader(output.read_text().splitlines()))
    else:
        rows = [json.loads(line, parse_constant=pytest.fail) for line in output.read_text().splitlines()]
    assert [row["status"] for row in rows] == EXPECTED
    assert [bool(row["label"]) for row in rows] == [status == "ok" for status in EXPECTED]
    assert [row["p_NORMAL"] or None for row in rows][1] is None
    assert [float(row["p_NORMAL"]) for row in rows if row["status"] == "ok"] == [0.5, 0.5]
    record = json.loads(Path(f"{output}.run.json").read_text())
    assert record["counts"] == {"ok": 2, "no_answer": 2, "not_an_image": 1}


def test_predict_and_explain_say_so(folder, overflowing, capsys):
    with pytest.raises(ImageError, match="no probability"):
        explain_image(Classifier(overflowing), (folder / "b.png").read_bytes())
    for command in (["predict"], ["explain", "--format", "json"]):
        code = run_command([*command, str(folder / "b.png"), "--model", str(overflowing)])
        said = capsys.readouterr()
        assert code != 0 and "no probability" in said.out + said.err and "NORMAL" not in said.out


class Judging:
    """A model with a scope that answers each image by its level: none at 200, and unlike above 80."""

    device = "cpu"
    spec = replace(
        toy_spec(),
        scope=Scope(
            purpose="Dark pictures",
            attributes=(),
            unlike=Unlike(threshold=80.0, method="mean", features=(), images=(1, 1), kept=1.0, changes=()),
        ),
    )

    def judge(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        levels = images.mean(axis=(1, 2, 3), dtype=np.float32)
        known = np.where(levels == 200, np.float32("nan"), levels / 255)
        return np.stack([known, 1 - known], axis=1), levels


def test_the_others_keep_what_is_theirs():
    levels = [10, 200, None, 90, 200, 20, 91]
    entries = [Entry(str(at), 1, "") for at in range(len(levels))]
    failure = make_failure("2", ImageError(Status.EMPTY, "It is empty."))
    good = [level for level in levels if level is not None]
    pixels = np.repeat(np.array(good, np.uint8), 64 * 64).reshape(-1, 64, 64, 1)
    breaches = ["no X-ray" if level == 91 else "" for level in good]
    failures = [failure if level is None else None for level in levels]
    decoded = Decoded(failures, pixels, breaches, 0.0, 0.0)
    rows = make_chunk(Judging(), score_decoded(Judging(), entries, decoded, batch_size=8)).predictions
    assert [row.path for row in rows] == [entry.name for entry in entries]
    assert [row.status for row in rows] == ["ok", "no_answer", "empty", "ok", "no_answer", "ok", "ok"]
    assert [float(row.probabilities[0]) for row in rows if row.status == "ok"] == pytest.approx(
        [level / 255 for level in (10, 90, 20, 91)]
    )
    assert [row.scope for row in rows] == ["inside", None, None, "outside", None, "inside", "outside"]
    assert rows[6].optional["scope_reason"].startswith("no X-ray; ")
