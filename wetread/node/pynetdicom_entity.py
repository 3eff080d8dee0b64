"""pynetdicom's application entity, quiet, and with connections that are closed however they end."""

from __future__ import annotations

import logging
import socket
from contextlib import suppress
from functools import lru_cache
from time import monotonic
from types import SimpleNamespace
from typing import Any

from wetread.packages import importing


@lru_cache(maxsize=1)
def import_pynetdicom() -> Any:
    """Import pynetdicom, and keep its own messages quiet. Raises MissingExtraError."""
    with importing("pynetdicom", extra="node"):
        import pynetdicom
        from pynetdicom import _config, timer
    # Its timeouts follow the time of day: a clock that is set back would keep dead peers, and one that is set
    # ahead would break off those that are at work.
    vars(timer)["time"] = SimpleNamespace(time=monotonic)
    # Its messages name what the objects hold; what matters is said by the node, in one line.
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
    _config.LOG_HANDLER_LEVEL = "none"  # nor are they put together
    return pynetdicom


def make_entity(title: str) -> Any:
    """Make an application entity of this title."""
    return _find_class()(ae_title=title)


@lru_cache(maxsize=1)
def _find_class() -> Any:
    class Entity(import_pynetdicom().AE):  # type: ignore[misc]
        """An entity whose calls leave no socket behind."""

        def _create_socket(self, *arguments: Any) -> Any:
            made = super()._create_socket(*arguments)
            close_always(made)
            return made

    return Entity


def close_always(connection: Any) -> None:
    """Let the end of a connection close its socket.

    pynetdicom shuts it down first, which fails where nobody is connected (any more), and then leaves it open
    until the garbage collector comes by: at a refusal every few minutes that may be many.
    """

    def close() -> None:
        if connection.socket is not None:
            with suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)
            with suppress(OSError):
                connection.socket.close()

    connection._shutdown_socket = close
