"""Reading objects: through both clients, held to the listing, again where it failed, never past a fault."""

from __future__ import annotations

import gzip
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest

from tests.runtime.gcs_server import Faults, Server
from wetread.errors import ImageError, SourceError
from wetread.runtime.entries import Entry
from wetread.runtime.gcs.client import Storage
from wetread.runtime.gcs.listing import BucketFolder
from wetread.runtime.gcs.object_readers import BadBytesError, unpack
from wetread.runtime.gcs.reading import BucketReads
from wetread.runtime.gcs.retry import RetryPolicy

QUICK = RetryPolicy(first=0.002, longest=0.02, deadline=0.4)
PATIENT = RetryPolicy(first=0.002, longest=0.05, deadline=30)
ODD_NAMES = (
    "sp ace.jpg",
    "pct%20.jpg",
    "hash#1.jpg",
    "q?x=1&y.jpg",
    "a//b.jpg",
    "/lead.jpg",
    "lead.jpg",
    "ü/中文.jpg",
    "dots/./x",
    "up/../x",
    "plus+&=;,'\".jpg",
    "star*[1].jpg",
    "~tilde^|\\.jpg",
    "tab\t.jpg",
    "\x7f.jpg",
)


def fill(cloud: Server, count: int) -> list[bytes]:
    """Put objects of some kilobytes, all different."""
    cloud.buckets.create("b")
    bodies = [bytes([index % 251]) * (3000 + 7 * index) for index in range(count)]
    for index, body in enumerate(bodies):
        cloud.buckets.put("b", f"{index:03d}.jpg", body)
    return bodies


def open_reads(*, policy: RetryPolicy = QUICK, project: str | None = None) -> BucketReads:
    return BucketReads(Storage(policy=policy, project=project))


def list_entries(reads: BucketReads, location: str = "gs://b") -> list[Entry]:
    return list(BucketFolder(reads, location).entries())


def read_ahead(reads: BucketReads, *, workers: int = 2) -> list[bytes]:
    """Read a whole bucket as scoring does."""
    folder = BucketFolder(reads, "gs://b")
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(folder.read, folder.read_ahead(folder.entries())))


@pytest.fixture(params=["direct", "google-cloud-storage"])
def reader(request, monkeypatch) -> str:
    """Either client."""
    if request.param == "google-cloud-storage":
        monkeypatch.setenv("WETREAD_GCS_READER", "google")
    return request.param


def test_both_clients_read_the_same(cloud, reader):
    bodies = fill(cloud, 60)
    cloud.buckets.put("b", "zero", b"")
    reads = open_reads()
    assert read_ahead(reads) == [*bodies, b""]
    told = reads.describe()
    assert told["reader"] == reader
    assert told["objects"] == 61
    assert told["failed_requests"] == {}


def test_names_that_no_url_likes(cloud, reader):
    cloud.buckets.create("b")
    for name in ODD_NAMES:
        cloud.buckets.put("b", name, f"the bytes of {name}".encode())
    reads = open_reads()
    entries = list_entries(reads)
    # A leading `//`, `.` and `..` are parts like any other in a bucket; hidden ones are left out as on disk.
    wanted = sorted(name for name in ODD_NAMES if not name.startswith(("dots", "up")))
    assert [entry.name for entry in entries] == [f"gs://b/{name}" for name in wanted]
    assert [reads.read(entry) for entry in entries] == [f"the bytes of {name}".encode() for name in wanted]


