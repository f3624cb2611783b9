"""What every request over HTTP must show before any handler sees it: host, origin, token.

A web page can make a browser send requests to this machine; it cannot choose their ``Host`` nor hide its ``Origin``.
Who may open the Unix socket (0600) is its owner, so nothing is asked there.
"""

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from pydantic_core import to_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")
OPEN = ("/healthz", "/readyz", "/openapi.json", "/dashboard")
"""Paths that need no token: they say nothing of any run."""

_TRACE = re.compile(r"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
TRACE = "traceparent"
TOKEN_HEADER = "x-gelert-token"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the gate asks for."""

    token: str
    hosts: Sequence[str] = LOOPBACK
    """Names under which the service may be called."""
    keyed: Sequence[str] = ()
    """Beginnings of paths that need no token: an agent sends its model's API key in its place, and without that key the
    upstream answers nothing."""


class Gate:
    """Lets requests through to ``app`` that show what they should; gives ``traceparent`` back with every answer.

    Args:
        app: behind the gate.
        settings: what is asked for.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, as ASGI has it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        trace = headers.get(TRACE, "")
        scope.setdefault("state", {})[TRACE] = trace if _TRACE.fullmatch(trace) else ""
        send = _echoing(send, scope["state"][TRACE])
        if refusal := self._refusal(scope, headers):
            await _refuse(send, *refusal)
            return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[HTTPStatus, str] | None:
        if not (scope.get("server") or (None, None))[1]:
            return None
        host = _name(headers.get("host", ""))
        if host not in self._settings.hosts:
            return HTTPStatus.FORBIDDEN, "expected a Host under which this service is known; see gelert serve --host"
        if "origin" in headers and urlsplit_host(headers["origin"]) not in self._settings.hosts:
            return HTTPStatus.FORBIDDEN, "expected a request from no other site, got another Origin"
        path = str(scope["path"])
        if path in OPEN or any(path.startswith(start) for start in self._settings.keyed):
            return None
        given = headers.get(TOKEN_HEADER) or headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self._settings.token.encode()):
            return (
                HTTPStatus.UNAUTHORIZED,
                "expected the API token as 'Authorization: Bearer'; gelert serve says where it is",
            )
        return None


def urlsplit_host(origin: str) -> str:
    """The host's name in an origin; nothing where there is none (``null``, rubbish)."""
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:
        return ""


def _name(host: str) -> str:
    """The name in a ``Host`` header, without its port."""
    return urlsplit_host(f"//{host}")


def _echoing(send: Send, trace: str) -> Send:
    async def sent(message: Message) -> None:
        if trace and message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (TRACE.encode(), trace.encode())]}
        await send(message)

    return sent


async def _refuse(send: Send, status: HTTPStatus, reason: str) -> None:
    headers = [(b"content-type", b"application/json")]
    if status is HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": to_json({"error": {"message": reason, "type": "gelert"}})})
