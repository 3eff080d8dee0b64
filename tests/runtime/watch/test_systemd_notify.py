from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wetread.runtime.watch.systemd_notify import EVERY, Supervisor

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")


@pytest.fixture(params=["file", "abstract"])
def manager(request, tmp_path, monkeypatch) -> Iterator[socket.socket]:
    """The socket of a service manager, as systemd names it."""
    name = str(tmp_path / "notify") if request.param == "file" else f"\0wetread-{tmp_path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(name)
        end.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", name.replace("\0", "@"))
        yield end


def hear(manager: socket.socket) -> list[str]:
    said = []
    while True:
        try:
            said.append(manager.recv(1000).decode())
        except BlockingIOError:
            return said


def test_what_systemd_hears(manager):
    now = [0.0]
    supervisor = Supervisor(clock=lambda: now[0])
    supervisor.say_alive()
    supervisor.say_ready()
    for now[0] in (1.0, EVERY - 0.1, EVERY, EVERY + 1):
        supervisor.say_alive()
    supervisor.say_stopping()
    assert hear(manager) == ["WATCHDOG=1", "READY=1", "WATCHDOG=1", "STOPPING=1"]


def test_a_manager_that_is_gone_stops_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "none"))
    Supervisor().say_ready()


@pytest.mark.parametrize("address", [None, "", "vsock:2:1234", "relative"])
def test_without_a_local_socket_nothing_is_sent(monkeypatch, address: str | None):
    if address is None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setattr(socket, "socket", lambda *_: pytest.fail("a socket was opened"))
    Supervisor().say_ready()


def test_a_watch_is_ready_alive_and_stopping(manager, tmp_path: Path, toy_model):
    from wetread import Classifier
    from wetread.runtime.watch.watcher import WatchOptions, watch_folder

    (tmp_path / "in").mkdir()
    options = WatchOptions(folder=str(tmp_path / "in"), output=str(tmp_path / "scores.csv"), poll=0.05)
    looks = iter([False, False, True, True, True, True])
    watch_folder(Classifier(toy_model), options, stop=lambda: next(looks, True))
    assert hear(manager) == ["WATCHDOG=1", "READY=1", "STOPPING=1"]