def test_every_fault_passes(cloud, reader):
    bodies = fill(cloud, 200)
    reads = open_reads(policy=PATIENT)
    cloud.faults = Faults(throttle=20, truncate=50, reset=40, corrupt=25)
    assert read_ahead(reads) == bodies
    assert {kind for kind in ("throttled", "truncate", "reset", "corrupt") if not cloud.counts[kind]} == set()
    assert reads.describe()["objects"] == 200


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("corrupt", "bytes whose crc32c is not the listing's"),
        ("truncate", "attempts in"),
        ("reset", "attempts in"),
        ("503", "503 Service Unavailable: 001.jpg: the server was told to refuse this ("),
        ("429", "429 Too Many Requests"),
        ("500", "500 Internal Server Error"),
        ("408", "408 Request Timeout"),
        ("403", "403 Forbidden: 001.jpg: the server was told to refuse this (an anonymous caller"),
        ("404", "404 Not Found: 001.jpg: the server was told to refuse this. It was deleted or replaced"),
        ("400", "400 Bad Request"),
        ("401", "401 Unauthorized: it is not public"),
    ],
)
def test_a_lasting_fault_is_that_rows_status(cloud, reader, fault, words):
    fill(cloud, 3)
    reads = open_reads()
    entries = list_entries(reads)
    cloud.faults = Faults(objects={"001.jpg": fault})
    assert len(reads.read(entries[0])) == 3000
    with pytest.raises(ImageError) as caught:
        reads.read(entries[1])
    assert caught.value.status == "unreadable"
    assert str(caught.value).startswith("The object cannot be read: ")
    assert words in str(caught.value)
    assert len(reads.read(entries[2])) == 3014


def test_wrong_bytes_are_not_asked_for_until_the_deadline(cloud, reader):
    fill(cloud, 1)
    reads = open_reads(policy=replace(PATIENT, first=0.001, longest=0.001))
    (entry,) = list_entries(reads)
    cloud.faults = Faults(objects={"000.jpg": "corrupt"})
    start = time.monotonic()
    with pytest.raises(ImageError, match="crc32c"):
        reads.read(entry)
    assert time.monotonic() - start < 5
    assert 5 <= cloud.counts["corrupt"] <= 8


def test_a_replaced_object_is_not_read(cloud, reader):
    fill(cloud, 2)
    reads = open_reads()
    entries = list_entries(reads)
    cloud.buckets.put("b", "000.jpg", b"another")
    cloud.buckets.delete("b", "001.jpg")
    for entry in entries:
        with pytest.raises(ImageError, match="deleted or replaced since it was listed"):
            reads.read(entry)


def test_gzip_encoding_is_undone_and_held_to_what_is_stored(cloud, reader):
    cloud.buckets.create("b")
    packed = gzip.compress(b"an image" * 500)
    for index in range(10):
        shape = replace(cloud.buckets.put("b", "shape", b""), content_encoding="gzip")
        cloud.buckets.put("b", f"{index}.jpg", packed, like=shape)
    cloud.buckets.delete("b", "shape")
    reads = open_reads()
    entries = list_entries(reads)
    assert [reads.read(entry) for entry in entries] == [b"an image" * 500] * 10
    assert reads.describe() == {"reader": reader, "objects": 10, "failed_requests": {}}


def test_gzip_of_several_members_is_one_file():
    members = gzip.compress(b"an image") + gzip.compress(b"") + gzip.compress(b" in parts")
    assert unpack(members) == unpack(members + bytes(9)) == b"an image in parts"
    for damaged in (members[:-1], members + b"more", b""):
        with pytest.raises(BadBytesError, match="gzip"):
            unpack(damaged)


def test_a_name_without_a_listing_is_held_to_the_answers_own_checksum(cloud):
    fill(cloud, 1)
    reads = open_reads()
    assert len(reads.read(Entry("gs://b/000.jpg"))) == 3000
    cloud.faults = Faults(objects={"000.jpg": "corrupt"})
    with pytest.raises(ImageError, match="Checksum mismatch"):
        reads.read(Entry("gs://b/000.jpg"))
    for name in ("gs://", "gs://b", "gs://b/absent", "gs://no such bucket/x"):
        with pytest.raises(ImageError):
            reads.read(Entry(name))


def test_an_outage_ends_the_run_instead_of_writing_it_off(cloud, reader, monkeypatch):
    fill(cloud, 2)
    reads = open_reads()
    entries = list_entries(reads)
    assert reads.read(entries[0])
    cloud.faults = Faults(throttle=1)
    with pytest.raises(SourceError, match=r"did not answer in .* seconds.*Run again"):
        reads.read(entries[1])
    cloud.close()
    # Windows' clock stands still for 16 ms: what came just before the outage is no answer within it.
    monkeypatch.setattr("wetread.runtime.gcs.reading.monotonic", lambda: 0.0)
    monkeypatch.setattr("wetread.runtime.gcs.client.monotonic", lambda: 0.0, raising=False)
    with pytest.raises(SourceError, match=r"did not answer in .* seconds"):
        reads.read(entries[1])


