"""The routes of the page: its own files, and an API that answers with JSON and pixels.

A request names rows by number, never by path. A picture that cannot be read is a normal answer with a
`problem`, not an error status, because a browser logs every failed request in its console.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from wetread.errors import UsageError, WetreadError, make_fault
from wetread.review.options import Decision
from wetread.review.reading_room import Room
from wetread.review.request_guard import MOST_BODY
from wetread.review.worklist import Query

_STATIC = Path(__file__).with_name("static")
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_JSON = "application/json"
_DECISION: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("identity", "verdict", "label", "note"), (str,)),
    **dict.fromkeys(("number", "generation"), (int,)),
    "seconds": (int, float),
}


def make_app(room: Room) -> Starlette:
    """Make the app of one reading room. It checks no cookie and no origin: `Guard` does."""
    app = Starlette(
        routes=[*_list_files(), *_list_reads(room), *_list_writes(room)],
        exception_handlers={WetreadError: _explain_error, Exception: _explain_fault},
    )
    app.router.redirect_slashes = False
    return app


def _list_files() -> list[Route]:
    """The page's own files. They are read once, and no name from a request is opened."""
    files = {path.name: path for path in sorted(_STATIC.iterdir()) if path.suffix in _KINDS}
    routes = [Route(f"/{name}", _serve(path)) for name, path in files.items()]
    return [Route("/", _serve(files["index.html"])), *routes]


def _serve(path: Path) -> Callable[[Request], Awaitable[Response]]:
    data, kind = path.read_bytes(), _KINDS[path.suffix]

    async def answer(request: Request) -> Response:  # in no thread of its own: nothing here waits
        return Response(data, media_type=kind)

    return answer


def _list_reads(room: Room) -> list[Route]:
    def rows(request: Request) -> Response:
        first, most = (_read_whole(request, name, default) for name, default in (("first", 0), ("most", 100)))
        return _answer(room.list_rows(_read_query(request), first=first or 0, most=most or 0))

    def follow(request: Request) -> Response:
        step = -1 if request.query_params.get("step") == "-1" else 1
        return _answer(room.find_next(_read_query(request), _read_whole(request, "number", None), step=step))

    def picture(request: Request) -> Response:
        try:
            sent = room.read_picture(_read_number(request))
        except WetreadError as error:
            return _answer({"problem": str(error)})
        headers = {"X-Picture": json.dumps(sent.describe())}
        return Response(sent.body, media_type="application/octet-stream", headers=headers)

    def heat(request: Request) -> Response:
        return _try(lambda: room.explain(_read_number(request)))

    return [
        Route("/api/session", lambda request: _answer(room.describe())),
        Route("/api/counts", lambda request: _answer(room.count())),
        Route("/api/histogram", lambda request: _answer(room.draw_histogram(_read_query(request)))),
        Route("/api/rows", rows),
        Route("/api/next", follow),
        Route("/api/rows/{number}", lambda request: _answer(room.read_row(_read_number(request)))),
        Route("/api/rows/{number}/picture", picture),
        Route("/api/rows/{number}/heat", heat),
    ]


def _list_writes(room: Room) -> list[Route]:
    async def decide(request: Request) -> Response:
        decision = _read_decision(await _read_body(request))
        return await run_in_threadpool(_try, lambda: room.decide(decision))

    async def undo(request: Request) -> Response:
        identity = (await _read_body(request)).get("identity")
        if not isinstance(identity, str) or not 8 <= len(identity) <= 64:
            raise UsageError("The identity must be 8 to 64 letters and digits.")
        return await run_in_threadpool(_try, lambda: room.undo(identity))

    async def show(request: Request) -> Response:
        number = _read_number(request)
        return await run_in_threadpool(_try, lambda: room.show_answer(number))

    return [
        Route("/api/decisions", decide, methods=["POST"]),
        Route("/api/undo", undo, methods=["POST"]),
        Route("/api/rows/{number}/answer", show, methods=["POST"]),
    ]


def _answer(value: Any, status: int = 200) -> Response:
    # ASCII: names that are not UTF-8 hold surrogates.
    return Response(json.dumps(value, allow_nan=False), status, media_type=_JSON)


def _try(ask: Callable[[], dict[str, Any]]) -> Response:
    """Answer, or answer with the `problem` if a valid request cannot be served."""
    try:
        return _answer(ask())
    except WetreadError as error:
        return _answer({"problem": str(error)})


def _explain_error(request: Request, error: Exception) -> Response:
    return _answer({"problem": str(error)}, 400)


def _explain_fault(request: Request, error: Exception) -> Response:
    return _answer({"problem": str(make_fault(error))}, 500)


def _read_number(request: Request) -> int:
    """Return the row number in the path of a request."""
    return _parse_whole(request.path_params["number"])


def _read_whole(request: Request, name: str, default: int | None) -> int | None:
    text = request.query_params.get(name)
    return default if text is None else _parse_whole(text)


def _parse_whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise HTTPException(404)
    return int(text)


def _read_query(request: Request) -> Query:
    """Read the query of a request. Raises UsageError."""
    given = request.query_params
    words = {name: given.get(name, "") for name in ("label", "status", "scope", "review", "text")}
    low, high = (_read_share(given.get(name)) for name in ("low", "high"))
    return Query(sort=given.get("sort", "file"), down=given.get("down") == "1", low=low, high=high, **words)


def _read_share(text: str | None) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise UsageError("The number must be from 0 to 1.")
    return value


async def _read_body(request: Request) -> dict[str, Any]:
    """Read the JSON object of a request, up to MOST_BODY bytes. Raises UsageError."""
    data = b""
    async for piece in request.stream():
        data += piece
        if len(data) > MOST_BODY:
            raise HTTPException(413)
    if request.headers.get("content-type") != _JSON:
        raise HTTPException(415)
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UsageError("The request is not JSON.") from error
    if not isinstance(found, dict):
        raise UsageError("The request is not a JSON object.")
    return found


def _read_decision(found: dict[str, Any]) -> Decision:
    """Read a decision. Raises UsageError for missing or unknown fields and for wrong types."""
    for name, value in found.items():
        if type(value) not in _DECISION.get(name, ()):
            raise UsageError(f"The request is not a decision: {name} is unknown or of the wrong type.")
    if not {"identity", "number", "generation"} <= found.keys():
        raise UsageError("The request is not a decision: identity, number and generation are needed.")
    return Decision(**found)
