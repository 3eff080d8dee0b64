"""A loopback Cloud Storage server for tests: the JSON API, reads of the XML one, and faults.

In a test: `with serve() as server: server.buckets.put(...)`, then set STORAGE_EMULATOR_HOST to `server.url`.
In a process of its own (so that its CPU time is not the client's), it ends with its standard input:

    python -m tests.runtime.gcs_server BUCKET=FOLDER...      prints its address

Faults: set `server.faults`, or POST them as JSON to /control. GET /control tells what was asked.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.runtime.gcs_buckets import Buckets, Refusal, Stored


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What goes wrong: one request in so many (0: never), or always for one object.

    `throttle` answers 429 and 503 in turn; `truncate`, `reset` and `corrupt` hit answers that carry an
    object's bytes. `objects` names a lasting fault of one object: truncate, reset, corrupt, or a status.
    `denied` are actions that are answered 403 ('list', 'get', 'create', 'delete'); `token`, if set, is the
    only bearer token that is let in, and `token_served` the one that /token hands out instead of it;
    `requester_pays` asks for a project to bill.
    """

    latency: float = 0.0
    throttle: int = 0
    truncate: int = 0
    reset: int = 0
    corrupt: int = 0
    lose_answers: int = 0
    objects: dict[str, str] = field(default_factory=dict)
    denied: tuple[str, ...] = ()
    token: str = ""
    token_served: str = ""
    requester_pays: bool = False


@dataclass
class Request:
    """One request as received."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """One answer; `media` says that it carries an object's bytes."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    media: str | None = None