def test_one_bad_object_is_told_from_an_outage(cloud):
    """The last object fails for as long as we ask, and nothing else is being read meanwhile."""
    fill(cloud, 1)
    reads = open_reads()
    (entry,) = list_entries(reads)
    cloud.faults = Faults(objects={"000.jpg": "503"})
    with pytest.raises(ImageError, match="503"):
        reads.read(entry)


def test_requesters_pay_where_a_project_is_named(cloud):
    bodies = fill(cloud, 5)
    cloud.faults = Faults(requester_pays=True)
    with pytest.raises(SourceError, match="is billed to the reader.*--project PROJECT"):
        list_entries(open_reads())
    reads = open_reads(project="our-project")
    assert read_ahead(reads) == bodies
    assert reads.describe()["reader"] == "direct"


def test_a_bucket_that_begins_to_bill_midway(cloud):
    bodies = fill(cloud, 3)
    reads = open_reads(project="our-project")
    entries = list_entries(reads)
    cloud.faults = Faults(requester_pays=True)
    assert [reads.read(entry) for entry in entries] == bodies


def test_a_request_that_was_sent_before_another_thread_began_to_bill_is_sent_again(cloud):
    """Of two that are refused, one begins to bill: to the other that is not the end."""
    bodies = fill(cloud, 8)
    reads = open_reads(project="our-project")
    entries = list_entries(reads)
    cloud.faults = Faults(requester_pays=True)
    together = threading.Barrier(8)
    once = threading.local()
    read = reads._fast.read, reads.plain.read

    def meet(how, entry):
        """Let nobody hear of a refusal before all were refused."""
        try:
            return how(entry)
        finally:
            if not getattr(once, "met", False) and how is read[1]:
                once.met = True
                together.wait(10)

    reads._fast.read = partial(meet, read[0])
    reads.plain.read = partial(meet, read[1])
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(reads.read, entries)) == bodies
    storage = Storage(project="our-project", policy=QUICK)
    asked = []

    def request():
        asked.append(storage.billed)
        bucket = storage.bucket("b")
        storage.bill()  # another thread, meanwhile
        return bucket.get_blob("000.jpg").size

    assert storage.call(request) == len(bodies[0])
    assert asked == [None, "our-project"]


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "ALL_PROXY"])
def test_a_proxy_is_left_to_googles_client(cloud, monkeypatch, name):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "https://storage.example.com")
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    assert open_reads().describe()["reader"] == "direct"
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert open_reads().describe()["reader"] == "google-cloud-storage"
    monkeypatch.setenv("NO_PROXY", "example.com")
    assert open_reads().describe()["reader"] == "direct"


class Hopeless:
    """A lean reader that some middlebox leaves without a chance."""

    name = "direct"

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.asked = 0

    def read(self, entry: Entry) -> bytes:
        self.asked += 1
        raise self.error


@pytest.mark.parametrize("error", [BadBytesError("other bytes"), ConnectionResetError("reset")])
def test_what_fails_every_time_is_not_asked_for_long(cloud, error):
    bodies = fill(cloud, 60)
    reads = open_reads(policy=PATIENT)
    reads._fast = hopeless = Hopeless(error)
    assert [reads.read(entry) for entry in list_entries(reads)] == bodies
    assert hopeless.asked <= 16
    assert reads.describe()["reader"] == "google-cloud-storage"


def test_reading_ahead_hides_the_latency(cloud):
    """200 requests of 30 ms, one after the other, are 6 seconds of waiting."""
    bodies = fill(cloud, 200)
    cloud.faults = Faults(latency=0.03)
    reads = open_reads()
    start = time.monotonic()
    assert read_ahead(reads) == bodies
    assert time.monotonic() - start < 200 * 0.03 / 2
    told = reads.describe()
    assert told["most_requests_at_once"] >= 24
    assert cloud.busiest >= 16  # of 24: the server sees one begin when its thread has a processor
