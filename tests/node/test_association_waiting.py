"""Associations whose threads wait: what wakes them is what happens, and no clock."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import socket
import threading
import time
from typing import Any

import pydicom
import pytest
from pynetdicom import AE

from tests.node.conftest import HERE, associate, make_image, until
from wetread.node import association_waiting
from wetread.node.association_waiting import _News


@pytest.fixture
def patient(monkeypatch) -> None:
    """Let nothing depend on how long a wait lasts at most."""
    monkeypatch.setattr(association_waiting, "_SECONDS", 3600.0)


def open_association(port: int) -> Any:
    entity = AE(ae_title="MOD")
    entity.add_requested_context("1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.1.2.1")
    entity.add_requested_context("1.2.840.10008.1.1")
    entity.network_timeout = entity.dimse_timeout = entity.acse_timeout = 20
    found = entity.associate(HERE, port, ae_title="WETREAD")
    assert found.is_established
    return found


def find_threads() -> set[threading.Thread]:
    """The threads of the node's associations."""
    return {
        each for each in threading.enumerate() if type(each).__name__ in ("Association", "DULServiceProvider")
    }


@pytest.mark.usefixtures("patient")
def test_nothing_waits_for_a_clock(start):
    before = find_threads()
    with start() as node:
        association = open_association(node.port)
        for number in range(1, 6):
            assert association.send_c_echo().Status == 0
            image = pydicom.dcmread(io.BytesIO(make_image(number)))
            assert association.send_c_store(image).Status == 0
        until(lambda: len(node.rows()) == 5)
        association.release()
        assert association.is_released
        until(lambda: find_threads() <= before)


@pytest.mark.usefixtures("patient")
def test_an_abort_a_refusal_and_a_lost_connection_end_the_threads(start):
    before = find_threads()
    with start() as node:
        association = open_association(node.port)
        association.abort()
        assert node.send(make_image(1), title="OTHER") == []
        with socket.create_connection((HERE, node.port), timeout=10) as peer:
            peer.sendall(associate()[:40])
        with socket.create_connection((HERE, node.port), timeout=10) as peer:
            peer.sendall(associate())
            assert peer.recv(1) == b"\x02"
        until(lambda: find_threads() <= before)


def test_the_end_of_the_node_ends_an_association_that_is_open(start):
    before = find_threads()
    with start() as node:
        association = open_association(node.port)
        began = time.monotonic()
    assert time.monotonic() - began < 10
    until(lambda: association.is_aborted)
    until(lambda: find_threads() <= before)


def test_an_idle_association_looks_seldom(start, monkeypatch):
    """pynetdicom looks a thousand times a second."""
    looks = []
    wait = association_waiting._Connection._wait

    def note(self: Any, connection: socket.socket, bell: socket.socket) -> None:
        looks.append(connection)
        wait(self, connection, bell)

    monkeypatch.setattr(association_waiting._Connection, "_wait", note)
    with start() as node:
        association = open_association(node.port)
        until(lambda: looks)
        looks.clear()
        time.sleep(1)
        assert 3 <= len(looks) <= 12
        association.release()


def test_where_descriptors_run_out_an_association_is_guarded_all_the_same(start, monkeypatch):
    def refuse() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(association_waiting.socket, "socketpair", refuse)
    with start() as node:
        assert node.send(make_image(1)) == [0]
        with socket.create_connection((HERE, node.port), timeout=10) as peer:
            peer.sendall(b"\x01\x00\xff\xff\xff\x00" + bytes(64))  # a PDU of 4 GB
            assert peer.recv(1) == b""
        until(lambda: len(node.rows()) == 1)


def test_many_connections_keep_their_descriptors(start, monkeypatch):
    """`select` knows 1024: where they become scarce, an association asks as it did."""
    monkeypatch.setattr(association_waiting, "_LAST_DESCRIPTOR", 0)
    with start() as node:
        before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
        with contextlib.ExitStack() as held:
            for _ in range(5):
                held.enter_context(socket.create_connection((HERE, node.port), timeout=10))
            until(lambda: len(find_threads()) >= 10)
            assert node.send(make_image(1)) == [0]
            if before:
                assert len(os.listdir("/proc/self/fd")) <= before + 10 + 1  # both ends are in this process
        until(lambda: len(node.rows()) == 1)


def test_a_thread_that_cannot_start_holds_no_descriptor(start, monkeypatch):
    def refuse(self: threading.Thread) -> None:
        if type(self).__name__ == "Association":
            raise RuntimeError("can't start new thread")
        whole(self)

    whole, pairs, make = threading.Thread.start, [], socket.socketpair
    monkeypatch.setattr(association_waiting.socket, "socketpair", lambda: pairs.append(1) or make())
    with start() as node:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with socket.create_connection((HERE, node.port), timeout=10) as peer:
                assert peer.recv(1) == b""
        assert not pairs
        assert node.send(make_image(1)) == [0]
        until(lambda: len(node.rows()) == 1)
    assert pairs


def test_no_item_of_a_queue_is_missed(monkeypatch):
    monkeypatch.setattr(association_waiting, "_SECONDS", 3600.0)
    news = _News()
    first, second = news.make_queue(), news.make_queue()
    first.put(1)
    assert news.wait()
    threading.Timer(0.05, second.put, (2,)).start()
    assert first.get() == 1 and news.wait() and second.get() == 2
    news.clear()
    threading.Timer(0.05, news.set).start()
    assert news.wait() and news.is_set()
