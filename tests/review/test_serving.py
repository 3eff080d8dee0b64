"""The server's socket."""

from __future__ import annotations

import asyncio
import socket

from wetread.review.serving import ADDRESS, listen


def test_an_answer_does_not_wait_for_the_one_before_to_be_acknowledged():
    """Chromium acknowledges after 40 ms, and every answer has two parts: headers and body."""

    async def accept(listening: socket.socket) -> int:
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def look(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = writer.get_extra_info("socket")
            found.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        async with await asyncio.start_server(look, sock=listening):
            _, writer = await asyncio.open_connection(ADDRESS, listening.getsockname()[1])
            writer.close()
            return await found

    with listen(0) as listening:
        assert asyncio.run(accept(listening)) != 0
