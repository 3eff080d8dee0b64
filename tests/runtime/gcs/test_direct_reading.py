"""The lean reader against answers that a server may give, and those that it should not."""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import google_crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtime.gcs_server import Faults
from wetread.runtime.entries import Entry
from wetread.runtime.gcs.client import Storage
from wetread.runtime.gcs.direct_reading import DirectReader, StatusError
from wetread.runtime.gcs.object_readers import BadBytesError

BODY = bytes(range(256)) * 40


def entry_of(body: bytes, name: str = "gs://b/x") -> Entry:
    crc = base64.b64encode(google_crc32c.value(body).to_bytes(4, "big")).decode()
    return Entry(name, len(body), "1", crc)


@contextmanager
def scripted(monkeypatch: pytest.MonkeyPatch, *answers: list[bytes]) -> Iterator[list[int]]:
    """A server that gives each request the next answer, piece by piece; an empty piece closes.

    Yields the number of requests of each connection.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    waiting, counts = list(answers), []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            counts.append(0)
            with connection, suppress(OSError):
                while waiting and connection.recv(65536):
                    counts[-1] += 1
                    pieces = waiting.pop(0)
                    for piece in pieces:
                        connection.sendall(piece)
                        time.sleep(0.002)
                    if pieces[-1] == b"":
                        break

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    for name in ("HTTP_PROXY", "http_proxy", "API_ENDPOINT_OVERRIDE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{listener.getsockname()[1]}")
    try:
        yield counts
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def ok(body: bytes = BODY, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def test_connections_are_kept(monkeypatch):
    with scripted(monkeypatch, [ok()], [ok()], [ok()]) as counts:
        reader = DirectReader(Storage())
        assert [reader.read(entry_of(BODY)) for _ in range(3)] == [BODY] * 3
        assert counts == [3]


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, len(ok()) - 1), max_size=6, unique=True).map(sorted))
def test_an_answer_may_come_in_any_pieces(cuts):
    whole = ok()
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    with pytest.MonkeyPatch.context() as monkeypatch, scripted(monkeypatch, pieces):
        assert DirectReader(Storage()).read(entry_of(BODY)) == BODY


def test_a_connection_that_the_server_closed_meanwhile_is_made_anew(monkeypatch):
    with scripted(monkeypatch, [ok(), b""], [ok()]) as counts:
        reader = DirectReader(Storage())
        assert reader.read(entry_of(BODY)) == BODY
        time.sleep(0.05)
        assert reader.read(entry_of(BODY)) == BODY
        assert counts == [1, 1]


def test_a_server_that_says_close_is_believed(monkeypatch):
    with scripted(monkeypatch, [ok(BODY, "Connection: close"), b""], [ok()]) as counts:
        reader = DirectReader(Storage())
        assert [reader.read(entry_of(BODY)) for _ in range(2)] == [BODY] * 2
        assert counts == [1, 1]


@pytest.mark.parametrize(
    ("pieces", "error"),
    [
        ([b""], ConnectionResetError),
        ([b"HTTP/1.1 200 OK\r\ncontent-le", b""], ConnectionError),
        ([ok()[:-1], b""], ConnectionError),
        ([b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\nx"], ConnectionError),
        ([b"SSH-2.0-OpenSSH\r\n\r\n"], ConnectionError),
        ([b"HTTP/1.1 200 OK\r\n\r\nx", b""], ConnectionError),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"], ConnectionError),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\nx"], ConnectionError),
        ([b"HTTP/1.1 200 OK\r\n" + b"x-filler: y\r\n" * 6000], ConnectionError),
        ([ok(BODY + b"more")], BadBytesError),
        ([ok(BODY) + b"more"], ConnectionError),
        ([ok(BODY[:-1])], BadBytesError),
        ([ok(BODY[::-1])], BadBytesError),
        ([ok(b"x" * len(BODY), "content-encoding: gzip")], BadBytesError),
        ([b"HTTP/1.1 302 Found\r\nlocation: http://elsewhere\r\ncontent-length: 0\r\n\r\n"], StatusError),
        ([b"HTTP/1.1 503 Busy\r\ncontent-length: 9\r\n\r\ncome back"], StatusError),
        ([b"HTTP/1.1 500 Oops\r\ncontent-length: 99999999\r\n\r\n"], StatusError),
    ],
)
def test_anything_else_is_an_error_and_leaves_no_bad_connection(monkeypatch, pieces, error):
    with scripted(monkeypatch, pieces, [ok()]):
        reader = DirectReader(Storage())
        with pytest.raises(error):
            reader.read(entry_of(BODY))
        assert reader.read(entry_of(BODY)) == BODY


def test_a_status_keeps_its_words(monkeypatch):
    with scripted(
        monkeypatch, [b"HTTP/1.1 503 Busy\r\ncontent-length: 9\r\n\r\ncome back"], [ok()]
    ) as counts:
        reader = DirectReader(Storage())
        with pytest.raises(StatusError, match="come back") as caught:
            reader.read(entry_of(BODY))
        assert caught.value.http_status == 503
        assert reader.read(entry_of(BODY)) == BODY
        assert counts == [2]


def test_the_request_names_generation_and_project(cloud):
    cloud.buckets.create("b")
    stored = cloud.buckets.put("b", "a b/ü.jpg", BODY)
    cloud.faults = Faults(requester_pays=True)
    cloud.keep_log = True
    storage = Storage(project="our-project")
    storage.bill()
    entry = Entry("gs://b/a b/ü.jpg", len(BODY), str(stored.generation), stored.crc32c)
    assert DirectReader(storage).read(entry) == BODY
    query = [("alt", "media"), ("generation", str(stored.generation)), ("userProject", "our-project")]
    assert cloud.log == [f"GET /storage/v1/b/b/o/a%20b%2F%C3%BC.jpg {query}"]
