"""Answers of servers that are not quite Cloud Storage's: a row or one line, never a row that is wrong."""

from __future__ import annotations

import base64
import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import draw_image
from tests.runtime.gcs_server import Answer, Request, Server
from wetread.errors import ImageError, WetreadError
from wetread.runtime.gcs.answers import AnswerError, describe_entry, parse_page
from wetread.runtime.gcs.client import Storage
from wetread.runtime.gcs.listing import BucketFolder, look_up
from wetread.runtime.gcs.reading import BucketReads
from wetread.runtime.gcs.retry import RetryPolicy, StorageError
from wetread.runtime.gcs.writing import Written, find_object, list_written, write_object

QUICK = RetryPolicy(first=0.001, longest=0.002, deadline=0.01)
FILES = {f"x/{index}.jpg": draw_image(index) for index in range(5)} | {"x/empty.jpg": b""}
OTHER = (None, "", 0, -1, 7, 2.5, True, "text", "12x", [], ["a"], {}, {"a": 1}, "9" * 30, "\ud800")
FIELDS = ("name", "size", "generation", "crc32c", "items", "nextPageToken", "metadata", "")
HEADERS = ("X-Goog-Hash", "X-Goog-Generation", "Content-Length", "Content-Encoding", "ETag", "Content-Type")
BODIES = (
    b"",
    b"null",
    b"[]",
    b'"x"',
    b"{}",
    b'{"error": "x"}',
    b'{"error": {"errors": 3}}',
    b"<html>",
    b"\xff",
)
BODIES += (b'{"error": {"message": 5, "errors": [null, "x", {"message": null}]}}', b'{"error": null}')


def change_json(value: object, field: str, how: object, every: int) -> object:
    """Change one field of every `every`th object that has it: '' stands for the answer as a whole."""
    if field == "":
        return {} if how in ("missing", "doubled") else how
    fields = dict(value) if isinstance(value, dict) else {}
    if "items" in fields and field not in ("items", "nextPageToken"):
        items = fields["items"]
        fields["items"] = [
            change_json(item, field, how, 1) if index % every == 0 else item
            for index, item in enumerate(items)
        ]
        return fields
    if how == "missing":
        fields.pop(field, None)
    elif how == "doubled":
        found = fields.get(field)
        fields[field] = found * 2 if isinstance(found, str | list) else found
    else:
        fields[field] = how
    return fields


def change_answer(answer: Answer, field: str, how: object, every: int) -> Answer:
    body = json.dumps(change_json(json.loads(answer.body), field, how, every)).encode()
    return replace(answer, body=body)


def change_header(answer: Answer, name: str, how: object) -> Answer:
    found = answer.headers.get(name, "gzip" if name == "Content-Encoding" else "x")
    values = {"missing": None, "doubled": f"{found}\r\n{name}: {found}", "joined": f"{found},{found}"}
    value = values[how] if isinstance(how, str) and how in values else str(how)
    return replace(answer, headers=answer.headers | {name: value})  # type: ignore[dict-item]


@pytest.fixture
def shop(cloud) -> Iterator[Server]:
    cloud.buckets.create("b")
    for name, data in FILES.items():
        cloud.buckets.put("b", name, data)
    yield cloud
    cloud.change = None


def read_all(location: str = "gs://b/x/") -> dict[str, bytes | str]:
    """List and read as `score` does: bytes by name, or what the row would say."""
    reads = BucketReads(Storage(policy=QUICK))
    found: dict[str, bytes | str] = {}
    for entry in BucketFolder(reads, location).entries():
        assert entry.name not in found, "a row that stands twice"
        try:
            found[entry.name] = reads.read(entry)
        except ImageError as error:
            found[entry.name] = str(error)
    return found


def judge(location: str = "gs://b/x/") -> None:
    """Accept right bytes, a reason, or one error of wetread's; all else fails the test."""
    try:
        found = read_all(location)
    except WetreadError as error:
        assert "\n" not in str(error) and str(error)
        return
    for name, data in found.items():
        assert isinstance(data, str) or data == FILES[name.removeprefix("gs://b/")], name


CALM = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
HOW = st.sampled_from(("missing", "doubled", *OTHER))


@CALM
@given(field=st.sampled_from(FIELDS), how=HOW, every=st.integers(1, 3))
def test_a_changed_field_of_a_listing(shop, field, how, every):
    def change(request: Request, answer: Answer) -> Answer:
        return change_answer(answer, field, how, every) if request.path.endswith("/o") else answer

    shop.change = change
    judge()


@CALM
@given(name=st.sampled_from(HEADERS), how=st.sampled_from(("missing", "doubled", "joined", *OTHER[1:-1])))
def test_a_changed_header_of_an_object(shop, name, how):
    shop.change = lambda _, answer: change_header(answer, name, how) if answer.media else answer
    judge()


@CALM
@given(field=st.sampled_from(("crc32c", "size", "generation")), name=st.sampled_from(HEADERS), how=HOW)
def test_a_listing_without_a_field_and_a_changed_header(shop, field, name, how):
    def change(request: Request, answer: Answer) -> Answer:
        if answer.media:
            return change_header(answer, name, "text" if how in (None, "\ud800") else how)
        return change_answer(answer, field, "missing", 1) if request.path.endswith("/o") else answer

    shop.change = change
    judge()


