"""What the page is told, over HTTP: rows, pictures, heat maps, decisions, and a blind study."""

from __future__ import annotations

import csv
import io
import json
import shutil
import threading
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import draw_image
from tests.review.conftest import write_scores
from wetread.errors import SourceError
from wetread.evaluate.reviews import Verdict, read_reviews
from wetread.review.journal import Study, open_journal
from wetread.review.options import RoomOptions
from wetread.review.reading_room import Room
from wetread.review.serving import serve_review
from wetread.runtime.explain import explain_image
from wetread.runtime.images.pixels import read_picture
from wetread.runtime.images.recipe import PixelRecipe
from wetread.runtime.scoring.classifier import Classifier


@pytest.fixture
def rows(scored: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((scored / "scores.csv").read_bytes().decode(), newline="")))


def show(body: bytes, told: dict[str, int]) -> np.ndarray:
    """The gray levels that the page makes of a picture at first."""
    levels = told["levels"] + told["levels"] % 2
    samples = np.frombuffer(body, "<u2" if told["bits"] == 16 else np.uint8, offset=levels)
    table = np.frombuffer(body, np.uint8, told["levels"])
    return table[samples].reshape(told["height"], told["width"], told["channels"])


def test_a_row_says_what_the_file_says(serve, scored, rows):
    client = serve(scored / "scores.csv").client
    session = client.get("/api/session")
    assert session["labels"] == ["NORMAL", "PNEUMONIA"] and session["threshold"] == 0.5
    assert session["heat"] and len(session["model"]["digest"]) == 64
    page = client.get("/api/rows?sort=file&most=500")
    assert [row["path"] for row in page["rows"]] == [row["path"] for row in rows]
    assert page["total"] == 25
    for number, row in enumerate(rows):
        told = client.get(f"/api/rows/{number}")
        assert (told["status"], told["label"], told["error"]) == (row["status"], row["label"], row["error"])
        if row["status"] == "ok":
            assert told["probability"] == float(row["probability"])
            assert told["probabilities"]["PNEUMONIA"] == float(row["p_PNEUMONIA"])
            patient = row["path"].rpartition("/")[2].partition("_")[0] + "_"
            others = [n for n, other in enumerate(rows) if patient in other["path"] and n != number]
            assert told["beside"] == others and len(others) >= 1


def test_a_picture_is_what_the_runtime_reads(serve, scored, rows):
    client = serve(scored / "scores.csv").client
    for number, row in enumerate(rows):
        _, headers, body = client.send("GET", f"/api/rows/{number}/picture")
        if row["status"] == "ok":
            expected = read_picture(Path(row["path"]).read_bytes(), PixelRecipe())
            np.testing.assert_array_equal(show(body, json.loads(headers["x-picture"])), expected)
        else:
            assert json.loads(body)["problem"].startswith("The image is ")


def test_a_heat_map_is_that_of_explain_and_says_so_in_words(serve, scored, rows, toy_model):
    client = serve(scored / "scores.csv").client
    number = next(n for n, row in enumerate(rows) if row["status"] == "ok")
    told = client.get(f"/api/rows/{number}/heat")
    found = explain_image(
        Classifier(toy_model), Path(rows[number]["path"]).read_bytes(), label=rows[number]["label"]
    )
    np.testing.assert_allclose(np.reshape(told["map"], found.map.shape), found.map, atol=1e-4)
    assert told["box"] == [0, 0, 1, 1] and told["warning"] == ""
    down, across = (
        int(3 * place / side)
        for place, side in zip(
            np.unravel_index(found.map.argmax(), found.map.shape), found.map.shape, strict=True
        )
    )
    words = [("upper", "", "lower")[down], ("left", "", "right")[across]]
    part = " ".join(filter(None, words)) or "middle"
    label = rows[number]["label"]
    assert told["words"].startswith(f"Hiding the {part} part of the picture made {label} less likely.")


def test_a_file_that_changed_since_is_said(serve, scored, tmp_path):
    shutil.copytree(scored / "inbox", tmp_path / "inbox")
    served = serve(scored / "scores.csv", images=str(tmp_path / "inbox"))
    name = served.room.table.paths[0]
    (tmp_path / "inbox" / Path(name).name).write_bytes(draw_image(77, height=240, width=200))
    assert "the file has changed, or another model" in served.client.get("/api/rows/0/heat")["warning"]
    (tmp_path / "inbox" / Path(name).name).unlink()
    assert "No such file" in served.client.get("/api/rows/0/picture")["problem"]
    assert "No such file" in served.client.get("/api/rows/0/heat")["problem"]


