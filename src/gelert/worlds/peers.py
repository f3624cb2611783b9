"""How the replicas of a server ask one another: a request and its answer as frames on a Unix socket, many under way.

::

    frame     length (4 bytes), number (4 bytes), content
    question  METHOD TARGET, a line's end, the body
    answer    status (2 bytes), the body

HTTP is what a replica spends its time on, so a call that came to the wrong one does not pay for it twice.
"""

import asyncio
import struct
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MOST_OUTSTANDING = 256
"""Questions to one peer that wait for their answers."""
ANSWER_SECONDS = 60.0
LARGEST_FRAME = 64 * 1024 * 1024
"""Of an answer, which may hold all that an episode changed."""

_LENGTH = struct.Struct(">II")
_STATUS = struct.Struct(">H")


@dataclass(frozen=True, slots=True)
class Question:
    """An HTTP request without its headers."""

    method: str
    target: str
    """Path and query, as they stand in the request's line."""
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and body of a response, which is JSON."""

    status: int
    body: bytes


class GoneError(Exception):
    """There is no such peer now: it has ended, or did so before it answered."""


class BusyError(Exception):
    """Too many questions wait for this peer, or it took too long."""


class Peer:
    """Another replica, asked over one connection that is made when it is needed.

    Args:
        socket: of the peer.
    """

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._number = 0
        self._writer: StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()

    async def ask(self, question: Question) -> Answer:
        """The peer's answer.

        Raises:
            GoneError: it has ended.
            BusyError: it has too much to do.
        """
        if len(self._waiting) >= MOST_OUTSTANDING:
            raise BusyError
        writer = await self._connected()
        self._number = number = (self._number + 1) % 2**32
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            _write(writer, number, f"{question.method} {question.target}\n".encode() + question.body)
            async with asyncio.timeout(ANSWER_SECONDS):
                return await answer
        except TimeoutError:
            raise BusyError from None
        finally:
            self._waiting.pop(number, None)

    async def close(self) -> None:
        """Ask no more."""
        if self._reading is not None:
            self._reading.cancel()
            with suppress(asyncio.CancelledError):
                await self._reading

    async def _connected(self) -> StreamWriter:
        async with self._connecting:
            if self._writer is None:
                try:
                    reader, self._writer = await asyncio.open_unix_connection(str(self._socket))
                except OSError:
                    raise GoneError from None
                self._reading = asyncio.create_task(self._read(reader, self._writer))
            return self._writer

    async def _read(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Hand out answers for as long as the connection lasts; then whoever waits is told that the peer is gone."""
        try:
            while True:
                number, content = await _frame(reader)
                waiting = self._waiting.get(number)
                if waiting is not None and not waiting.done():
                    (status,) = _STATUS.unpack_from(content)
                    waiting.set_result(Answer(status, content[_STATUS.size :]))
        except (OSError, EOFError, struct.error):
            pass
        finally:
            self._writer = None
            writer.close()
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(GoneError())


async def listen(socket: Path, work: Callable[[Question], Awaitable[Answer]]) -> asyncio.Server:
    """Answer the questions that come in on ``socket`` with ``work``, which raises nothing."""

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        under_way: set[asyncio.Task[None]] = set()

        async def answer(number: int, content: bytes) -> None:
            line, _, body = content.partition(b"\n")
            method, _, target = line.decode("latin-1").partition(" ")
            found = await work(Question(method, target, body))
            _write(writer, number, _STATUS.pack(found.status) + found.body)

        try:
            while True:
                number, content = await _frame(reader)
                task = asyncio.create_task(answer(number, content))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
        except (OSError, EOFError, struct.error, asyncio.CancelledError):
            pass  # the end of the connection, or of this server
        finally:
            for task in under_way:
                task.cancel()
            writer.close()

    return await asyncio.start_unix_server(serve, str(socket))


def _write(writer: StreamWriter, number: int, content: bytes) -> None:
    writer.write(_LENGTH.pack(len(content), number) + content)


async def _frame(reader: StreamReader) -> tuple[int, bytes]:
    length, number = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if length > LARGEST_FRAME:
        raise EOFError
    return number, await reader.readexactly(length)
