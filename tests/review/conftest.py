"""A reading room in this process, with a server on a free port, and rows and pictures to look at."""

from __future__ import annotations

import csv
import http.client
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn

from tests.conftest import draw_image
from wetread.cli import run
from wetread.review.app import make_app
from wetread.review.journal import Journal, Study
from wetread.review.options import RoomOptions
from wetread.review.reading_room import Room
from wetread.review.request_guard import Guard, Keys
from wetread.review.serving import configure, listen

COLUMNS = ["path", "status", "label", "probability", "p_NORMAL", "p_PNEUMONIA", "error"]


def write_scores(
    path: Path, names: list[str], *, seed: int = 0, more: dict[str, list[str]] | None = None
) -> None:
    """Rows as `wetread score` writes them, drawn."""
    drawn = np.random.default_rng(seed).random(len(names)).astype(np.float32)
    extra = more or {}
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, *extra])
        for index, (name, value) in enumerate(zip(names, drawn, strict=True)):
            writer.writerow([*make_cells(name, value), *(column[index] for column in extra.values())])


def make_cells(name: str, value: np.float32) -> list[str]:
    """One row's cells; `value` is the probability of PNEUMONIA."""
    positive, negative = str(value), str(np.float32(1) - value)
    label, shown = ("PNEUMONIA", positive) if value >= 0.5 else ("NORMAL", negative)
    return [name, "ok", label, shown, negative, positive, ""]


@dataclass
class Client:
    """A browser's part: keeps the cookie, and says where it comes from."""

    port: int
    token: str
    cookie: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def enter(self) -> None:
        """Trade the token for the cookie."""
        status, headers, _ = self.send("GET", f"/?token={self.token}")
        assert status == 303
        self.cookie = headers["set-cookie"].partition(";")[0]

    def send(
        self, method: str, path: str, *, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """One request: status, headers, body."""
        given = {"Host": f"127.0.0.1:{self.port}", "Cookie": self.cookie, **(headers or {})}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body=body, headers={k: v for k, v in given.items() if v})
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """What a question is answered with, of JSON."""
        status, _, body = self.send("GET", path)
        assert status == 200, (path, status, body)
        return json.loads(body)

    def post(self, path: str, value: Any) -> Any:
        """What is answered to something said."""
        headers = {"Origin": f"http://127.0.0.1:{self.port}", "Content-Type": "application/json"}
        status, _, body = self.send("POST", path, body=json.dumps(value).encode(), headers=headers)
        assert status == 200, (path, status, body)
        return json.loads(body)

    def decide(self, number: int, **more: Any) -> Any:
        """Say something of a row."""
        generation = self.get("/api/counts")["generation"]
        return self.post(
            "/api/decisions",
            {"identity": str(uuid.uuid4()), "number": number, "generation": generation, **more},
        )


@dataclass
class Served:
    """A served room, and a client that has its cookie."""

    room: Room
    keys: Keys
    client: Client


Serve = Callable[..., Served]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Serve a scores file until the test ends: serve(scores, blind=True, ...)."""
    with ExitStack() as stack:

        def start(scores: Path, *, load: bool = True, **options: Any) -> Served:
            study = Study(
                reader=options.setdefault("reader", "Kim"),
                blind=options.get("blind", False),
                seed=options.get("seed", 0),
            )
            output = options.setdefault("output", str(tmp_path / "reviews.csv"))
            journal = Journal(output, study)
            stack.callback(journal.close)
            room = Room(RoomOptions(scores=str(scores), **options), journal, scores=str(scores))
            if load:
                room.load()
            listening = stack.enter_context(listen(0))
            keys = Keys(listening.getsockname()[1])
            server = uvicorn.Server(configure(Guard(make_app(room), keys)))
            listening.listen()
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
            thread.start()

            def stop() -> None:
                server.should_exit = True
                thread.join()

            stack.callback(stop)
            client = Client(keys.port, keys.token)
            client.enter()
            return Served(room, keys, client)

        yield start


@pytest.fixture(scope="session")
def scored(tmp_path_factory: pytest.TempPathFactory, toy_model: Path) -> Path:
    """A folder `inbox` of 24 pictures, one of them broken, and scores.csv beside it."""
    place = tmp_path_factory.mktemp("scored")
    (place / "inbox").mkdir()
    for index in range(24):
        name = f"person{index // 2}_view_{index}.{'png' if index % 3 else 'jpg'}"
        data = draw_image(index, height=240, width=200, suffix=Path(name).suffix)
        (place / "inbox" / name).write_bytes(data)
    (place / "inbox" / "person3_cut_99.jpg").write_bytes(draw_image(99)[:-400])
    output = str(place / "scores.csv")
    arguments = ["score", str(place / "inbox"), "--model", str(toy_model), "--output", output, "--quiet"]
    assert run(arguments) == 3
    return place
