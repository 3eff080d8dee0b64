"""Reading ahead: order, bounds, errors, and that nothing waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wetread.errors import ImageError, SourceError
from wetread.runtime.entries import Entry
from wetread.runtime.gcs.prefetch import Limits, ReadAhead


class Fetching:
    """A fetch that takes a while, and remembers how much of it was under way at a time."""

    def __init__(self, seconds: float = 0.002) -> None:
        self.seconds = seconds
        self.lock = threading.Lock()
        self.names: list[str] = []
        self.now = self.most = 0

    def __call__(self, entry: Entry) -> bytes:
        with self.lock:
            self.names.append(entry.name)
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.seconds)
        with self.lock:
            self.now -= 1
        if "bad" in entry.name:
            raise ImageError("unreadable", entry.name)
        return entry.name.encode()


def name_entries(count: int, *, size: int | None = 10) -> list[Entry]:
    return [Entry(f"n{index:04d}", size) for index in range(count)]


def read_all(ahead: ReadAhead, entries: Iterator[Entry], *, workers: int) -> list[bytes]:
    """Take every entry from `workers` threads, a few entries ahead, as scoring does."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(ahead.take, ahead.entries(entries)))  # type: ignore[arg-type]


def wait_until(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + 5
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
    return holds()


def reading_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("wetread-")]


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.one_of(st.none(), st.integers(0, 3000)), max_size=60),
    workers=st.integers(1, 4),
    requests=st.integers(1, 8),
    names=st.integers(1, 20),
    most_bytes=st.integers(1, 4000),
)
def test_every_entry_comes_once_in_order(sizes, workers, requests, names, most_bytes):
    entries = [Entry(f"n{index:04d}", size) for index, size in enumerate(sizes)]
    limits = Limits(requests=requests, most_requests=requests, bytes=most_bytes, names=names)
    fetch = Fetching(0)
    ahead = ReadAhead(fetch, limits=limits)
    found = read_all(ahead, iter(entries), workers=workers)
    assert found == [entry.name.encode() for entry in entries]
    assert sorted(fetch.names) == [entry.name for entry in entries]


def test_what_is_not_wanted_is_passed_on_and_takes_no_place():
    """Files among objects: another process may read them."""
    entries = [Entry(f"{'n' if index % 100 else 'gs'}{index:04d}", 3000) for index in range(1000)]
    fetch = Fetching(0)
    ahead = ReadAhead(fetch, limits=Limits(bytes=6000), wants=lambda entry: entry.name.startswith("gs"))
    for entry in ahead.entries(iter(entries)):
        found = ahead.take(entry) if entry.name.startswith("gs") else None
        assert found == (entry.name.encode() if entry.name.startswith("gs") else None)
    assert sorted(fetch.names) == [f"gs{index:04d}" for index in range(0, 1000, 100)]


def test_requests_stay_within_their_limit():
    fetch = Fetching()
    ahead = ReadAhead(fetch, limits=Limits(requests=3, most_requests=5))
    read_all(ahead, iter(name_entries(100)), workers=1)
    assert 3 <= fetch.most <= 5 + 1  # and the worker, which fetches for itself what nobody has begun
    assert ahead.most_at_once == fetch.most


def test_the_limit_grows_while_workers_wait():
    ahead = ReadAhead(Fetching(0.01), limits=Limits(requests=2, most_requests=16))
    read_all(ahead, iter(name_entries(200)), workers=2)
    assert ahead.limit == 16


def test_the_limit_shrinks_when_the_service_asks_for_it():
    ahead = ReadAhead(Fetching(), limits=Limits(requests=32, fewest_requests=4))
    ahead.slow_down()
    assert ahead.limit == 24
    ahead.slow_down()  # a burst of refusals counts once
    assert ahead.limit == 24


def test_bytes_stay_within_their_bound():
    entries = name_entries(40, size=1000)
    held = Fetching(0)
    ahead = ReadAhead(held, limits=Limits(bytes=5000))
    listing = ahead.entries(iter(entries))
    taken = next(listing)
    assert wait_until(lambda: len(held.names) == 5)
    time.sleep(0.05)
    assert len(held.names) == 5  # nothing more until something is taken
    assert ahead.take(taken) == b"n0000"
    assert wait_until(lambda: len(held.names) == 6)
    listing.close()


