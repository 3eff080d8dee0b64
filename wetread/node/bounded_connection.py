"""Connections to peers that may fall silent at any byte.

pynetdicom waits for the rest of a PDU, and for a TLS handshake, for as long as it takes: one such peer would
hold its thread, and what waits for that thread, for ever.
"""

from __future__ import annotations

import errno
import socket
import ssl
from contextlib import suppress
from time import monotonic
from typing import Any

# A PDU that states more is not believed: memory would be set aside for it.
LONGEST_PDU = 1 << 20


class BoundedConnection:
    """Reads for one of pynetdicom's connections: a whole PDU within `seconds`, or it is broken off."""

    def __init__(self, connection: Any, *, seconds: float) -> None:
        self._connection, self._seconds = connection, seconds
        self._is_reading = False
        connection.socket.settimeout(seconds)  # sending as well
        connection.recv = self.read

    def read(self, count: int) -> memoryview:
        """Read so many bytes, or what comes before the peer ends the connection. Raises OSError.

        pynetdicom asks for 4096 at a time: 2,000 calls for an X-ray, each of which waits for the interpreter.
        """
        if count > LONGEST_PDU:
            raise OSError(errno.EMSGSIZE, "a PDU that is too long")
        source: socket.socket | None = self._connection.socket
        if source is None:
            raise OSError(errno.ENOTCONN, "the connection is closed")
        self._is_reading = True
        try:
            return self._read(source, count)
        finally:
            self._is_reading = False

    def _read(self, source: socket.socket, count: int) -> memoryview:
        found, filled, end = memoryview(bytearray(count)), 0, monotonic() + self._seconds
        while filled < count:
            source.settimeout(max(end - monotonic(), 0.001))
            more = source.recv_into(found[filled:])
            if not more:
                break
            filled += more
        source.settimeout(self._seconds)
        return found[:filled]

    def break_off(self) -> None:
        """End what is being read, if anything is. Another thread may call it."""
        source = self._connection.socket
        if self._is_reading and source is not None:
            with suppress(OSError):
                # Not `source.shutdown`: a TLS socket would go on without TLS.
                socket.socket.shutdown(source, socket.SHUT_RD)


class LateHandshake:
    """A TLS context whose sockets shake hands when they are first read, in the association's own thread.

    pynetdicom does it where it accepts connections: a silent peer would keep all others out.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context

    def wrap_socket(self, accepted: socket.socket, *, server_side: bool) -> ssl.SSLSocket:
        """Return the socket with TLS, which has not begun."""
        return self._context.wrap_socket(accepted, server_side=server_side, do_handshake_on_connect=False)
