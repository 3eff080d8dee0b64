"""Peers that fall silent in the middle of a PDU: they hold neither the node nor other archives."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from tests.node.conftest import HERE, Archive, associate, make_image, until
from wetread.node import receiver, sender
from wetread.node.options import Peer

HALVES = {
    "a header": lambda: associate()[:3],
    "a request": lambda: associate()[:50],
    "an object": lambda: associate() + struct.pack(">BBI", 4, 0, 5000) + bytes(100),
}


@pytest.mark.parametrize("what", HALVES)
def test_a_peer_that_is_silent_in_the_middle_gives_its_place_back(start, monkeypatch, what):
    monkeypatch.setattr(receiver, "_SECONDS", 1.0)
    with start(associations=2) as node, contextlib.ExitStack() as held:
        for _ in range(2):
            peer = held.enter_context(socket.create_connection((HERE, node.port), timeout=10))
            peer.sendall(HALVES[what]())
        until(lambda: node.send(make_image(1)) == [0])
        until(lambda: len(node.rows()) == 1)
    assert ",ok," in node.rows()[0]


@pytest.mark.parametrize("what", HALVES)
def test_a_peer_that_is_silent_in_the_middle_does_not_hold_the_end(start, what):
    with contextlib.ExitStack() as held:
        with start() as node:
            peer = held.enter_context(socket.create_connection((HERE, node.port), timeout=10))
            peer.sendall(HALVES[what]())
            time.sleep(0.5)
            begun = time.monotonic()
        assert time.monotonic() - begun < 20  # and not the 60 s that a peer may be silent


def test_a_slow_peer_is_waited_for(start):
    """Each byte may take its time, as long as the PDU comes within the minute."""
    whole = associate()
    with start() as node, socket.create_connection((HERE, node.port), timeout=10) as peer:
        for at in range(0, len(whole), 40):
            peer.sendall(whole[at : at + 40])
            time.sleep(0.05)
        assert peer.recv(1) == b"\x02"  # A-ASSOCIATE-AC


@contextlib.contextmanager
def half_an_answer() -> Iterator[int]:
    """An archive that begins to accept, and falls silent. Yields its port."""
    held = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = listening.accept()
                held.append(peer)
                peer.recv(1 << 16)
                peer.sendall(struct.pack(">BBI", 2, 0, 200) + bytes(44))

    with socket.create_server((HERE, 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
    for peer in held:
        peer.close()


def test_an_archive_that_is_silent_in_the_middle_does_not_hold_the_others(start, monkeypatch):
    monkeypatch.setattr(sender, "_SECONDS", 1.0)
    archive = Archive().start()
    try:
        with half_an_answer() as port:
            archives = (Peer("BAD", HERE, port), Peer("ARCH", HERE, archive.port))
            with start(archives=archives, results=("sr",)) as node:
                assert node.send(make_image(1)) == [0]
                until(lambda: len(archive.objects) == 1)
                until(lambda: any(f"BAD@{HERE}:{port}" in line for line in node.said))
    finally:
        archive.stop()


def test_a_data_set_of_another_object_than_was_announced_is_refused(start, monkeypatch):
    """As where a sender breaks off one object and begins the next: pynetdicom joins their pieces."""
    import io

    import pydicom
    from pynetdicom import association

    other = pydicom.dcmread(io.BytesIO(make_image(2)))
    other.PixelData = pydicom.dcmread(io.BytesIO(make_image(1))).PixelData
    encode = association.encode
    with start() as node:
        with monkeypatch.context() as patch:
            patch.setattr(association, "encode", lambda _, *how: encode(other, *how))
            assert node.send(make_image(1)) == [0xA900]
        assert node.send(make_image(1)) == [0]
        until(lambda: len(node.rows()) == 1)
    assert node.said == [
        "refused an object of 'MOD': it was announced as 1.2.3.1, and its data set is '1.2.3.2'"
    ]
