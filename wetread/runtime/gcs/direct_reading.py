"""The lean way to read an object: one GET on a kept connection, and nothing that is not needed for it.

Google's client costs a small object more processor time than its decoding does; this costs a fraction of
it, and no more than obstore (docs/guides/google-cloud.md has the figures). What this knows is little and
strict: HTTP/1.1, an answer of 200 with the length and the bytes that the listing promised. Whatever else
comes is an error, and Google's client is asked for a second opinion (wetread.runtime.gcs.reading).
"""

from __future__ import annotations

import re
import ssl
import threading
import weakref
from collections import deque
from collections.abc import Callable
from http.client import HTTPConnection, HTTPSConnection
from typing import Any
from urllib.parse import quote, urlsplit

from wetread.runtime.entries import Entry
from wetread.runtime.gcs.client import Storage, find_trusted
from wetread.runtime.gcs.object_readers import BadBytesError, check_bytes, split_name, unpack_encoded

_TIMEOUT = 60.0
_BUFFER = 64 << 10
_MOST_WORDS = 64 << 10


class StatusError(OSError):
    """An answer other than 200; `http_status` says which, and the text what the server said."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.http_status = status


class _StaleError(ConnectionError):
    """A kept connection that the server closed before it answered: nothing was lost but the connection."""


class _Connection:
    """One kept connection. Not shared between threads while in use; closed by whatever leaves it in doubt."""

    def __init__(self, make: Callable[[], HTTPConnection]) -> None:
        self._http = make()
        self._http.connect()
        self._buffer = bytearray(_BUFFER)
        self._used = False

    @property
    def open(self) -> bool:
        """Whether it can be used again."""
        return self._http.sock is not None

    def close(self) -> None:
        """Close it."""
        self._http.close()

    def get(self, request: bytes, entry: Entry) -> tuple[bytes, bytes]:
        """Send a request and return the answer's headers, in lower case, and its body.

        Raises StatusError, BadBytesError or another OSError.
        """
        try:
            status, headers, body = self._ask(request, entry)
        except BaseException:
            self.close()
            raise
        if body is None or b"\r\nconnection: close" in headers:
            self.close()
        if status != 200:
            raise StatusError(status, (body or b"").decode("utf-8", "replace"))
        return headers, body or b""

    def _ask(self, request: bytes, entry: Entry) -> tuple[int, bytes, bytes | None]:
        """Status, headers and body; None for the body of an error that is too long to be read."""
        socket, used, self._used = self._http.sock, self._used, True
        try:
            socket.sendall(request)
            head, got, start = self._read_head(socket)
        except (ConnectionError, ssl.SSLEOFError) as error:
            raise _StaleError(str(error)) if used else error from error
        status, headers = _parse_head(head)
        size = _find_length(headers)
        if status == 200 and size != entry.size:
            raise BadBytesError(f"an answer of {size:,} bytes where the listing says {entry.size:,}")
        if status != 200 and size > _MOST_WORDS:
            return status, headers, None
        return status, headers, self._read_body(socket, start, got, size)

    def _read_head(self, socket: Any) -> tuple[bytes, int, int]:
        """Read up to the end of the headers: they, the bytes in the buffer, and where the body begins."""
        buffer, got = self._buffer, 0
        view = memoryview(buffer)
        while got < len(buffer):
            count = socket.recv_into(view[got:])
            if not count:
                raise ConnectionResetError("the connection ended before the answer")
            at = buffer.find(b"\r\n\r\n", max(0, got - 3), got + count)
            got += count
            if at >= 0:
                return bytes(view[: at + 2]), got, at + 4
        raise ConnectionError("an answer with endless headers")

    def _read_body(self, socket: Any, start: int, got: int, size: int) -> bytes:
        """Read the rest of a body whose beginning is in the buffer; small ones stay there until whole."""
        view, end = memoryview(self._buffer), start + size
        if got > end:
            raise ConnectionError("more bytes than were announced")
        if end > len(view):
            body = bytearray(size)
            body[: got - start] = view[start:got]
            view, start, got, end = memoryview(body), 0, got - start, size
        rest = view[got:end]
        while rest:
            count = socket.recv_into(rest)
            if not count:
                raise ConnectionError(f"the connection ended {len(rest):,} bytes early")
            rest = rest[count:]
        return bytes(view[start:end])


def _parse_head(head: bytes) -> tuple[int, bytes]:
    """The status, and the header lines in lower case. Raises ConnectionError for what is not HTTP/1.1."""
    line, _, headers = head.partition(b"\r\n")
    if not line.startswith(b"HTTP/1.1 ") or not line[9:12].isdigit():
        raise ConnectionError("an answer that is not HTTP/1.1")
    return int(line[9:12]), b"\r\n" + headers.lower()


def _find_length(headers: bytes) -> int:
    """The length of the body. Raises ConnectionError where it is not told in one plain number."""
    _, found, rest = headers.partition(b"\r\ncontent-length:")
    length = rest.partition(b"\r\n")[0].strip()
    if (
        not found
        or not length.isdigit()
        or b"\r\ncontent-length:" in rest
        or b"\r\ntransfer-encoding:" in headers
    ):
        raise ConnectionError("an answer without a length")
    return int(length)


def _find_encoding(headers: bytes) -> str:
    """The content encodings, with commas between them."""
    return b",".join(re.findall(rb"\r\ncontent-encoding:([^\r\n]*)", headers)).decode("latin-1")


class DirectReader:
    """Reads objects over kept connections, one for each thread that reads at the same time."""

    name = "direct"

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        parts = urlsplit(storage.endpoint)
        self._host, self._prefix = parts.netloc, parts.path.rstrip("/")
        self._make = _connect(parts.scheme, parts.hostname or "", parts.port)
        self._idle: deque[_Connection] = deque()
        self._lock = threading.Lock()
        self._token: object = None
        self._head = b""
        weakref.finalize(self, _close_all, self._idle)

    def read(self, entry: Entry) -> bytes:
        """Return the bytes of one generation, held to the listing. Raises what `is_failure` holds for."""
        request = self._write_request(entry)
        while True:
            connection = self._idle.pop() if self._idle else _Connection(self._make)
            try:
                headers, data = connection.get(request, entry)
            except _StaleError:
                continue
            finally:
                if connection.open:
                    self._idle.append(connection)
            check_bytes(data, entry)
            return unpack_encoded(data, _find_encoding(headers))

    def _write_request(self, entry: Entry) -> bytes:
        bucket, name = split_name(entry)
        billed = f"&userProject={quote(self._storage.billed)}" if self._storage.billed else ""
        target = (
            f"{self._prefix}/storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}"
            f"?alt=media&generation={entry.version}{billed}"
        )
        return f"GET {target} HTTP/1.1\r\n".encode("ascii") + self._common_head()

    def _common_head(self) -> bytes:
        """The headers of every request: written anew when the token is."""
        storage = self._storage
        known = storage.anonymous or (storage.credentials.valid and storage.credentials.token is self._token)
        if self._head and known:
            return self._head
        with self._lock:
            found = {"Host": self._host, "Accept-Encoding": "gzip", "User-Agent": "wetread"}
            if not storage.anonymous:
                from google.auth.transport.requests import Request

                storage.credentials.before_request(Request(), "GET", storage.endpoint, found)
            lines = "".join(f"{name}: {value}\r\n" for name, value in found.items())
            self._token, self._head = storage.credentials.token, f"{lines}\r\n".encode("latin-1")
            return self._head


def _connect(scheme: str, host: str, port: int | None) -> Callable[[], HTTPConnection]:
    """What makes a connection, trusting the certificates that Google's client trusts."""
    if scheme == "http":
        return lambda: HTTPConnection(host, port, timeout=_TIMEOUT)
    context = ssl.create_default_context(cafile=find_trusted())
    return lambda: HTTPSConnection(host, port, timeout=_TIMEOUT, context=context)


def _close_all(connections: deque[_Connection]) -> None:
    while connections:
        connections.pop().close()
