"""A real HTTP server on loopback that answers chat completions as it is told, badly if it is told so."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

Behaviour = Callable[["Door"], None]


def completion(text: object, **more: Any) -> dict[str, Any]:
    """A well-formed completion that says ``text``."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 7, "completion_tokens": 2}
    return {"choices": [choice | more], "usage": usage}


def says(text: object, **more: Any) -> Behaviour:
    """Answer 200 with a completion."""
    return sends(completion(text, **more))


def sends(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Behaviour:
    """Answer with this body: bytes as they are, anything else as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda door: door.reply(status, data, headers or {})


class Door(BaseHTTPRequestHandler):
    """One request."""

    server: "Loopback"  # pyright: ignore[reportIncompatibleVariableOverride] -- only a Loopback opens this door
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- http.server's own name
        """Say nothing."""

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("content-length") or 0))
        behaviour = self.server.take({**json.loads(self.body)}, dict(self.headers), self.path)
        try:
            behaviour(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def reply(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"content-type": "application/json", "content-length": str(len(data))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


class Loopback(ThreadingHTTPServer):
    """Behaves in the order of ``script``, then as its last entry; keeps what it was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Door)
        self.script: list[Behaviour] = [sends({"error": {"code": "unscripted"}}, 400)]
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.stopping = threading.Event()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def take(self, body: dict[str, Any], headers: dict[str, str], path: str) -> Behaviour:
        with self._lock:
            self.bodies.append(body)
            self.headers.append(headers)
            self.paths.append(path)
            return self.script.pop(0) if len(self.script) > 1 else self.script[0]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the tests."""


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    """A server for as long as the test runs."""
    with Loopback() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.stopping.set()
            server.shutdown()
            thread.join()