@CALM
@given(
    status=st.sampled_from((200, 204, 301, 400, 401, 403, 404, 412, 416, 418, 429, 500, 503)),
    body=st.sampled_from(BODIES),
    listing=st.booleans(),
)
def test_error_bodies_of_any_shape(shop, status, body, listing):
    def change(request: Request, answer: Answer) -> Answer:
        if request.path.endswith("/o") is not listing:
            return answer
        return Answer(status, b"" if status == 204 else body, {"Content-Type": "application/json"})

    shop.change = change
    judge()


@CALM
@given(field=st.sampled_from((*FIELDS, "bucket")), how=HOW)
def test_a_changed_field_of_an_object_that_is_looked_up(shop, field, how):
    shop.change = lambda _, answer: answer if answer.media else change_answer(answer, field, how, 1)
    reads = BucketReads(Storage(policy=QUICK))
    try:
        data: object = reads.read(look_up(reads.storage, "gs://b/x/1.jpg"))
    except WetreadError as error:
        data = FILES["x/1.jpg"] if str(error) else None
    assert data == FILES["x/1.jpg"]


@CALM
@given(field=st.sampled_from(FIELDS), how=HOW)
def test_a_changed_answer_about_an_output(shop, field, how):
    storage = Storage(policy=QUICK)
    shop.change = lambda _, answer: answer if answer.media else change_answer(answer, field, how, 1)
    tries = (
        lambda: find_object(storage, "gs://b/x/1.jpg"),
        lambda: list_written(storage, "gs://b/x/"),
        lambda: write_object(storage, "gs://b/y", b"data", match=None, notes={"a": "b"}),
    )
    for attempt in tries:
        try:
            found = attempt()
        except StorageError:
            continue
        assert isinstance(found, Written | list)


def test_the_sizes_of_what_is_empty_may_be_left_out(shop):
    def change(request: Request, answer: Answer) -> Answer:
        if not request.path.endswith("/o"):
            return answer
        value = json.loads(answer.body)
        for item in value["items"]:
            if item["size"] == "0":
                del item["size"]
        return replace(answer, body=json.dumps(value).encode())

    before = read_all()
    shop.change = change
    assert read_all() == before == {f"gs://b/{name}": FILES[name] for name in sorted(FILES)}


@pytest.mark.parametrize("field", ["size", "generation", "crc32c"])
def test_what_a_listing_leaves_out_the_answer_makes_up_for(shop, field):
    shop.change = lambda request, answer: (
        change_answer(answer, field, "missing", 1) if request.path.endswith("/o") else answer
    )
    assert read_all() == {f"gs://b/{name}": FILES[name] for name in sorted(FILES)}


def test_bytes_that_nothing_vouches_for_are_no_row(shop):
    def change(request: Request, answer: Answer) -> Answer:
        if answer.media:
            return change_header(answer, "X-Goog-Hash", "missing")
        return change_answer(change_answer(answer, "size", "missing", 1), "crc32c", "missing", 1)

    shop.change = change
    assert all(isinstance(data, str) and "to verify" in data for data in read_all().values())


def test_a_page_that_names_itself_ends(shop):
    shop.change = lambda request, answer: (
        replace(answer, body=json.dumps({"items": [], "nextPageToken": "6161"}).encode())
        if request.path.endswith("/o")
        and "maxResults" in request.query
        and request.query["maxResults"] != "1"
        else answer
    )
    with pytest.raises(WetreadError, match="names itself"):
        read_all()


def test_a_command_says_it_in_one_line(shop, toy_model):
    shop.change = lambda request, answer: (
        change_answer(answer, "size", ["a"], 1) if request.path.endswith("/o") else answer
    )
    command = [sys.executable, "-m", "wetread", "score", "gs://b/x", "--model", str(toy_model), "-q"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.count("\n") <= 1, len(done.stderr.splitlines())) == (1, True, 1)
    shop.change = lambda request, answer: (
        change_answer(answer, "size", "missing", 1) if request.path.endswith("/o") else answer
    )
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["status"] for row in rows] == ["ok"] * 5 + ["empty"]
    assert (done.returncode, done.stderr) == (3, "")


def test_the_parser_alone():
    crc = base64.b64encode(b"\1\2\3\4").decode()
    item = {"name": "x/a", "size": "3", "generation": "7", "crc32c": crc}
    assert parse_page({"items": None}, start="gs://b/", prefix="") == ([], None)
    (entry,), token = parse_page({"items": [item], "nextPageToken": "t"}, start="gs://b/", prefix="x/")
    assert (entry.name, entry.size, entry.version, entry.checksum, token) == ("gs://b/x/a", 3, "7", crc, "t")
    for wrong in (
        [item, item],
        [item | {"name": "y"}],
        [item | {"size": 1.0}],
        [item | {"size": True}],
        ["x"],
    ):
        with pytest.raises(AnswerError):
            parse_page({"items": wrong}, start="gs://b/", prefix="x/")
    assert describe_entry({}, location="gs://b/x").version == ""
