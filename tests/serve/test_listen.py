"""The service's own sockets."""

import asyncio
import socket

from gelert.serve.listen import tcp


def test_answers_leave_at_once_and_do_not_wait_for_more() -> None:
    async def waits() -> bool:
        found = asyncio.get_running_loop().create_future()

        async def came(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            own = writer.get_extra_info("socket")
            found.set_result(own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0)
            writer.close()

        server = await asyncio.start_server(came, sock=tcp("127.0.0.1", 0))
        async with server:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            waiting = await found
            writer.close()
            await writer.wait_closed()
        return waiting

    assert not asyncio.run(waits())
