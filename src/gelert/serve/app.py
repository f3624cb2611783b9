"""The service as an ASGI application: every door on one engine, behind one gate."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.requests import Request
from starlette.responses import Response

from gelert.serve import approvals_app, health, judging, moderations
from gelert.serve.engine import Engine
from gelert.serve.gate import Gate, Settings
from gelert.serve.replies import ErrorReply, reply
from gelert.serve.runs import Runs


def build(engine: Engine, settings: Settings, *routers: APIRouter) -> FastAPI:
    """The application; the engine is closed when it shuts down.

    Args:
        engine: decides.
        settings: what the gate asks of every request.
        routers: further doors, such as the hooks' and the proxy's.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        yield
        await engine.close()

    found = FastAPI(
        title="Gelert",
        version=version("gelert"),
        description="Decides whether an AI agent's tool call, tool result or reply may go on.",
        lifespan=lifespan,
        responses={422: {"model": ErrorReply}},
        docs_url=None,  # its page loads scripts from another site
        redoc_url=None,
        exception_handlers={RequestValidationError: _wrong},
    )
    runs = Runs(engine.limits)
    ours = (judging.router(engine, runs), moderations.router(engine), approvals_app.router(engine))
    for one in (*ours, health.router(engine, runs), *routers):
        found.include_router(one)
    found.add_middleware(Gate, settings=settings)
    return found


async def _wrong(_: Request, fault: Exception) -> Response:
    """Says what was wrong with the path or the query, without repeating what came."""
    assert isinstance(fault, RequestValidationError)
    first = fault.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return reply({"error": {"message": f"{where}: {first['msg']}", "type": "invalid"}}, 422)