def test_an_object_above_the_bound_is_fetched_alone():
    ahead = ReadAhead(Fetching(), limits=Limits(bytes=10))
    entries = [Entry("large", 1000), Entry("small", 1)]
    assert read_all(ahead, iter(entries), workers=1) == [b"large", b"small"]


def test_a_listing_that_is_only_listed_ends():
    entries = name_entries(500, size=1 << 20)
    ahead = ReadAhead(Fetching(0), limits=Limits(names=16))
    assert list(ahead.entries(iter(entries))) == entries
    # And what nobody fetched for want of room is fetched when it is asked for, in any order.
    assert [ahead.take(entry) for entry in reversed(entries)] == [e.name.encode() for e in reversed(entries)]


def test_the_listing_runs_a_bounded_number_of_names_ahead():
    listed: list[str] = []

    def list_entries() -> Iterator[Entry]:
        for entry in name_entries(1000):
            listed.append(entry.name)
            yield entry

    ahead = ReadAhead(Fetching(0), limits=Limits(names=50))
    listing = ahead.entries(list_entries())
    next(listing)
    time.sleep(0.1)
    assert 50 <= len(listed) <= 53
    listing.close()


def test_what_the_listing_raises_comes_after_what_it_listed():
    def list_entries() -> Iterator[Entry]:
        yield from name_entries(3)
        raise SourceError("the listing broke")

    ahead = ReadAhead(Fetching())
    seen = []
    with pytest.raises(SourceError, match="the listing broke"):
        seen.extend(entry.name for entry in ahead.entries(list_entries()))
    assert seen == ["n0000", "n0001", "n0002"]


def test_what_fetching_raises_comes_where_it_is_asked_for():
    ahead = ReadAhead(Fetching())
    good, bad = list(ahead.entries(iter([Entry("good", 1), Entry("bad", 1)])))
    assert ahead.take(good) == b"good"
    with pytest.raises(ImageError, match="bad"):
        ahead.take(bad)


def test_the_same_name_twice_is_two_entries():
    fetch = Fetching()
    ahead = ReadAhead(fetch)
    assert read_all(ahead, iter([Entry("n", 1), Entry("n", 1)]), workers=2) == [b"n", b"n"]
    assert fetch.names == ["n", "n"]
    assert ahead.take(Entry("n", 1)) is None


def test_stopping_early_ends_every_thread():
    fetch = Fetching(0.01)
    ahead = ReadAhead(fetch)
    listing = ahead.entries(iter(name_entries(5000)))
    first = next(listing)
    second = next(listing)
    ahead.take(first)
    listing.close()
    assert ahead.take(second) == second.name.encode()  # a chunk under way is still finished
    assert wait_until(lambda: reading_threads() == [])
    assert len(fetch.names) < 500


def test_a_whole_run_leaves_no_thread():
    ahead = ReadAhead(Fetching())
    read_all(ahead, iter(name_entries(50)), workers=2)
    assert wait_until(lambda: reading_threads() == [])


def test_every_request_that_is_allowed_is_under_way():
    """No request ends before eight are under way together: one fewer at a time, and the barrier breaks."""
    together = threading.Barrier(8, timeout=30)

    def fetch(entry: Entry) -> bytes:
        together.wait()
        return entry.name.encode()

    entries = name_entries(200)
    ahead = ReadAhead(fetch, limits=Limits(requests=8, most_requests=8))
    assert read_all(ahead, iter(entries), workers=2) == [entry.name.encode() for entry in entries]


def test_waiting_for_a_slow_listing_is_told_apart():
    def list_slowly() -> Iterator[Entry]:
        for entry in name_entries(5):
            time.sleep(0.05)
            yield entry

    ahead = ReadAhead(Fetching(0))
    read_all(ahead, list_slowly(), workers=1)
    assert 0.15 < ahead.listing_seconds < 1.0
