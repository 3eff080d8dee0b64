"""Who may ask: other hosts, origins, tokens, methods and paths are refused, and nothing is opened."""

from __future__ import annotations

import random
import socket

import pytest

from tests.review.conftest import Client, write_scores

PATHS = (
    "/",
    "/app.js",
    "/api/session",
    "/api/rows",
    "/api/rows/0",
    "/api/rows/0/picture",
    "/api/rows/0/heat",
)


@pytest.fixture
def client(serve, tmp_path) -> Client:
    (tmp_path / "secret.png").write_bytes(b"secret")
    write_scores(tmp_path / "scores.csv", ["a.png", "b.png"])
    return serve(tmp_path / "scores.csv").client


def test_the_address_is_traded_for_a_cookie(client):
    status, headers, body = client.send("GET", f"/?token={client.token}", headers={"Cookie": ""})
    assert (status, headers["location"], body) == (303, "/", b"")
    name, _, rest = headers["set-cookie"].partition("=")
    value, *flags = [part.strip() for part in rest.split(";")]
    assert name == f"wetread-{client.port}" and len(value) >= 32 and value != client.token
    assert sorted(flags) == ["HttpOnly", "Path=/", "SameSite=Strict"]


@pytest.mark.parametrize("path", PATHS)
def test_without_the_cookie_nothing_is_told(client, path):
    for cookie in ("", "wetread=x", f"wetread-{client.port}=", f"wetread-{client.port}={client.token}"):
        status, headers, body = client.send("GET", path, headers={"Cookie": cookie})
        assert status == 403 and b"token" in body and "set-cookie" not in headers
    assert client.send("GET", path + "?token=wrong", headers={"Cookie": ""})[0] == 403


@pytest.mark.parametrize("path", PATHS)
def test_another_host_or_origin_is_refused_with_the_cookie(client, path):
    here = f"127.0.0.1:{client.port}"
    for host in (
        "evil.example",
        f"evil.example:{client.port}",
        "127.0.0.1",
        f"localhost:{client.port}",
        f"{here}.x",
    ):
        assert client.send("GET", path, headers={"Host": host})[0] == 403
        assert client.send("GET", f"/?token={client.token}", headers={"Host": host})[0] == 403
    for origin in ("http://evil.example", "null", f"https://{here}", "http://127.0.0.1", f"http://{here}/"):
        assert client.send("GET", path, headers={"Origin": origin})[0] == 403
    for site in ("cross-site", "same-site"):
        assert client.send("GET", path, headers={"Sec-Fetch-Site": site})[0] == 403


def test_what_changes_something_needs_an_origin_and_post(client):
    for path in ("/api/decisions", "/api/undo", "/api/rows/0/answer"):
        assert client.send("POST", path, body=b"{}", headers={"Content-Type": "application/json"})[0] == 403
        assert client.send("GET", path)[0] == 405
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"):
        assert client.send(method, "/api/rows")[0] == 405
    assert client.send("HEAD", "/api/rows")[2] == b""


def test_every_answer_forbids_caching_framing_and_other_sources(client):
    wrong = [("/nowhere", {}), ("/", {"Host": "evil.example"}), ("/api/rows?sort=x", {})]
    for path, headers in [*((path, {}) for path in PATHS), *wrong]:
        _, found, _ = client.send("GET", path, headers=headers)
        assert found["cache-control"] == "no-store"
        assert found["x-content-type-options"] == "nosniff"
        policy = found["content-security-policy"]
        assert (
            "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        )
        assert "server" not in found and "access-control-allow-origin" not in found


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.png",
        "/static/../../secret.png",
        "/%2e%2e/secret.png",
        "/..%2f..%2fetc/passwd",
        "//etc/passwd",
        "/etc/passwd",
        "/api/rows/../../etc/passwd",
        "/api/rows/%2Fetc%2Fpasswd/picture",
        "/api/rows/secret.png/picture",
        "/api/rows/-1/picture",
        "/api/rows/0x1/picture",
        "/api/rows/1e0/picture",
        "/api/rows/%D9%A3/picture",
        "/api/rows/" + "9" * 5000,
        "/api/rows/99",
        "/api/rows?first=-1",
        "/api/rows?low=nan",
        "/api/rows?low=1e999",
        "/room.py",
        "/index.html/",
        "http://127.0.0.1/etc/passwd",
        "\\..\\secret.png",
    ],
)
def test_no_path_opens_a_file(client, path):
    status, _, body = client.send("GET", path)
    assert status in (400, 404) and b"secret" not in body and b"root:" not in body


def mutate(request: bytes, drawn: random.Random) -> bytes:
    """Change some bytes of a request: flip, cut, double, insert."""
    data = bytearray(request)
    for _ in range(drawn.randint(1, 6)):
        at = drawn.randrange(len(data) or 1)
        kind = drawn.randrange(4)
        if kind == 0 and data:
            data[at] = drawn.randrange(256)
        elif kind == 1:
            del data[at : at + drawn.randint(1, 20)]
        elif kind == 2:
            data[at:at] = data[at : at + drawn.randint(1, 60)]
        else:
            data[at:at] = drawn.choice([b"\r\n", b"\0", b"../", b"%2e%2e/", b"\xff", b" ", b"Host: x\r\n"])
    return bytes(data)


def send_raw(port: int, request: bytes) -> bytes:
    """The beginning of what a server answers to these bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(4096)
        except ConnectionError:
            return b""


def fuzz(client: Client, count: int) -> list[bytes]:
    here = f"127.0.0.1:{client.port}"
    drawn = random.Random(18)
    body = b'{"identity":"12345678","number":0,"generation":1,"label":"NORMAL"}'
    seeds = [
        f"GET {path} HTTP/1.1\r\nHost: {here}\r\nCookie: {client.cookie}\r\n\r\n".encode() for path in PATHS
    ]
    post = f"POST /api/decisions HTTP/1.1\r\nHost: {here}\r\nOrigin: http://{here}\r\n"
    post += (
        f"Cookie: {client.cookie}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    seeds += [post.encode() + body] * 3
    return [send_raw(client.port, mutate(drawn.choice(seeds), drawn)) for _ in range(count)]


def check_fuzzed(client: Client, count: int, capfd: pytest.CaptureFixture[str]) -> None:
    answers = fuzz(client, count)
    codes = {answer.split(b" ")[1] for answer in answers if answer}
    assert b"500" not in codes and {b"200", b"400", b"403"} <= codes
    assert not any(b"Traceback" in answer or b"root:" in answer for answer in answers)
    assert capfd.readouterr() == ("", "")
    assert client.get("/api/counts")["rows"] == 2


def test_mutated_requests_open_nothing_and_leave_no_traceback(client, capfd):
    check_fuzzed(client, 1_000, capfd)


@pytest.mark.long
def test_ten_thousand_mutated_requests(client, capfd):
    check_fuzzed(client, 10_000, capfd)
