"""Tell systemd that a command is ready and still works: sd_notify(3), a datagram to a local socket.

systemd names the socket in NOTIFY_SOCKET for a unit of Type=notify. Nothing is sent without that variable.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

EVERY = 5.0  # seconds between two signs of life


class Supervisor:
    """The service manager, if one started this process. `clock`: seconds, for tests."""

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        self._address, self._clock = os.environ.get("NOTIFY_SOCKET", ""), clock
        self._next = clock()

    def say_ready(self) -> None:
        """Say that the command is at work."""
        self._send("READY=1")

    def say_alive(self) -> None:
        """Say that the command still works; more often than every five seconds nothing is sent."""
        if self._clock() >= self._next:
            self._next = self._clock() + EVERY
            self._send("WATCHDOG=1")

    def say_stopping(self) -> None:
        """Say that the command ends."""
        self._send("STOPPING=1")

    def _send(self, text: str) -> None:
        # "/run/..." is a file, "@..." a name in Linux' abstract namespace.
        if not self._address.startswith(("/", "@")):
            return
        import socket

        name = self._address.replace("@", "\0", 1) if self._address.startswith("@") else self._address
        # A manager that went away or is slow must not stop the work; its watchdog will say what it misses.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as end:
            end.settimeout(1.0)
            end.sendto(text.encode(), name)
