from __future__ import annotations

import errno
import socket
import time
import tracemalloc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tests.node.conftest import until
from wetread.node.options import NodeOptions, Peer
from wetread.node.pynetdicom_entity import import_pynetdicom
from wetread.node.sender import GoneError, Sender
from wetread.runtime.watch.faults import Faults

REPORT = "1.2.840.10008.5.1.4.1.1.88.33"
WHERE = "ARCH@127.0.0.1:104"


class Association:
    """An archive's side, as pynetdicom shows it."""

    def __init__(self) -> None:
        self.is_established = True
        self.accepted_contexts = [SimpleNamespace(abstract_syntax=REPORT)]
        self.sent: list[Any] = []

    def send_c_store(self, made: Any) -> dict[str, int]:
        if not self.is_established:
            raise RuntimeError("The association with a peer SCP must be established before sending")
        self.sent.append(made)
        return {"Status": 0}

    def release(self) -> None:
        pass


class Scene:
    """A sender with one archive, and what it said and noted; a test may replace `make` and `note`."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *,
        clock: Callable[[], float] = time.monotonic,
        retry_seconds: tuple[float, float] = (0.01, 0.02),
    ) -> None:
        self.said: list[str] = []
        self.noted: list[str] = []
        self.association = Association()
        self.make = lambda: None
        self.note = lambda: None
        options = NodeOptions(
            ae_title="WETREAD",
            output="scores.csv",
            store="store",
            allow=(Peer("*", "*"),),
            archives=(Peer("ARCH", "127.0.0.1", 104),),
            results=("sr",),
            retry_seconds=retry_seconds,
        )
        self.sender = Sender(
            options,
            make=self._make,  # type: ignore[arg-type]
            note=self._note,
            is_out=lambda name, _: name in self.noted,
            report=self.said.append,
            faults=Faults(self.said.append, clock=clock),
            clock=clock,
        )
        monkeypatch.setattr(self.sender, "_associate", lambda _: self.association)
        self.sender.offer("1.2.3.dcm", frozenset())
        (self.route,) = self.sender._routes

    def _make(self, name: str, kind: str) -> SimpleNamespace:
        self.make()
        return SimpleNamespace(SOPClassUID=REPORT, name=name)

    def _note(self, name: str, what: str) -> None:
        self.note()
        self.noted.append(name)


@pytest.fixture
def scene(monkeypatch) -> Scene:
    return Scene(monkeypatch)


def test_an_archive_that_leaves_while_a_result_is_made_gets_it_later(scene):
    scene.make = lambda: setattr(scene.association, "is_established", False)
    scene.sender.visit(scene.route)
    assert scene.said == [f"{WHERE}: it broke off; results wait and are sent again"]
    assert (scene.sender.waiting, scene.noted) == (1, [])


def test_a_failure_nobody_foresaw_is_the_archives_trouble_and_the_thread_goes_on(scene):
    failures = [KeyError("a bug"), ValueError("another")]

    def make() -> None:
        if failures:
            raise failures.pop()

    scene.make = make
    scene.sender.start()
    until(lambda: scene.noted)
    until(lambda: scene.said[-1].startswith("over at "))
    scene.sender.stop()
    assert scene.said[0].startswith(f"{WHERE}: A fault of wetread, not of the file: ValueError in ")
    assert scene.said[1].startswith(f"{WHERE}: A fault of wetread, not of the file: KeyError in ")


def test_a_ledger_that_is_full_is_not_the_archives_trouble(scene):
    """What is out is noted later, and not sent again."""
    is_full = [True]

    def note() -> None:
        if is_full:
            raise OSError(errno.ENOSPC, "No space left on device")

    scene.note = note
    scene.sender.start()
    until(lambda: scene.said)
    is_full.clear()
    until(lambda: scene.noted)
    scene.sender.stop()
    assert scene.said[0] == (
        "the ledger cannot be written: No space left on device; results that are out are noted later"
    )
    assert scene.said[1].startswith("over at ")
    assert len(scene.said) == 2
    assert len(scene.association.sent) == 1


def test_a_result_that_waits_twice_is_sent_once(scene):
    """An object that was removed while its result waited, and was sent again, is offered again."""
    scene.sender.offer("1.2.3.dcm", frozenset())
    scene.note = lambda: pytest.fail("it was noted") if scene.noted else None
    scene.sender.visit(scene.route)
    assert (len(scene.association.sent), scene.noted, scene.sender.waiting) == (1, ["1.2.3.dcm"], 0)


def test_a_result_that_waits_twice_is_sent_once_while_the_ledger_is_full(scene):
    def fail() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    scene.sender.offer("1.2.3.dcm", frozenset())
    scene.note = fail
    scene.sender.visit(scene.route)
    assert (len(scene.association.sent), scene.sender.waiting) == (1, 0)


def test_the_result_of_an_object_that_left_is_not_noted_as_out(scene):
    def fail() -> None:
        raise GoneError

    scene.make = fail
    scene.sender.visit(scene.route)
    assert (scene.noted, scene.sender.waiting) == ([], 0)
    assert scene.said == [
        "1.2.3.dcm left the store before its 'sr' was out: that goes out when the object is sent again"
    ]
    scene.make = lambda: None
    scene.sender.offer("1.2.3.dcm", frozenset())
    scene.sender.visit(scene.route)
    assert scene.noted == ["1.2.3.dcm"]


def test_a_stop_does_not_end_the_fault_of_an_archive(scene):
    scene.make = lambda: setattr(scene.association, "is_established", False)
    scene.sender.visit(scene.route)
    scene.sender.stop()
    scene.sender.visit(scene.route)
    assert len(scene.said) == 1


def test_an_hour_without_the_archive_loses_nothing_and_is_said_twice(monkeypatch):
    """By a clock of the test: asked again after 1, 2, 4, … and then every 300 seconds."""
    clock, tries = [0.0], []
    scene = Scene(monkeypatch, clock=lambda: clock[0], retry_seconds=(1.0, 300.0))
    association = scene.association

    def associate(_: Peer) -> Association:
        tries.append(clock[0])
        if clock[0] < 3600:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        return association

    monkeypatch.setattr(scene.sender, "_associate", associate)
    for number in range(250):
        scene.sender.offer(f"1.2.4.{number}.dcm", frozenset())
    while scene.sender.waiting and clock[0] < 7200:
        scene.sender.visit_due()
        clock[0] += 0.5
    assert tries[:9] == pytest.approx([0, 1, 3, 7, 15, 31, 63, 127, 255], abs=0.5 * 9)
    assert len([moment for moment in tries if moment < 3600]) < 25
    assert clock[0] < 3600 + 300 + 10
    assert len(scene.noted) == len(set(scene.noted)) == len(association.sent) == 251
    began, over = scene.said
    assert began == f"{WHERE}: Connection refused; results wait and are sent again"
    seconds = int(over.split(", ")[1].split()[0].replace(",", ""))
    assert over.startswith("over at ") and 3600 <= seconds < 3600 + 310


def test_results_that_wait_take_no_memory(scene):
    for number in range(1_000):
        scene.sender.offer(f"1.2.5.{number}.dcm", frozenset())
    tracemalloc.start()
    for number in range(20_000):
        scene.sender.offer(f"1.2.6.{number}.dcm", frozenset())
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert scene.sender.waiting == 21_001
    assert grown < 100_000
    scene.sender.stop()
    assert scene.sender.waiting == 21_001  # as the last status says


def test_while_the_ledger_is_full_few_results_are_sent(scene):
    """A kill would have them sent again."""
    is_full = [True]

    def note() -> None:
        if is_full:
            raise OSError(errno.ENOSPC, "No space left on device")

    scene.note = note
    for number in range(300):
        scene.sender.offer(f"1.2.5.{number}.dcm", frozenset())
    for _ in range(5):
        scene.sender.visit_due()
    assert (len(scene.association.sent), scene.sender.waiting) == (100, 201)
    is_full.clear()
    for _ in range(5):
        scene.sender.visit_due()
    scene.sender.stop()
    assert (len(scene.association.sent), scene.sender.waiting) == (301, 0)
    assert sorted(scene.noted) == sorted({made.name for made in scene.association.sent})


def test_a_refused_connection_leaves_no_socket(monkeypatch):
    made = []
    whole = socket.socket

    class Counted(whole):
        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            made.append(self)

    with whole() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    scene = Scene(monkeypatch)
    monkeypatch.setattr(socket, "socket", Counted)
    with pytest.raises(ConnectionError, match="it cannot be reached"):
        Sender._associate(scene.sender, Peer("ARCH", "127.0.0.1", port))
    assert made and all(each.fileno() == -1 for each in made)


@pytest.mark.parametrize("seconds", [-86_400, 86_400])
def test_timeouts_do_not_follow_the_time_of_day(monkeypatch, seconds):
    from pynetdicom.timer import Timer

    import_pynetdicom()
    timer, whole = Timer(60), time.time
    timer.start()
    monkeypatch.setattr(time, "time", lambda: whole() + seconds)
    assert 50 < timer.remaining <= 60 and not timer.expired
