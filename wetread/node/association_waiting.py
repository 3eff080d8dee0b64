"""Let the threads of an association wait until something comes.

pynetdicom has two threads for each, and both ask a thousand times a second: an association that is open and
idle costs 4 to 6% of a processor, and each message waits until somebody asks.
"""

from __future__ import annotations

import queue
import select
import socket
import threading
from typing import Any

_SECONDS = 0.1  # the longest wait: timeouts, and an end that nobody announces, are looked for as often


def wait_for_events(association: Any) -> None:
    """Let both threads of an association wait. It must have its connection, and not have been started.

    Where the system has no further descriptor, they go on asking.
    """
    try:
        _Connection(association.dul)
    except OSError:
        return
    news = _News()
    association.dul.to_user_queue = news.make_queue()
    association.dimse.msg_queue = news.make_queue()
    association._reactor_checkpoint = news


class _Connection:
    """Stands where the thread of the connection looks whether the peer sent anything: there it waits.

    Whoever has something to send wakes it.
    """

    def __init__(self, link: Any) -> None:
        self._link, self._look = link, link._is_transport_event
        self._bell, self._button = socket.socketpair()
        for end in (self._bell, self._button):
            end.setblocking(False)
        self._run, self._send, self._kill = link.run, link.send_pdu, link.kill_dul
        link._is_transport_event = self.look
        link.run, link.send_pdu, link.kill_dul = self.run, self.send, self.kill

    def run(self) -> None:
        """Do what the thread does."""
        try:
            self._run()
        finally:
            self._bell.close()
            self._button.close()

    def look(self) -> bool:
        """Wait for the peer, or for something to send; say whether the peer sent anything."""
        link = self._link
        connection = link.socket
        if connection is None or link.state_machine.current_state == "Sta13":
            return bool(self._look())  # at the end it looks once, and closes the connection
        if connection.ready:
            return bool(self._look())
        # `ready` made an event of a connection that has failed.
        if link.event_queue.empty() and connection.socket is not None:
            self._wait(connection.socket)
            if not link._process_recv_primitive():  # pynetdicom would see what is to be sent a round later
                return bool(self._look())
        return False

    def _wait(self, connection: socket.socket) -> None:
        try:
            ready, _, _ = select.select([connection, self._bell], [], [], _SECONDS)
            if self._bell in ready:
                self._bell.recv(4096)
        except (OSError, ValueError):  # the connection was closed meanwhile, as the next look finds
            return

    def send(self, primitive: Any) -> None:
        """Have something sent."""
        self._send(primitive)
        self._ring()

    def kill(self) -> None:
        """End the thread."""
        self._kill()
        self._ring()

    def _ring(self) -> None:
        try:
            self._button.send(b"!")
        except OSError:  # it rings already, or the thread is over
            return


class _News(threading.Event):
    """Stands where the thread of the association may be held up in each round: there it waits for queues."""

    def __init__(self) -> None:
        super().__init__()
        self._came = threading.Event()
        self._queues: list[queue.Queue[Any]] = []
        self.set()

    def set(self) -> None:
        """End every wait."""
        super().set()
        self._came.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until a queue has something, for a while at most; then for `set`, if `clear` was called."""
        self._came.clear()
        if all(each.empty() for each in self._queues):
            self._came.wait(_SECONDS)
        return super().wait(timeout)

    def make_queue(self) -> queue.Queue[Any]:
        """Make a queue to wait for."""
        made = _NotingQueue(self._came)
        self._queues.append(made)
        return made


class _NotingQueue(queue.Queue[Any]):
    def __init__(self, came: threading.Event) -> None:
        super().__init__()
        self._came = came

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put something into the queue, and end the wait for it."""
        super().put(item, block, timeout)
        self._came.set()
