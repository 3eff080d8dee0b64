"""The command is killed while decisions arrive: none that was confirmed is lost, none is written twice."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.review.conftest import Client, write_scores
from wetread.evaluate.reviews import read_reviews

NAMES = [f"{number}.png" for number in range(400)]


def start(folder: Path) -> tuple[subprocess.Popen[str], Client]:
    """Start the command in a folder, and enter with the address that it prints."""
    command = [sys.executable, "-m", "wetread", "review", "scores.csv", "--reader", "Kim", "--no-browser"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    address = process.stdout.readline().strip()
    assert address, process.stderr.read()
    parts = urlsplit(address)
    client = Client(parts.port, parts.query.removeprefix("token="))
    client.enter()
    return process, client


def stop(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """End a command, and return what it said on standard error."""
    process.send_signal(number)
    return process.communicate(timeout=30)[1]


def decide_until_killed(
    client: Client, numbers: list[int], confirmed: dict[str, int], tried: dict[str, int]
) -> None:
    """Say something of one row after another; what was sent and not confirmed is sent again first."""
    waiting = {row: identity for identity, row in tried.items() if identity not in confirmed}
    with contextlib.suppress(OSError, http.client.HTTPException, json.JSONDecodeError):
        for row in [*waiting, *numbers]:
            identity = waiting.get(row) or str(uuid.uuid4())
            tried[identity] = row
            said = {"identity": identity, "number": row, "generation": 1, "label": "NORMAL"}
            assert "problem" not in client.post("/api/decisions", said)
            confirmed[identity] = row


def kill_often(folder: Path, times: int) -> None:
    write_scores(folder / "scores.csv", NAMES)
    drawn, rows = random.Random(18), iter(range(len(NAMES)))
    confirmed: dict[str, int] = {}
    tried: dict[str, int] = {}
    for _ in range(times):
        process, client = start(folder)
        numbers = [row for _, row in zip(range(12), rows, strict=False)]
        thread = threading.Thread(target=decide_until_killed, args=(client, numbers, confirmed, tried))
        thread.start()
        time.sleep(drawn.uniform(0, 0.12))
        assert stop(process, signal.SIGKILL) == ""
        thread.join()
        said = [json.loads(line) for line in read_whole_lines(folder / "reviews.csv.journal")]
        identities = [line["said"] for line in said if "said" in line]
        assert len(identities) == len(set(identities))
        assert confirmed.keys() <= set(identities) <= tried.keys()
    process, client = start(folder)
    decide_until_killed(client, [], confirmed, tried)
    assert client.get("/api/counts")["reviewed"] == len(tried) == len(confirmed)
    assert stop(process, signal.SIGTERM) == ""
    assert process.returncode == 143
    assert {review.path for review in read_reviews(str(folder / "reviews.csv"))} == {
        NAMES[row] for row in confirmed.values()
    }


def read_whole_lines(path: Path) -> list[bytes]:
    return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def test_killed_twice(tmp_path):
    kill_often(tmp_path, 2)


@pytest.mark.long
def test_killed_thirty_times(tmp_path):
    kill_often(tmp_path, 30)


def test_interrupted_it_writes_what_was_said(tmp_path):
    write_scores(tmp_path / "scores.csv", NAMES[:3])
    process, client = start(tmp_path)
    client.decide(1, label="PNEUMONIA")
    assert stop(process, signal.SIGINT) == ""
    assert process.returncode == 130
    assert [review.path for review in read_reviews(str(tmp_path / "reviews.csv"))] == ["1.png"]


def test_a_port_that_is_taken_is_said(tmp_path):
    write_scores(tmp_path / "scores.csv", NAMES[:3])
    process, client = start(tmp_path)
    command = [sys.executable, "-m", "wetread", "review", "scores.csv", "--no-browser", "-o", "other.csv"]
    done = subprocess.run(
        [*command, "--port", str(client.port)], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert f"127.0.0.1:{client.port}" in done.stderr and "--port" in done.stderr
    assert not (tmp_path / "other.csv").exists()
    stop(process, signal.SIGTERM)
