"""The server of the page: one socket on 127.0.0.1, one reader, rows read as they are written."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from wetread.errors import SetupError
from wetread.packages import importing
from wetread.review.journal import Study, open_journal
from wetread.review.options import RoomOptions
from wetread.review.reading_room import Room
from wetread.runtime.entries import is_bucket_location
from wetread.runtime.scoring.scores_file import stage_scores

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

ADDRESS = "127.0.0.1"
_REFRESH_SECONDS = 1.0
_MOST_HEADERS = 16 << 10
_MOST_CONNECTIONS = 64


def serve_review(
    options: RoomOptions, *, port: int = 0, browser: bool = True, report: Callable[[str], None]
) -> None:
    """Serve the page until the process is stopped. `report` is called with the page's address.

    `port` 0: any free port. Raises MissingExtraError, SourceError, OutputError, ModelError, UsageError,
    and SetupError if the port is in use.
    """
    with importing("starlette", extra="review"):
        import starlette  # noqa: F401
    with importing("uvicorn", extra="review"):
        import uvicorn  # noqa: F401
    study = Study(reader=options.reader, blind=options.blind, seed=options.seed)
    with (
        _stage(options.scores) as scores,
        listen(port) as listening,
        open_journal(options.output, study) as journal,
    ):
        _serve(listening, Room(options, journal, scores=scores), browser=browser, report=report)


@contextmanager
def _stage(scores: str) -> Iterator[str]:
    if not is_bucket_location(scores):
        yield scores
        return
    with TemporaryDirectory(prefix="wetread-") as folder:
        yield stage_scores(scores, folder)


@contextmanager
def listen(port: int) -> Iterator[socket.socket]:
    """Bind a port of 127.0.0.1. Raises SetupError if it is in use."""
    # Without the protocol's number asyncio leaves Nagle's algorithm on, and each answer waits 40 ms.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        if os.name != "nt":  # on Windows it would let another program take the same port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((ADDRESS, port))
        except (OSError, OverflowError) as error:
            raise SetupError(
                f"wetread cannot listen on {ADDRESS}:{port}: {error}. Choose another --port, or leave it out."
            ) from error
        yield listening


def _serve(listening: socket.socket, room: Room, *, browser: bool, report: Callable[[str], None]) -> None:
    import uvicorn

    from wetread.review.app import make_app
    from wetread.review.request_guard import Guard, Keys

    keys = Keys(listening.getsockname()[1])
    server = uvicorn.Server(configure(Guard(make_app(room), keys)))
    listening.listen()  # the browser can connect from here on, and waits for an answer
    report(keys.address)
    with _keep_fresh(room, server):
        if browser:
            threading.Thread(target=webbrowser.open, args=(keys.address,), daemon=True).start()
        asyncio.run(server.serve(sockets=[listening]))


def configure(app: ASGIApp) -> uvicorn.Config:
    """Configure the server: HTTP only, with limits, and nothing on standard error."""
    import uvicorn

    # A request that is not HTTP gets 400, and must not fill standard error.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)
    return uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        h11_max_incomplete_event_size=_MOST_HEADERS,
        timeout_graceful_shutdown=2,
    )


@contextmanager
def _keep_fresh(room: Room, server: uvicorn.Server) -> Iterator[None]:
    """Read the rows while the browser starts, then new rows once a second, until the block ends.

    Raises what the first reading raises, which ends the server as well.
    """
    stop = threading.Event()
    failures: list[Exception] = []

    def refresh() -> None:
        try:
            room.load(is_stopped=lambda: server.should_exit or stop.is_set())
        except Exception as error:  # noqa: BLE001 - it is raised when the server has ended
            failures.append(error)
            server.should_exit = True
            return
        while not stop.wait(_REFRESH_SECONDS):
            room.refresh()

    thread = threading.Thread(target=refresh, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if failures:
        raise failures[0]