class Server:
    """Listens on a free port of 127.0.0.1, a thread for each connection."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.buckets = Buckets()
        self.faults = Faults()
        # What a server of another maker would answer instead, if anything.
        self.change: Callable[[Request, Answer], Answer] | None = None
        self.counts: Counter[str] = Counter()
        self.uploads: dict[str, dict[str, object]] = {}
        self.busiest = self.busy = 0
        self.log: list[str] = []
        self.keep_log = False
        self.lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._connections: set[socket.socket] = set()
        self._tls = tls
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._listener.getsockname()[1]}"

    def start(self) -> None:
        """Accept connections in the background."""
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop, and cut what is open."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self.lock:
            connections = list(self._connections)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        if self._tls is not None:
            try:
                connection = self._tls.wrap_socket(connection, server_side=True)
            except OSError:
                connection.close()
                return
        with (
            connection,
            connection.makefile("rb", buffering=1 << 16) as stream,
            suppress(OSError, ValueError),
        ):
            while (request := _read_request(stream, connection)) is not None:
                if not self._answer(request, connection):
                    break
        with self.lock:
            self._connections.discard(connection)

    def _answer(self, request: Request, connection: socket.socket) -> bool:
        """Answer one request; False once the connection is of no more use."""
        faults = self.faults
        if request.path.startswith("/control"):
            return _send(connection, self._control(request))
        with self.lock:
            self.counts["requests"] += 1
            number = self.counts["requests"]
            self.busy += 1
            self.busiest = max(self.busiest, self.busy)
            if self.keep_log:
                self.log.append(f"{request.method} {request.path} {sorted(request.query.items())}")
        try:
            if faults.latency:
                time.sleep(faults.latency)
            return self._answer_faulty(request, connection, faults, number)
        finally:
            with self.lock:
                self.busy -= 1

    def _answer_faulty(
        self, request: Request, connection: socket.socket, faults: Faults, number: int
    ) -> bool:
        try:
            if faults.throttle and number % faults.throttle == 0:
                self._count("throttled")
                status = 429 if number // faults.throttle % 2 else 503
                raise Refusal(status, "rateLimitExceeded", "Please slow down.")
            answer = self._route(request, faults)
        except Refusal as refusal:
            answer = Answer(refusal.status, refusal.body(), {"Content-Type": "application/json"})
        if self.change is not None:
            changed = self.change(request, answer)
            whole = changed.headers.get("Content-Length", "0") == answer.headers.get("Content-Length", "0")
            return _send(connection, changed) and whole  # else the client may wait for more
        fault = self._choose_fault(faults, answer, number)
        if (
            not fault
            and faults.lose_answers
            and request.method != "GET"
            and number % faults.lose_answers == 0
        ):
            fault = "reset"
        if fault:
            self._count(fault)
        if fault.isdigit():
            refusal = Refusal(int(fault), "fault", f"{answer.media}: the server was told to refuse this.")
            return _send(connection, Answer(refusal.status, refusal.body()))
        return _send(connection, answer, fault=fault)

    def _choose_fault(self, faults: Faults, answer: Answer, number: int) -> str:
        if answer.media is None or answer.status >= 300:
            return ""
        if answer.media in faults.objects:
            return faults.objects[answer.media]
        for name, offset in (("truncate", 7), ("reset", 57), ("corrupt", 33)):
            every = getattr(faults, name)
            if every and number % every == offset % every:
                return name
        return ""

    def _count(self, what: str) -> None:
        with self.lock:
            self.counts[what] += 1

    def _control(self, request: Request) -> Answer:
        if request.method == "POST":
            values = json.loads(request.body)
            for bucket, (folder, count, prefix) in values.pop("fill", {}).items():
                self.buckets.fill(bucket, folder, count=count, prefix=prefix)
            self.faults = Faults(**values)
            self.counts.clear()
            self.busiest = 0
        told = {"faults": asdict(self.faults), "counts": self.counts, "busiest": self.busiest}
        return Answer(200, json.dumps(told).encode())

    def _route(self, request: Request, faults: Faults) -> Answer:
        from tests.runtime import gcs_routes

        if request.path == "/token":
            token = {
                "access_token": faults.token_served or faults.token,
                "expires_in": 3600,
                "token_type": "Bearer",
            }
            return Answer(200, json.dumps(token).encode(), {"Content-Type": "application/json"})
        if faults.token and request.headers.get("authorization") != f"Bearer {faults.token}":
            raise Refusal(401, "authError", "Invalid Credentials")
        paying = request.query.get("userProject") or request.headers.get("x-goog-user-project")
        if faults.requester_pays and not paying:
            raise Refusal(
                400,
                "required",
                "Bucket is a requester pays bucket but no user project provided.",
            )
        return gcs_routes.route(self, request)

    def authorize(self, action: str, bucket: str) -> None:
        """Refuse an action that the server was told to deny."""
        if action in self.faults.denied:
            who = "reader@project.iam.gserviceaccount.com"
            raise Refusal(
                403,
                "forbidden",
                f"{who} does not have storage.objects.{action} access to the Google Cloud Storage bucket "
                f"{bucket}. Permission 'storage.objects.{action}' denied on resource (or it may not exist).",
            )


def _read_request(stream: object, connection: socket.socket) -> Request | None:
    line = stream.readline()  # type: ignore[attr-defined]
    if not line:
        return None
    method, target, _ = line.decode("latin-1").split(" ", 2)
    headers: dict[str, str] = {}
    while (line := stream.readline()) not in (b"\r\n", b""):  # type: ignore[attr-defined]
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    if headers.get("expect", "").lower() == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = _read_body(stream, headers)
    parts = urlsplit(target)
    query = dict(parse_qsl(parts.query, keep_blank_values=True)) if parts.query else {}
    # The path keeps its %2F: the JSON API tells a name's slashes from its own by them.
    return Request(method, parts.path, query, headers, body)


def _read_body(stream: object, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        pieces = []
        while size := int(stream.readline().split(b";")[0], 16):  # type: ignore[attr-defined]
            pieces.append(stream.read(size))  # type: ignore[attr-defined]
            stream.readline()  # type: ignore[attr-defined]
        stream.readline()  # type: ignore[attr-defined]
        return b"".join(pieces)
    size = int(headers.get("content-length", 0))
    return stream.read(size) if size else b""  # type: ignore[attr-defined]


def _send(connection: socket.socket, answer: Answer, *, fault: str = "") -> bool:
    """Send an answer, or what a fault leaves of it; False once the connection is closed."""
    body = answer.body
    lines = [f"HTTP/1.1 {answer.status} Status"]
    headers = {"Content-Length": str(len(body))} | answer.headers
    lines += [f"{name}: {value}" for name, value in headers.items() if value is not None]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8")
    if fault == "corrupt" and body:
        middle = len(body) // 2
        body = body[:middle] + bytes([body[middle] ^ 0x10]) + body[middle + 1 :]
    if fault in ("truncate", "reset"):
        connection.sendall(head + body[: len(body) // 2])
        if fault == "reset":  # closing with a linger of 0 sends a real RST
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        return False
    connection.sendall(head + body)
    return True


def decode_name(text: str) -> str:
    """A path part without its percent escapes."""
    return unquote(text)


@contextmanager
def serve(*, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Run a server in this process for as long as the block lasts."""
    server = Server(tls=tls)
    server.start()
    try:
        yield server
    finally:
        server.close()


def main() -> None:
    """Serve folders as buckets until standard input ends."""
    with serve() as server:
        for argument in sys.argv[1:]:
            bucket, _, folder = argument.partition("=")
            server.buckets.create(bucket)
            if folder:
                server.buckets.fill(bucket, folder)
        print(server.url, flush=True)  # noqa: T201
        sys.stdin.buffer.read()


__all__ = ["Answer", "Faults", "Refusal", "Request", "Server", "Stored", "replace", "serve"]

if __name__ == "__main__":
    main()
