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
# Waiting takes two descriptors. Higher ones are left to connections: `select`, by which pynetdicom looks,
# knows 1024 in all.
_LAST_DESCRIPTOR = 256


def wait_for_events(association: Any) -> None:
    """Let both threads of an association wait. It must have its connection, and not have been started."""
    _Connection(association.dul)
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
        self._bell: socket.socket | None = None
        self._button: socket.socket | None = None
        self._run, self._send, self._kill = link.run, link.send_pdu, link.kill_dul
        link._is_transport_event = self.look
        link.run, link.send_pdu, link.kill_dul = self.run, self.send, self.kill

    def run(self) -> None:
        """Do what the thread does. A thread that cannot be started holds no descriptor."""
        try:
            bell, button = socket.socketpair()
        except OSError:  # no descriptor is left: it goes on asking
            self._run()
            return
        with bell, button:
            if max(bell.fileno(), button.fileno()) < _LAST_DESCRIPTOR:
                bell.setblocking(False)
                button.setblocking(False)
                self._bell, self._button = bell, button
            else:
                bell.close()
                button.close()
            self._run()

    def look(self) -> bool:
        """Wait for the peer, or for something to send; say whether the peer sent anything."""
        link, bell = self._link, self._bell
        connection = link.socket
        if bell is None or connection is None or link.state_machine.current_state == "Sta13":
            return bool(self._look())  # at the end it looks once, and closes the connection
        if connection.ready:
            return bool(self._look())
        # `ready` made an event of a connection that has failed.
        if link.event_queue.empty() and connection.socket is not None:
            self._wait(connection.socket, bell)
            if not link._process_recv_primitive():  # pynetdicom would see what is to be sent a round later
                return bool(self._look())
        return False

    def _wait(self, connection: socket.socket, bell: socket.socket) -> None:
        try:
            ready, _, _ = select.select([connection, bell], [], [], _SECONDS)
            if bell in ready:
                bell.recv(4096)
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
        if self._button is None:  # the thread looks before it waits
            return
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