def test_decisions_are_confirmed_counted_and_written(serve, scored, rows, tmp_path):
    served = serve(scored / "scores.csv")
    client = served.client
    label = rows[0]["label"]
    other = "NORMAL" if label == "PNEUMONIA" else "PNEUMONIA"
    broken = next(n for n, row in enumerate(rows) if row["status"] != "ok")
    assert client.decide(0, label=label, seconds=3.25, note="clear")["row"]["review"]["verdict"] == "agree"
    assert client.decide(1, label="", verdict="unsure")["counts"]["verdicts"]["unsure"] == 1
    client.decide(2, label="NORMAL" if rows[2]["label"] == "PNEUMONIA" else "PNEUMONIA")
    client.decide(broken, label="PNEUMONIA")
    client.decide(0, label=other)
    assert client.get("/api/counts")["reviewed"] == 4
    undone = client.post("/api/undo", {"identity": str(uuid.uuid4())})
    assert undone["number"] == 0 and undone["counts"]["verdicts"]["agree"] == 1
    served.room.refresh()
    found = {review.path: review for review in read_reviews(str(tmp_path / "reviews.csv"))}
    assert found[rows[0]["path"]].label == label and found[rows[0]["path"]].note == "clear"
    assert {r.verdict for r in found.values()} == {*Verdict} - {Verdict.UNUSABLE}
    assert {r.model for r in found.values()} == {client.get("/api/session")["model"]["digest"]}
    assert found[rows[broken]["path"]].verdict == Verdict.LABELLED


def test_a_decision_that_cannot_be_is_refused(serve, scored):
    client = serve(scored / "scores.csv").client
    generation = client.get("/api/counts")["generation"]
    good = {"identity": str(uuid.uuid4()), "number": 0, "generation": generation, "label": "NORMAL"}
    headers = {"Origin": f"http://127.0.0.1:{client.port}", "Content-Type": "application/json"}
    for change in (
        {"label": ""},
        {"verdict": "unsure"},
        {"verdict": "agree", "label": ""},
        {"number": True},
        {"number": 0.5},
        {"identity": "x"},
        {"note": "x" * 2001},
        {"seconds": -1},
        {"seconds": "1"},
        {"more": 1},
        {"identity": None},
    ):
        body = json.dumps({**good, **change}).encode()
        status, _, _ = client.send("POST", "/api/decisions", body=body, headers=headers)
        assert status == 400, change
    for body in (b"", b"[]", b"{", b"null", b"[" * 5000, json.dumps({"number": 1}).encode()):
        assert client.send("POST", "/api/decisions", body=body, headers=headers)[0] == 400
    plain = {**headers, "Content-Type": "text/plain"}
    assert client.send("POST", "/api/decisions", body=json.dumps(good).encode(), headers=plain)[0] == 415
    assert client.send("POST", "/api/decisions", body=b" " * 70_000, headers=headers)[0] == 413
    for change in ({"label": "OTHER"}, {"generation": 7}, {"number": 10_000}):
        assert "problem" in client.post("/api/decisions", {**good, **change})
    assert client.get("/api/counts")["reviewed"] == 0


def test_a_blind_study_tells_nothing_before_the_reader_has_decided(serve, scored, rows):
    client = serve(scored / "scores.csv", blind=True, seed=7).client
    words = ("NORMAL", "PNEUMONIA", "person", "truncated", "inbox", "agree")
    page = client.get("/api/rows?sort=probability&label=PNEUMONIA&low=0.9&most=100")
    order = [row["number"] for row in page["rows"]]
    assert page["total"] == 25 and order != sorted(order)
    told = json.dumps([page, client.get("/api/counts"), client.get("/api/rows/3")])
    assert [word for word in words if word in told] == []
    assert client.get("/api/histogram") == []
    assert "hidden" in client.get("/api/rows/3/heat")["problem"]
    assert "hidden" in client.post("/api/rows/3/answer", {})["problem"]
    assert client.send("GET", "/api/rows?review=agree")[0] == 400
    assert client.send("GET", "/api/rows/3/picture")[0] == 200

    label = rows[3]["label"] or "NORMAL"
    said = json.dumps(client.decide(3, label=label))
    assert [word for word in (*words, "disagree") if word in said and word != label] == []
    client.post("/api/undo", {"identity": str(uuid.uuid4())})
    client.decide(3, label=label)
    shown = client.post("/api/rows/3/answer", {})
    assert shown["path"] == rows[3]["path"] and shown["review"]["verdict"] in ("agree", "labelled")
    assert "final" in client.decide(3, verdict="unsure")["problem"]
    assert "final" in client.post("/api/undo", {"identity": str(uuid.uuid4())})["problem"]
    assert client.get("/api/rows?review=reviewed")["rows"][0]["path"] == rows[3]["path"]


