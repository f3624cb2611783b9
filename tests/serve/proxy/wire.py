"""A real upstream and a real proxy on loopback, and a client that sees every byte."""

import asyncio
import json
import socket
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from gelert.guard.guard import Guard
from gelert.guard.policy import Policy
from gelert.serve.app import build
from gelert.serve.audit import Audit
from gelert.serve.engine import Engine, Limits
from gelert.serve.gate import Settings
from gelert.serve.listen import tcp
from gelert.serve.proxy.app import PREFIX, router
from gelert.serve.proxy.upstream import Bounds, Upstream

STREAMS = Path(__file__).parents[2] / "data" / "streams"
SSE = "text/event-stream; charset=utf-8"
QUICK = Limits(deadline_seconds=5.0)


@dataclass
class Scripted:
    """An upstream that answers everything with the same bytes; ``drip_seconds`` parts its chunks."""

    chunks: Sequence[bytes] = ()
    kind: str = SSE
    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    drip_seconds: float = 0.0
    breaks: bool = False
    """Whether the connection is cut before the end of the answer."""
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list[tuple[str, dict[str, str], bytes]])
    """Address, headers and body of each request."""
    begun: threading.Event = field(default_factory=threading.Event)
    """Set when a request has come in."""
    gone: threading.Event = field(default_factory=threading.Event)
    """Set when a client leaves before the end."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        query = scope["query_string"].decode()
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.asked.append((scope["path"] + (f"?{query}" if query else ""), headers, body))
        self.begun.set()
        given = [("content-type", self.kind), *self.headers]
        if self.breaks:
            given.append(("content-length", str(sum(map(len, self.chunks)) + 1)))
        start = [(name.encode(), value.encode()) for name, value in given]
        await send({"type": "http.response.start", "status": self.status, "headers": start})
        leaving = asyncio.ensure_future(receive())
        for chunk in self.chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            if self.drip_seconds:
                await asyncio.wait([leaving], timeout=self.drip_seconds)
                if leaving.done():
                    self.gone.set()
                    return
        leaving.cancel()
        if not self.breaks:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


@contextmanager
def listening(app: ASGIApp, lifespan: str = "off") -> Generator[int]:
    """The port on which ``app`` is served for as long as the block lasts."""
    config = uvicorn.Config(app, log_config=None, lifespan="on" if lifespan == "on" else "off", access_log=False)
    server = uvicorn.Server(config)
    with tcp("127.0.0.1", 0) as bound:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([bound])))
        thread.start()
        try:
            while not server.started and thread.is_alive():
                thread.join(0.01)
            yield bound.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def proxied(
    folder: Path,
    upstream: Scripted,
    guard: Guard,
    *,
    policy: Policy = Policy(),  # noqa: B008 - frozen
    limits: Limits = QUICK,
    bounds: Bounds = Bounds(),  # noqa: B008 - frozen
) -> Generator["Client"]:
    """A client of a proxy in front of ``upstream``, which is named ``up``."""
    engine = Engine(guard, policy, Audit(folder / "audit.db"), limits)
    with listening(upstream) as behind:
        routes = router(engine, [Upstream("up", f"http://127.0.0.1:{behind}")], bounds)
        with listening(build(engine, Settings("t" * 32, keyed=(PREFIX,)), routes), "on") as port:
            yield Client(port, engine)


@dataclass(frozen=True)
class Answer:
    """Every byte that came."""

    raw: bytes

    @property
    def head(self) -> str:
        return self.raw.partition(b"\r\n\r\n")[0].decode("latin-1")

    @property
    def status(self) -> int:
        return int(self.head.split(" ", 2)[1])

    @property
    def body(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[2]

    @property
    def headers(self) -> dict[str, str]:
        return dict(line.split(": ", 1) for line in self.head.split("\r\n")[1:])


@dataclass(frozen=True)
class Client:
    port: int
    engine: Engine

    def post(self, path: str, body: object, **headers: str) -> Answer:
        """Ask the proxy for a path of the upstream."""
        with self.opened(path, body, **headers) as connection:
            parts: list[bytes] = []
            while part := connection.recv(65536):
                parts.append(part)
            return Answer(b"".join(parts))

    def opened(self, path: str, body: object, **headers: str) -> socket.socket:
        """A connection on which the request was sent."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [
            f"POST {PREFIX}up/{path} HTTP/1.1",
            f"host: 127.0.0.1:{self.port}",
            "connection: close",
            f"content-length: {len(data)}",
            *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
        ]
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
        return connection


def asks(dialect: str, *, stream: bool = True, said: str = "tidy up") -> dict[str, Any]:
    """A request of a dialect."""
    match dialect:
        case "chat":
            tools: Any = [{"type": "function", "function": {"name": "exec", "parameters": {"type": "object"}}}]
            messages = [{"role": "system", "content": "You tidy."}, {"role": "user", "content": said}]
            return {"model": "m-1", "stream": stream, "messages": messages, "tools": tools}
        case "responses":
            user = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": said}]}
            return {"model": "m-1", "stream": stream, "instructions": "You tidy.", "input": [user]}
        case _:
            user = {"role": "user", "content": said}
            return {"model": "m-1", "stream": stream, "system": "You tidy.", "max_tokens": 99, "messages": [user]}


PATHS = {"chat": "v1/chat/completions", "responses": "v1/responses", "messages": "v1/messages"}


def recorded(name: str) -> bytes:
    return (STREAMS / f"{name}.sse").read_bytes()
