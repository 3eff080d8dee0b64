"""Reading ahead: fetch what will be asked for before it is, bounded in bytes and in requests.

A feeder thread goes through the listing and hands entries on; fetching threads, as many as the waiting
workers turn out to need, fetch their bytes in listing order. A worker that asks for bytes that nobody has
begun to fetch fetches them itself, so that nothing can wait for ever.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter

from wetread.runtime.entries import Entry

_UNKNOWN_SIZE = 256 << 10
_IDLE_SECONDS = 2.0
_PENDING, _CLAIMED, _RUNNING, _DONE = range(4)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How far to read ahead: requests at a time (to begin with, and at most), bytes, and names listed.

    One object larger than `bytes` is still fetched, alone.
    """

    requests: int = 32
    most_requests: int = 128
    fewest_requests: int = 4
    bytes: int = 64 << 20
    names: int = 2048


class _Slot:
    """One entry on its way: its bytes or its error, once `ready` is let go of."""

    __slots__ = ("data", "entry", "error", "ready", "size", "state")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.size = _UNKNOWN_SIZE if entry.size is None else entry.size
        self.state = _PENDING
        self.data = b""
        self.error: BaseException | None = None
        self.ready = threading.Lock()
        self.ready.acquire()


class ReadAhead:
    """Fetches the bytes of one listing's entries ahead of `take`.

    `fetch` returns an entry's bytes or raises; it is called from many threads. `idle_seconds` counts the
    time in which a worker waited although a further request was allowed and known, `listing_seconds` that
    in which one waited for the listing to name more.
    """

    def __init__(self, fetch: Callable[[Entry], bytes], *, limits: Limits | None = None) -> None:
        self._fetch = fetch
        self.limits = limits or Limits()
        self.limit = self.limits.requests
        self.most_at_once = 0
        self.idle_seconds = self.listing_seconds = 0.0
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._named = threading.Condition(self._lock)
        self._queue: deque[Entry] = deque()
        self._pending: deque[_Slot] = deque()
        self._slots: dict[str, list[_Slot]] = {}
        self._held = self._running = self._waiting = self._threads = self._resting = 0
        self._listed = self._stopped = self._starved = False
        self._list_error: BaseException | None = None
        self._since, self._state = perf_counter(), ""
        self._slowed = 0.0

    def entries(self, upstream: Iterator[Entry]) -> Iterator[Entry]:
        """Pass a listing on, in order, while its bytes are being fetched. Raises what the listing raises."""
        feeder = threading.Thread(target=self._feed, args=(upstream,), name="wetread-list")
        feeder.start()
        try:
            while (entry := self._next_entry()) is not None:
                yield entry
        finally:
            with self._lock:
                self._stopped = self._stopped or not self._listed or bool(self._queue)
                for condition in (self._work, self._room, self._named):
                    condition.notify_all()
            feeder.join()
        if self._list_error is not None:
            raise self._list_error

    def take(self, entry: Entry) -> bytes | None:
        """Return an entry's bytes, waiting for them; None when they were never to be fetched ahead.

        Raises what `fetch` raised.
        """
        with self._lock:
            slots = self._slots.get(entry.name)
            if not slots:
                return None
            slot = slots.pop(0)
            if not slots:
                del self._slots[entry.name]
            mine = slot.state == _PENDING
            if mine:
                slot.state = _CLAIMED
                self._begin(slot)
        if mine:
            self._run(slot)
        self._await(slot)
        with self._lock:
            self._held -= slot.size
            self._wake()
        if slot.error is not None:
            raise slot.error
        return slot.data

    def slow_down(self) -> None:
        """Allow fewer requests at a time, for the service asked for it; successes let them grow again."""
        with self._lock:
            if perf_counter() - self._slowed > 0.5:
                self._slowed = perf_counter()
                self.limit = max(self.limits.fewest_requests, self.limit * 3 // 4)

    def _feed(self, upstream: Iterator[Entry]) -> None:
        """Go through the listing, a bounded number of names ahead."""
        try:
            for entry in upstream:
                if not self._push(entry):
                    break
        except BaseException as error:  # noqa: BLE001 - raised again where the entries are asked for
            self._list_error = error
        with self._lock:
            self._listed = True
            self._measure()
            self._named.notify_all()
            self._work.notify_all()

    def _push(self, entry: Entry) -> bool:
        with self._lock:
            while len(self._queue) >= self.limits.names and not self._stopped:
                # A consumer that never comes back must not keep the process alive.
                if not self._room.wait(1.0) and not threading.main_thread().is_alive():
                    self._stopped = True
            if self._stopped:
                return False
            slot = _Slot(entry)
            self._queue.append(entry)
            self._pending.append(slot)
            self._slots.setdefault(entry.name, []).append(slot)
            self._named.notify()
            self._wake()
            return True

    def _next_entry(self) -> Entry | None:
        with self._lock:
            while not self._queue:
                if self._listed or self._stopped:
                    return None
                self._starved = True
                self._measure()
                self._named.wait()
                self._starved = False
            self._measure()
            self._room.notify()
            return self._queue.popleft()

    def _await(self, slot: _Slot) -> None:
        if slot.ready.acquire(blocking=False):
            return
        with self._lock:
            self._waiting += 1
            self._wake()
        slot.ready.acquire()
        with self._lock:
            self._waiting -= 1
            self._measure()

    def _wake(self) -> None:
        """Set a thread to work if there is work that the limits allow. Called with the lock held."""
        if self._may_start():
            if self._resting:
                self._work.notify()
            elif self._threads < self.limit:
                self._threads += 1
                threading.Thread(target=self._serve, name="wetread-read").start()
        self._measure()

    def _may_start(self) -> bool:
        while self._pending and self._pending[0].state != _PENDING:
            self._pending.popleft()
        if not self._pending or self._running >= self.limit or self._stopped:
            return False
        return not self._held or self._held + self._pending[0].size <= self.limits.bytes

    def _serve(self) -> None:
        """One fetching thread: work while there is some, and leave after a rest without any."""
        while (slot := self._next_slot()) is not None:
            self._run(slot)

    def _next_slot(self) -> _Slot | None:
        with self._lock:
            while not self._may_start():
                over = self._stopped or (self._listed and not self._pending)
                self._resting += 1
                rested = not over and self._work.wait(_IDLE_SECONDS)
                self._resting -= 1
                if not rested and not self._may_start():
                    self._threads -= 1
                    return None
            slot = self._pending.popleft()
            self._begin(slot)
            return slot

    def _begin(self, slot: _Slot) -> None:
        slot.state = _RUNNING
        self._held += slot.size
        self._running += 1
        self.most_at_once = max(self.most_at_once, self._running)
        self._wake()

    def _run(self, slot: _Slot) -> None:
        try:
            slot.data = self._fetch(slot.entry)
        except BaseException as error:  # noqa: BLE001 - raised again where the bytes are asked for
            slot.error = error
        with self._lock:
            if self._waiting and self._running >= self.limit:
                self.limit = min(self.limit + 1, self.limits.most_requests)
            self._running -= 1
            slot.state = _DONE
            slot.ready.release()
            self._wake()

    def _measure(self) -> None:
        """Add the time since the last change to what it was spent on. Called with the lock held."""
        now = perf_counter()
        if self._state == "idle":
            self.idle_seconds += now - self._since
        elif self._state == "listing":
            self.listing_seconds += now - self._since
        self._since, self._state = now, ""
        if self._waiting and self._may_start():
            self._state = "idle"
        elif (self._waiting or self._starved) and not self._pending and not self._listed:
            self._state = "listing"
