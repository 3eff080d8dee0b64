"""The requests that the loopback Cloud Storage server understands, each to its answer."""

from __future__ import annotations

import json
import uuid
from email import message_from_bytes
from email.policy import HTTP
from typing import TYPE_CHECKING
from urllib.parse import unquote

from tests.runtime.gcs_buckets import Refusal, Stored

if TYPE_CHECKING:
    from tests.runtime.gcs_server import Answer, Request, Server

_JSON = {"Content-Type": "application/json; charset=UTF-8"}


def route(server: Server, request: Request) -> Answer:
    """Answer one request. Raises Refusal."""
    parts = request.path.split("/")[1:]
    if parts[:1] == ["upload"]:
        return _upload(server, request, bucket=unquote(parts[4]))
    if parts[:1] == ["download"]:
        parts = parts[1:]
    if parts[:3] == ["storage", "v1", "b"]:
        return _json_api(server, request, [unquote(part) for part in parts[3:]])
    bucket, _, name = request.path[1:].partition("/")
    return _xml(server, request, unquote(bucket), unquote(name))


def _answer(status: int, value: object) -> Answer:
    from tests.runtime.gcs_server import Answer

    return Answer(status, json.dumps(value).encode(), dict(_JSON))


def _json_api(server: Server, request: Request, parts: list[str]) -> Answer:
    match (request.method, parts):
        case ("GET", [bucket]):
            server.buckets.page(bucket, prefix="", after="", start="", limit=1)
            return _answer(200, {"kind": "storage#bucket", "name": bucket})
        case ("GET", [bucket, "o"]):
            return _list(server, request, bucket)
        case ("GET", [bucket, "o", name]) if request.query.get("alt") == "media":
            return _media(server, request, bucket, name)
        case ("GET", [bucket, "o", name]):
            server.authorize("get", bucket)
            found = server.buckets.get(bucket, name, generation=request.query.get("generation", ""))
            return _answer(200, found.resource(bucket, name))
        case ("DELETE", [bucket, "o", name]):
            server.authorize("delete", bucket)
            server.buckets.delete(bucket, name, conditions=request.query)
            return _answer(204, "")
        case ("POST", [bucket, "o", name, "compose"]):
            return _compose(server, request, bucket, name)
    raise Refusal(400, "invalid", f"The test server does not know {request.method} {request.path}.")


def _list(server: Server, request: Request, bucket: str) -> Answer:
    server.authorize("list", bucket)
    query = request.query
    limit = min(int(query.get("maxResults", 1000)), 1000)
    # A token is the name that the page before ended with, made unlike a name.
    after = bytes.fromhex(query["pageToken"]).decode() if query.get("pageToken") else ""
    names, more = server.buckets.page(
        bucket, prefix=query.get("prefix", ""), after=after, start=query.get("startOffset", ""), limit=limit
    )
    found: dict[str, object] = {"kind": "storage#objects"}
    wanted = ("name", "size", "generation", "crc32c", "updated", "contentEncoding", "metadata")
    resources = (server.buckets.get(bucket, name).resource(bucket, name) for name in names)
    if names:
        found["items"] = [{key: item[key] for key in wanted if key in item} for item in resources]
    if more:
        found["nextPageToken"] = names[-1].encode().hex()
    return _answer(200, found)


def _media(server: Server, request: Request, bucket: str, name: str) -> Answer:
    from tests.runtime.gcs_server import Answer

    server.authorize("get", bucket)
    found = server.buckets.get(bucket, name, generation=request.query.get("generation", ""))
    headers = _object_headers(found)
    body, status = found.data, 200
    if found.content_encoding == "gzip" and "gzip" not in request.headers.get("accept-encoding", ""):
        # Decompressive transcoding: what is sent is not what is stored.
        import gzip

        body = gzip.decompress(body)
        del headers["Content-Encoding"]
    span = request.headers.get("range")
    if span:
        first, last = _range(span, len(body))
        headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
        body, status = body[first : last + 1], 206
    headers["Content-Length"] = str(len(body))
    if request.method == "HEAD":
        body = b""
    return Answer(status, body, headers, media=name)


def _range(span: str, size: int) -> tuple[int, int]:
    first, _, last = span.removeprefix("bytes=").partition("-")
    if not first:
        return max(0, size - int(last)), size - 1
    if int(first) >= size:
        raise Refusal(416, "requestedRangeNotSatisfiable", "Request range not satisfiable")
    return int(first), min(int(last or size - 1), size - 1)