def test_what_the_page_shows_grows_with_the_file(serve, tmp_path):
    path = tmp_path / "scores.csv"
    write_scores(path, ["a.png"])
    served = serve(path)
    assert served.client.get("/api/counts")["rows"] == 1
    write_scores(path, ["a.png", "b.png", "c.png"])
    served.room.refresh()
    counts = served.client.get("/api/counts")
    assert counts["rows"] == 3 and counts["problem"] == ""
    path.unlink()
    served.room.refresh()
    counts = served.client.get("/api/counts")
    assert counts["rows"] == 3 and "There is no file" in counts["problem"]


def test_calls_wait_until_all_rows_are_read(tmp_path):
    names = [f"{number:06}.png" for number in range(3_000)]  # more than are read at first
    write_scores(tmp_path / "scores.csv", names)
    with open_journal(str(tmp_path / "reviews.csv"), Study(reader="Kim")) as journal:
        options = RoomOptions(scores="scores.csv", output="reviews.csv", reader="Kim")
        room = Room(options, journal, scores=str(tmp_path / "scores.csv"))
        counts: list[int] = []
        thread = threading.Thread(target=lambda: counts.append(room.count()["rows"]))
        thread.start()
        thread.join(0.2)
        assert thread.is_alive() and 0 < len(room.table) < 3_000
        room.load()
        thread.join()
        assert counts == [3_000]


def test_rows_that_are_damaged_far_below_end_every_call_and_the_server(tmp_path):
    row = json.dumps({"path": "a.png", "status": "ok", "label": "x", "probability": 1}) + "\n"
    (tmp_path / "scores.jsonl").write_text(row * 2_000 + "{\n")
    with open_journal(str(tmp_path / "reviews.csv"), Study(reader="Kim")) as journal:
        options = RoomOptions(scores="scores.jsonl", output="reviews.csv", reader="Kim")
        room = Room(options, journal, scores=str(tmp_path / "scores.jsonl"))
        with pytest.raises(SourceError, match="cannot be read"):
            room.load()
        with pytest.raises(SourceError, match="cannot be read"):
            room.describe()
    options = replace(options, scores=str(tmp_path / "scores.jsonl"), output=str(tmp_path / "more.csv"))
    addresses: list[str] = []
    with pytest.raises(SourceError, match="cannot be read"):
        serve_review(options, browser=False, report=addresses.append)
    assert len(addresses) == 1


def test_a_reviews_file_that_is_held_is_said_and_written_later(serve, scored, tmp_path, monkeypatch):
    served = serve(scored / "scores.csv")
    served.client.decide(0, label="NORMAL")

    def fail(path: str, data: bytes) -> None:
        raise PermissionError(13, "The file is open in a spreadsheet")

    with monkeypatch.context() as held:
        held.setattr("wetread.review.journal.write_file", fail)
        served.room.refresh()
    assert "open in a spreadsheet" in served.client.get("/api/counts")["problem"]
    assert not (tmp_path / "reviews.csv").exists()
    served.room.refresh()
    assert served.client.get("/api/counts")["problem"] == ""
    assert len(read_reviews(str(tmp_path / "reviews.csv"))) == 1


def test_who_a_patient_is_is_hidden_unless_asked_for(serve, tmp_path):
    more = {
        "PatientName": ["Doe^Jane"],
        "PatientBirthDate": ["19700101"],
        "OtherPatientIDs": ["77"],
        "ReferringPhysicianName": ["Roe"],
        "AccessionNumber": ["A1"],
        "StudyDate": ["20260101"],
        "scope": ["inside"],
    }
    write_scores(tmp_path / "scores.csv", ["a.png"], more=more)
    shown = serve(tmp_path / "scores.csv").client.get("/api/rows/0")["more"]
    assert shown == {"StudyDate": "20260101", "scope": "inside"}
    asked = serve(tmp_path / "scores.csv", names=True, output=str(tmp_path / "two.csv"))
    assert asked.client.get("/api/rows/0")["more"]["PatientName"] == "Doe^Jane"


def test_names_that_are_not_utf8_are_told(serve, tmp_path):
    write_scores(tmp_path / "scores.csv", ["b\udcff.png"])
    served = serve(tmp_path / "scores.csv")
    assert served.client.get("/api/rows")["rows"][0]["path"] == "b\udcff.png"
    served.client.decide(0, label="NORMAL")
    served.room.refresh()
    assert read_reviews(str(tmp_path / "reviews.csv"))[0].path == "b\udcff.png"


def test_a_model_that_did_not_score_is_refused(serve, scored, tmp_path):
    from tests.models import build_model, toy_spec
    from wetread.errors import UsageError

    (tmp_path / "other.onnx").write_bytes(build_model(toy_spec(), seed=5))
    with pytest.raises(UsageError, match="did not make these scores"):
        serve(scored / "scores.csv", model=str(tmp_path / "other.onnx"))
