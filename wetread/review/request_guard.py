"""Refuses requests that do not come from this server's own page in the reader's browser.

The command prints an address with a token. The first request with it gets a cookie, which every later request
needs. A host name that resolves to 127.0.0.1 (DNS rebinding) is refused by the Host header, a page of another
site by the Origin header; both lack the cookie as well. The headers of every response forbid caching,
framing, and loading anything from elsewhere.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SAFE_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
_REFUSED = (
    "Only the browser that opened the address printed by `wetread review` may see this page. Open that "
    "address again, with its token."
)
_METHODS = {"GET", "HEAD", "POST"}
MOST_BODY = 64 << 10


def _make_secret() -> str:
    return secrets.token_urlsafe(24)


@dataclass(frozen=True)
class Keys:
    """The secrets of one start of the server, shared with its browser. `port`: where the server listens."""

    port: int
    token: str = field(default_factory=_make_secret)
    cookie: str = field(default_factory=_make_secret)

    @property
    def host(self) -> str:
        """The only Host header that is accepted."""
        return f"127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        """The address to open, with its token."""
        return f"http://{self.host}/?token={self.token}"

    @property
    def cookie_name(self) -> str:
        """The cookie's name, with the port: browsers share cookies among all ports of a host."""
        return f"wetread-{self.port}"


class Guard:
    """Passes allowed requests to the app, and answers the others: 303 to a token, else 403, 405 or 413."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self._app, self._keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        headers = _read_headers(scope["headers"])
        status = self._judge(scope, headers)
        if status == 200:
            await self._app(scope, receive, _add_headers(send))
        elif status == 303:
            cookie = f"{self._keys.cookie_name}={self._keys.cookie}; Path=/; HttpOnly; SameSite=Strict"
            await _answer(send, 303, "", {"Location": "/", "Set-Cookie": cookie})
        else:
            await _answer(send, status, _REFUSED, {})

    def _judge(self, scope: Scope, headers: dict[str, list[str]]) -> int:
        """Return the status of the response; 200 if the app may answer."""
        if scope["method"] not in _METHODS:
            return 405
        if not self._is_from_here(scope["method"], headers):
            return 403
        if scope["method"] == "GET" and scope["path"] == "/" and self._has_token(scope["query_string"]):
            return 303
        if not self._has_cookie(headers.get("cookie", [])):
            return 403
        lengths = headers.get("content-length", ["0"])
        return 413 if not lengths[0].isdecimal() or int(lengths[0]) > MOST_BODY else 200

    def _is_from_here(self, method: str, headers: dict[str, list[str]]) -> bool:
        """Whether a request is for this server, and comes from its own page or from the address bar."""
        if headers.get("host") != [self._keys.host]:
            return False
        origins = headers.get("origin", [])
        if any(origin != f"http://{self._keys.host}" for origin in origins):
            return False
        if any(site not in ("same-origin", "none") for site in headers.get("sec-fetch-site", [])):
            return False
        # Browsers send an Origin with every POST.
        return method != "POST" or len(origins) == 1

    def _has_token(self, query: bytes) -> bool:
        tokens = parse_qs(query.decode("latin-1")).get("token", [])
        return len(tokens) == 1 and _is_same(tokens[0], self._keys.token)

    def _has_cookie(self, lines: Iterable[str]) -> bool:
        try:
            found = [SimpleCookie(line).get(self._keys.cookie_name) for line in lines]
        except CookieError:
            return False
        return any(morsel is not None and _is_same(morsel.value, self._keys.cookie) for morsel in found)


def _is_same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode())


def _read_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    headers: dict[str, list[str]] = {}
    for name, value in raw:
        headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return headers


def _encode(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


def _add_headers(send: Send) -> Send:
    async def add(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *_encode(SAFE_HEADERS)]
        await send(message)

    return add


async def _answer(send: Send, status: int, text: str, headers: dict[str, str]) -> None:
    body = text.encode()
    told = {**SAFE_HEADERS, **headers, "Content-Type": "text/plain; charset=utf-8"}
    told["Content-Length"] = str(len(body))
    await send({"type": "http.response.start", "status": status, "headers": _encode(told)})
    await send({"type": "http.response.body", "body": body})
