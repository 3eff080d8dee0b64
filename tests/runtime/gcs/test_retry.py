"""The one retry policy, on a clock that only waiting moves; and faults of our own: never retried."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.runtime.gcs_server import Answer, Faults
from wetread.errors import ImageError
from wetread.runtime.entries import Entry
from wetread.runtime.gcs import direct_reading, listing, object_readers, writing
from wetread.runtime.gcs.client import Storage
from wetread.runtime.gcs.direct_reading import StatusError
from wetread.runtime.gcs.failures import is_failure
from wetread.runtime.gcs.listing import BucketFolder
from wetread.runtime.gcs.reading import BucketReads
from wetread.runtime.gcs.retry import RetryPolicy, StorageError

CLOCKED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
OWN_FAULTS = (AttributeError("x"), TypeError("x"), KeyError("x"), IndexError("x"), ValueError("x"))


class Clock:
    """Seconds that pass only while somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """A clock of the retry policy's own, which the threads of other tests do not see."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)  # of grpcio-status, which nothing here needs
        from google.api_core.retry import retry_base, retry_unary
    found = Clock()
    for module in (retry_base, retry_unary):
        monkeypatch.setattr(module, "time", found)
    return found


def fail(times: int, error: Exception) -> Callable[[], int]:
    """A request that fails so often and then answers how often it was sent."""
    sent = SimpleNamespace(times=0)

    def request() -> int:
        sent.times += 1
        if sent.times <= times:
            raise error
        return sent.times

    return request


@CLOCKED
@given(first=st.floats(0.001, 1), longest=st.floats(0.5, 60), times=st.integers(0, 12))
def test_waits_double_up_to_the_longest(clock, first, longest, times):
    clock.waits.clear()
    policy = RetryPolicy(first=first, longest=longest, deadline=1e9)
    assert policy.send(fail(times, StatusError(503, ""))) == times + 1
    assert len(clock.waits) == times
    for index, wait in enumerate(clock.waits):
        assert 0.2 * min(longest, first) <= wait <= min(longest, first * 2.0**index) * 1.000001


def test_waits_are_jittered(clock):
    for _ in range(20):
        RetryPolicy().send(fail(1, StatusError(503, "")))
    assert len(set(clock.waits)) > 10


@CLOCKED
@given(deadline=st.floats(0.01, 300), own=st.one_of(st.none(), st.floats(0.01, 300)))
def test_no_wait_ends_after_the_deadline(clock, deadline, own):
    start, policy = clock.now, RetryPolicy(deadline=deadline)
    clock.waits.clear()
    with pytest.raises(StorageError, match="503 Service Unavailable: busy"):
        policy.send(fail(10**9, StatusError(503, "busy")), deadline=own)
    most = min(deadline, own or deadline)
    assert clock.now - start <= most + 1e-6
    # It ended because one more wait would have been too long, and not before.
    assert clock.now - start + min(policy.longest, policy.first * 2.0 ** len(clock.waits)) > most


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 412, 416, 599])
def test_what_does_not_pass_is_not_retried(clock, status):
    with pytest.raises(StorageError) as caught:
        RetryPolicy().send(fail(1, StatusError(status, "")))
    assert (caught.value.failure.status, clock.waits) == (status, [])


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 0])
def test_what_passes_is(clock, status):
    error = StatusError(status, "") if status else ConnectionResetError("reset")
    assert RetryPolicy().send(fail(3, error)) == 4
    assert len(clock.waits) == 3


def test_the_caller_may_end_it_sooner(clock):
    asked = []
    with pytest.raises(StorageError):
        RetryPolicy().send(
            fail(9, StatusError(503, "")),
            again=lambda failure: asked.append(failure.status) or len(asked) < 3,
        )
    assert asked == [503] * 3
    assert len(clock.waits) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), ImageError("empty", "x")])
def test_what_is_no_request_is_raised_as_it_is(clock, error):
    with pytest.raises(type(error)) as caught:
        RetryPolicy().send(fail(1, error))
    assert caught.value is error
    assert clock.waits == []


def test_reading_counts_attempts_on_the_same_clock(cloud, clock):
    """One object fails for as long as 120 s last; its row tells the attempts, the record every request."""
    cloud.buckets.create("b")
    for name in ("a", "b"):
        cloud.buckets.put("b", name, b"x")
    reads = BucketReads(Storage())
    entries = list(BucketFolder(reads, "gs://b").entries())
    cloud.faults = Faults(objects={"a": "500"})
    with pytest.raises(
        ImageError, match=r"500 Internal Server Error.* \((\d+) attempts in \d+ seconds\)"
    ) as caught:
        reads.read(entries[0])
    made = int(str(caught.value).partition(" attempts")[0].rpartition("(")[2])
    assert made == len(clock.waits) + 1 == reads.describe()["failed_requests"]["500"]
    assert 104 <= sum(clock.waits) <= 120
    assert reads.read(entries[1]) == b"x"


def raise_error(error: Exception, *_: object, **__: object) -> object:
    raise error


def requests_of(storage: Storage, entry: Entry) -> Iterator[tuple[object, str, Callable[[], object]]]:
    """Each way to ask: where our own code is broken, and the call that meets it."""
    reads = BucketReads(storage)
    google = BucketReads(storage)
    google._fast = None
    yield listing, "parse_page", lambda: listing.fetch_page(storage, "b", "")
    yield listing, "describe_entry", lambda: listing.look_up(storage, entry.name)
    yield writing, "_written", lambda: writing.find_object(storage, entry.name)
    yield writing, "_written", lambda: writing.write_object(storage, "gs://b/new", b"x", match=None)
    yield direct_reading, "_parse_head", lambda: reads.read(entry)
    yield direct_reading, "check_bytes", lambda: reads.read(entry)
    yield object_readers, "check_bytes", lambda: google.read(entry)
    yield object_readers, "split_name", lambda: google.read(entry)


@pytest.mark.parametrize("error", OWN_FAULTS, ids=lambda error: type(error).__name__)
def test_a_fault_of_our_own_is_neither_retried_nor_a_row(cloud, clock, monkeypatch, error):
    cloud.buckets.create("b")
    cloud.buckets.put("b", "a", b"x")
    storage = Storage()
    (entry,) = BucketFolder(BucketReads(storage), "gs://b").entries()
    for module, name, ask in requests_of(storage, entry):
        with monkeypatch.context() as broken, pytest.raises(type(error)) as caught:
            broken.setattr(module, name, partial(raise_error, error))
            ask()
        assert caught.value is error, name
    assert clock.waits == []


def test_calling_googles_client_wrongly_is_our_fault(cloud, clock):
    storage = Storage()
    for ask in (
        lambda: storage.bucket("b").blob("x").download_as_bytes(no_such_option=1),
        lambda: storage.bucket("b").no_such_method(),
    ):
        with pytest.raises((TypeError, AttributeError)) as caught:
            storage.call(ask)
        assert not is_failure(caught.value)
    assert clock.waits == []


def test_an_answer_that_googles_client_cannot_read_is_retried(cloud, clock):
    """Its own code breaks over an error's JSON of another shape (exceptions.from_http_response)."""
    cloud.buckets.create("b")
    bodies = [b'{"error": "x"}', b'{"error": [1]}', b'{"error": null}']
    cloud.change = lambda request, answer: (
        Answer(404, bodies.pop(), {"Content-Type": "application/json"}) if bodies else answer
    )
    assert listing.fetch_page(Storage(), "b", "") == ([], None)
    assert bodies == []


@pytest.mark.parametrize(
    ("broken", "code", "said"),
    [
        ("direct_reading.check_bytes", 3, "A fault of wetread, not of the file: TypeError in "),
        ("listing.parse_page", 1, "this is a fault of wetread, not of your files: TypeError."),
    ],
)
def test_a_fault_of_our_own_is_told_as_one(cloud, toy_model, tmp_path, broken, code, said):
    """The whole command with a broken line in a request: it says whose fault that is, and asks once."""
    cloud.buckets.create("b")
    cloud.buckets.put("b", "a.jpg", b"x")
    lines = (
        "import sys\n"
        "from wetread.runtime.gcs import direct_reading, listing\n"
        f"{broken} = lambda *_, **__: None + 1\n"
        "from wetread.cli import main\n"
        f"sys.argv[1:] = ['score', 'gs://b', '--model', {str(toy_model)!r}, '-q']\n"
        "main()\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", lines],
        capture_output=True,
        text=True,
        env=environment,
        timeout=99,
        check=False,
    )
    assert done.returncode == code
    assert said in done.stdout + done.stderr
    assert cloud.counts["requests"] <= 4
