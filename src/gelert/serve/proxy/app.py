"""The proxy's routes: ``/proxy/NAME/...`` is the upstream ``NAME``, as far as its paths are known here.

A path that is not known is not passed on: what it answers could carry a model's words past the guard.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response

from gelert.serve.engine import Engine
from gelert.serve.proxy import chat, messages, responses
from gelert.serve.proxy.dialect import Dialect
from gelert.serve.proxy.hold import Hold
from gelert.serve.proxy.upstream import Bounds, Line, Upstream
from gelert.serve.replies import reply

PREFIX = "/proxy/"
"""How all paths of the proxy begin; a model's API key is where the service's own token would be."""

JUDGED: dict[str, Dialect] = {"chat/completions": chat, "responses": responses, "messages": messages}
"""Each path that a model answers, and its dialect."""

PLAIN: dict[tuple[str, str], Dialect] = {
    ("GET", "models"): chat,
    ("POST", "messages/count_tokens"): messages,
}
"""What no model answers."""

BOUNDS = Bounds()


def router(engine: Engine, upstreams: Sequence[Upstream], bounds: Bounds = BOUNDS) -> APIRouter:
    """The routes.

    Args:
        engine: decides.
        upstreams: all that may be asked.
        bounds: on their answers.
    """
    line = Line(bounds)
    hold = Hold(engine, line)
    known = {one.name: one for one in upstreams}

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        yield
        await line.close()

    found = APIRouter(tags=["proxy"], lifespan=lifespan)

    @found.api_route(PREFIX + "{name}/{path:path}", methods=["GET", "POST"], include_in_schema=False)
    async def through(request: Request, name: str, path: str) -> Response:
        to = known.get(name)
        short = path.removeprefix("v1/")
        if to and request.method == "POST" and short in JUDGED:
            return await hold.judged(request, to, path, JUDGED[short])
        if to and (request.method, short) in PLAIN:
            return await hold.plain(request, to, path, PLAIN[request.method, short])
        paths = ", ".join([*JUDGED, *(path for _, path in PLAIN)])
        reason = f"expected one of {paths} behind one of {', '.join(known)}; other paths are not passed on"
        return reply(chat.fault(reason), 404)

    return found
