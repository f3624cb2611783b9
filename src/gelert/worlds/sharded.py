"""One of several servers behind one port: each holds episodes of its own, and passes on what belongs to another.

An episode's identifier says where it lives, ``REPLICA.GENERATION.KEY``, so nobody keeps a table. Before that stands the
machine's name if it has one, for a proxy in front of several machines to go by. A replica that has ended is started
anew as its next generation; what it held is lost, and whoever asks for it is told so (410).
"""

import asyncio
import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from pydantic_core import from_json, to_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gelert.worlds.peers import Answer, BusyError, GoneError, Peer, Question
from gelert.worlds.server import LARGEST_BODY

STATE = "/replica"
"""What peers ask one another about; nobody else can."""
_SAMPLER = ("/tasks/sample", "/admin/reinit-sampler")
_JSON = [(b"content-type", b"application/json")]


@dataclass(frozen=True, slots=True)
class Home:
    """Where an episode lives."""

    replica: int
    generation: int
    machine: str = ""
    """Its name, if it has one."""

    @property
    def prefix(self) -> str:
        """What the identifiers of its episodes begin with."""
        return f"{named(self.machine)}{self.replica}.{self.generation}."

    @classmethod
    def of(cls, path: str, machine: str = "") -> "Home | None":
        """Where on this machine the episode in a request's path lives; None if there is none of this form in it."""
        before = "/episodes/" + named(machine)
        parts = path.removeprefix(before).split(".", 2)
        if not path.startswith(before) or len(parts) < 3:
            return None
        numbers = parts[:2]
        if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in numbers):
            return None
        return cls(int(numbers[0]), int(numbers[1]), machine)


def named(machine: str) -> str:
    """What all identifiers of a machine's episodes begin with."""
    return f"{machine}." if machine else ""


class Sharded:
    """An ASGI application in front of a replica's own.

    Args:
        own: the server of this replica's episodes.
        home: which replica this is.
        peers: every replica by number; this one's place is never asked.
    """

    def __init__(self, own: ASGIApp, home: Home, peers: Sequence[Peer]) -> None:
        self._own, self._home, self._peers = own, home, peers
        self._starts = itertools.count(home.replica)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request here, or with what another replica says."""
        if scope["type"] != "http":
            await self._own(scope, receive, send)
            return
        path: str = scope["path"]
        home = Home.of(path, self._home.machine)
        if path == "/health":
            await _send(send, await self._health())
        elif home == self._home or (home is None and path != "/episodes/start" and path not in _SAMPLER):
            await self._own(scope, receive, send)
        else:
            question = Question(scope["method"], _target(scope), await _body(receive))
            await _send(send, await self._passed(question, home))

    async def answer(self, question: Question) -> Answer:
        """What this replica says to another."""
        if question.target == STATE:
            said = await through(self._own, Question("GET", "/health"))
            return _answer({"replica": self._home.replica, "process": os.getpid(), **from_json(said.body)})
        home = Home.of(question.target, self._home.machine)
        return await through(self._own, question) if home in (None, self._home) else _lost(home)

    async def _passed(self, question: Question, home: Home | None) -> Answer:
        if home is not None:
            return await self._at(home, question)
        if question.target.partition("?")[0] in _SAMPLER:
            return await self._sampled(question)
        return await self._started(question)

    async def _at(self, home: Home, question: Question) -> Answer:
        if home.replica >= len(self._peers):
            return _refused(HTTPStatus.NOT_FOUND, "expected an episode that was started and is not over its time")
        if home.replica == self._home.replica:
            return _lost(home)
        try:
            return await self._peers[home.replica].ask(question)
        except GoneError:
            return _lost(home)
        except BusyError:
            return _refused(HTTPStatus.SERVICE_UNAVAILABLE, f"replica {home.replica} has too much to do; ask again")

    async def _sampled(self, question: Question) -> Answer:
        """All draw from the first replica's sampler, so that a seed gives what it gives on one server."""
        if self._home.replica == 0:
            return await through(self._own, question)
        try:
            return await self._peers[0].ask(question)
        except (GoneError, BusyError):
            return _refused(HTTPStatus.SERVICE_UNAVAILABLE, "replica 0, which holds the sampler, cannot be asked now")

    async def _started(self, question: Question) -> Answer:
        """Episodes are begun on one replica after another; one that cannot take any is passed over."""
        count = len(self._peers)
        first, refused = next(self._starts) % count, None
        for number in (*range(first, count), *range(first)):
            try:
                here = number == self._home.replica
                found = await (through(self._own, question) if here else self._peers[number].ask(question))
            except (GoneError, BusyError):
                continue
            if found.status != HTTPStatus.TOO_MANY_REQUESTS:
                return found
            refused = found
        return refused or _refused(HTTPStatus.SERVICE_UNAVAILABLE, "no replica can take an episode now; ask again")

    async def _health(self) -> Answer:
        """All replicas together, and each."""
        rows = await asyncio.gather(*(self._state(number) for number in range(len(self._peers))))
        well = all(row["status"] == "ok" for row in rows)
        episodes = sum(row.get("episodes", 0) for row in rows)
        tasks = max(row.get("tasks", 0) for row in rows)
        status = "ok" if well else "degraded"
        return _answer({"status": status, "episodes": episodes, "tasks": tasks, "replicas": rows})

    async def _state(self, number: int) -> dict[str, Any]:
        asked, here = Question("GET", STATE), number == self._home.replica
        try:
            said = await (self.answer(asked) if here else self._peers[number].ask(asked))
        except GoneError:
            return {"replica": number, "status": "gone"}
        except BusyError:
            return {"replica": number, "status": "busy"}
        return from_json(said.body)


async def through(app: ASGIApp, question: Question) -> Answer:
    """What an application answers to a question that came by another way than HTTP."""
    path, _, query = question.target.partition("?")
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": question.method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "root_path": "",
        "headers": [],
    }
    status, body = 500, bytearray()

    async def receive() -> Message:
        return {"type": "http.request", "body": question.body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        body.extend(message.get("body", b""))

    try:
        await app(scope, receive, send)
    except Exception:  # noqa: BLE001 - the boundary: a fault of one question is its own
        return _refused(HTTPStatus.INTERNAL_SERVER_ERROR, "the replica failed at this; nothing is known of its state")
    return Answer(status, bytes(body))


def _target(scope: Scope) -> str:
    query = scope["query_string"].decode("latin-1")
    return scope["raw_path"].decode("latin-1") + (f"?{query}" if query else "")


async def _body(receive: Receive) -> bytes:
    """The body, or so much of it that whoever looks at it sees that it is too large."""
    data, more = bytearray(), True
    while more and len(data) <= LARGEST_BODY:
        message = await receive()
        data += message.get("body", b"")
        more = message.get("more_body", False)
    return bytes(data[: LARGEST_BODY + 1])


async def _send(send: Send, answer: Answer) -> None:
    headers = [*_JSON, (b"content-length", str(len(answer.body)).encode())]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def _answer(body: Mapping[str, object], status: HTTPStatus = HTTPStatus.OK) -> Answer:
    return Answer(status, to_json(body))


def _refused(status: HTTPStatus, message: str) -> Answer:
    return _answer({"error": message}, status)


def _lost(home: Home | None) -> Answer:
    number = home.replica if home else "?"
    return _refused(
        HTTPStatus.GONE,
        f"expected an episode that still lives, but replica {number} ended and took this one along; start it anew",
    )