def _object_headers(found: Stored) -> dict[str, str]:
    headers = {
        "Content-Type": found.content_type,
        "ETag": f'"{found.generation}"',
        "Last-Modified": "Sun, 22 Nov 2026 00:00:00 GMT",
        "Accept-Ranges": "bytes",
        "X-Goog-Hash": f"crc32c={found.crc32c}",
        "X-Goog-Generation": str(found.generation),
        "X-Goog-Stored-Content-Length": str(len(found.data)),
    }
    if found.content_encoding:
        headers["Content-Encoding"] = found.content_encoding
        headers["X-Goog-Stored-Content-Encoding"] = found.content_encoding
    return headers


def _xml(server: Server, request: Request, bucket: str, name: str) -> Answer:
    if request.method not in ("GET", "HEAD") or not name:
        raise Refusal(400, "invalid", f"The test server does not know {request.method} {request.path}.")
    return _media(server, request, bucket, name)


def _shape(resource: dict[str, object]) -> Stored:
    return Stored(
        b"",
        "",
        0,
        content_type=str(resource.get("contentType") or "application/octet-stream"),
        content_encoding=str(resource.get("contentEncoding") or ""),
        metadata=resource.get("metadata") or {},  # type: ignore[arg-type]
    )


def _compose(server: Server, request: Request, bucket: str, name: str) -> Answer:
    server.authorize("create", bucket)
    wanted = json.loads(request.body)
    stored = server.buckets.compose(
        bucket,
        name,
        wanted["sourceObjects"],
        conditions=request.query,
        like=_shape(wanted.get("destination", {})),
    )
    return _answer(200, stored.resource(bucket, name))


def _upload(server: Server, request: Request, *, bucket: str) -> Answer:
    server.authorize("create", bucket)
    if "upload_id" in request.query:
        return _continue_upload(server, request, bucket)
    if request.query.get("uploadType") == "resumable":
        return _begin_upload(server, request)
    mime = b"Content-Type: " + request.headers["content-type"].encode() + b"\r\n\r\n" + request.body
    first, second = message_from_bytes(mime, policy=HTTP).iter_parts()
    resource = json.loads(
        first.get_content() if first.get_content_maintype() == "text" else first.get_payload(decode=True)
    )
    boundary = request.headers["content-type"].partition("boundary=")[2].strip('"').encode()
    # The payload by its bytes: the mail parser would change its line ends.
    data = request.body.split(b"--" + boundary)[2].partition(b"\r\n\r\n")[2][:-2]
    resource.setdefault("contentType", second.get_content_type())
    name = resource.get("name") or request.query["name"]
    stored = _store(server, bucket, name, data, resource, request.query)
    return _answer(200, stored.resource(bucket, name))


def _store(
    server: Server, bucket: str, name: str, data: bytes, resource: dict[str, object], query: dict[str, str]
) -> Stored:
    from tests.runtime.gcs_buckets import checksum

    sent = resource.get("crc32c")
    if sent and sent != checksum(data):
        raise Refusal(400, "invalid", "Provided CRC32C does not match calculated CRC32C.")
    return server.buckets.put(bucket, name, data, conditions=query, like=_shape(resource))


def _begin_upload(server: Server, request: Request) -> Answer:
    from tests.runtime.gcs_server import Answer

    key = uuid.uuid4().hex
    resource = json.loads(request.body or b"{}")
    resource.setdefault("contentType", request.headers.get("x-upload-content-type"))
    server.uploads[key] = {"resource": resource, "query": dict(request.query), "data": bytearray()}
    query = "&".join(f"{name}={value}" for name, value in request.query.items() if name != "name")
    location = f"{server.url}{request.path}?{query}&upload_id={key}"
    return Answer(200, b"", {"Location": location, "X-GUploader-UploadID": key})


def _continue_upload(server: Server, request: Request, bucket: str) -> Answer:
    from tests.runtime.gcs_server import Answer

    session = server.uploads.get(request.query["upload_id"])
    if session is None:
        raise Refusal(410, "gone", "The upload is over.")
    data: bytearray = session["data"]  # type: ignore[assignment]
    span, _, total = request.headers.get("content-range", "").removeprefix("bytes ").partition("/")
    if not span.startswith("*") and span:
        first = int(span.partition("-")[0])
        del data[first:]
        data += request.body
    elif not span:
        data[:] = request.body
        total = str(len(data))
    if total == "*" or len(data) < int(total):
        headers = {"Range": f"bytes=0-{len(data) - 1}"} if data else {}
        return Answer(308, b"", headers)
    resource: dict[str, object] = session["resource"]  # type: ignore[assignment]
    query: dict[str, str] = session["query"]  # type: ignore[assignment]
    name = str(resource.get("name") or query.get("name"))
    stored = _store(server, bucket, name, bytes(data), resource, query)
    del server.uploads[request.query["upload_id"]]
    return _answer(200, stored.resource(bucket, name))
