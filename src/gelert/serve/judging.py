"""``/v1/judge`` for a whole run in any known format, ``/v1/sessions`` for one that grows.

What cannot be read is decided too (closed, degraded, on record), and the status says that the request was at fault.
"""

import asyncio
import io
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from gelert.core.errors import InputError
from gelert.core.example import Example
from gelert.core.trajectory import Role, Setting, Trajectory
from gelert.guard.formats import read
from gelert.guard.policy import Surface
from gelert.serve.asked import MOST_PROJECT_CHARACTERS
from gelert.serve.body import RefusedError, body
from gelert.serve.engine import Asked, Engine, Limits
from gelert.serve.gate import TRACE
from gelert.serve.replies import DecisionReply, ErrorReply, answer_json, reply
from gelert.serve.runs import Gap, Runs

INLINE_BYTES = 64 * 1024
"""A longer body is read beside the event loop, so that it does not hold up the others."""

ANY_LOG = {
    "requestBody": {
        "required": True,
        "description": "A run in any format that gelert judge reads: JSON, JSON Lines, or either of them as gzip",
        "content": {"application/json": {"schema": {}}, "application/x-ndjson": {"schema": {"type": "string"}}},
    }
}

Key = Annotated[str, Path(pattern=r"^[A-Za-z0-9._:-]{1,128}$", description="The caller's own name of the run")]
Format = Annotated[str, Query(alias="format", max_length=40, description="One of the known formats; auto tells it")]
Name = Annotated[str, Query(max_length=200)]
Project = Annotated[str, Query(max_length=MOST_PROJECT_CHARACTERS, description="The folder that the agent works in")]


@dataclass(frozen=True, slots=True)
class Ask:
    """How a log is to be read and what is asked of it, as the query says."""

    surface: Surface | None = None
    setting: Setting | None = None
    format: Format = "auto"
    runtime: Name = "api"
    project: Project = ""


Asking = Annotated[Ask, Depends()]


def surface_of(run: Trajectory) -> Surface:
    """What the last step is: a call, a tool's result, or a reply."""
    last = run.steps[-1]
    if last.role is Role.TOOL:
        return Surface.TOOL_RESULT
    return Surface.TOOL_CALL if last.calls else Surface.REPLY


def router(engine: Engine, runs: Runs) -> APIRouter:
    """The routes.

    Args:
        engine: decides.
        runs: that grow.
    """
    found = APIRouter(tags=["judge"])
    faults = {408: {"model": DecisionReply}, 413: {"model": DecisionReply}, 422: {"model": DecisionReply | ErrorReply}}

    @found.post("/v1/judge", response_model=DecisionReply, responses={**faults}, openapi_extra=ANY_LOG)
    async def judge(request: Request, ask: Asking, session: Name = "") -> Response:
        """Judge a run as it stands; its last step is the one in question."""
        since = time.monotonic()
        key = f"judge:{session}" if session else ""
        run = await _run(request, engine.limits, ask, since)
        return await _decided(engine, _asked(request, ask, key, run), run, since)

    @found.post(
        "/v1/sessions/{key}/steps",
        response_model=DecisionReply,
        responses={**faults, 409: {"model": ErrorReply}},
        openapi_extra=ANY_LOG,
    )
    async def append(
        request: Request,
        key: Key,
        ask: Asking,
        after: Annotated[int, Query(ge=0, description="How many steps are kept so far; 0 begins the run")],
    ) -> Response:
        """Add steps to a run and judge it as it stands. Steps are only ever added, and none can be left out."""
        since = time.monotonic()
        more = await _run(request, engine.limits, ask, since)
        run = more if isinstance(more, RefusedError) else runs.extend(key, after, more)
        if isinstance(run, Gap):
            error = {"message": run.reason, "type": "gap", "steps": str(run.kept)}
            return reply({"error": error}, HTTPStatus.CONFLICT)
        return await _decided(engine, _asked(request, ask, f"run:{key}", run), run, since)

    @found.delete("/v1/sessions/{key}", responses={404: {"model": ErrorReply}})
    async def end(key: Key) -> Response:
        """Forget a run that is over."""
        if runs.drop(key):
            return reply({"deleted": True})
        return reply({"error": {"message": "expected the id of a run that is kept", "type": "unknown"}}, 404)

    return found


async def _run(request: Request, limits: Limits, ask: Ask, since: float) -> Trajectory | RefusedError:
    try:
        raw = await body(request, limits, since)
    except RefusedError as fault:
        return fault
    if len(raw) > INLINE_BYTES:
        return await asyncio.to_thread(_read, raw, limits, ask)
    return _read(raw, limits, ask)


def _read(raw: bytes, limits: Limits, ask: Ask) -> Trajectory | RefusedError:
    """The one run that the bytes hold. A line of it that cannot be read is a part that nobody judged."""
    try:
        found = list(read(io.BytesIO(raw), format=ask.format, setting=ask.setting, limits=limits.log))
    except InputError as fault:
        return RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, str(fault))
    for one in found:
        if not isinstance(one, Example):
            return RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, one.reason)
    if len(found) != 1 or not isinstance(found[0], Example):
        reason = f"expected one run, got {len(found)}; send them one at a time"
        return RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, reason)
    return found[0].trajectory


def _asked(request: Request, ask: Ask, session: str, run: Trajectory | RefusedError) -> Asked:
    found = Trajectory(()) if isinstance(run, RefusedError) else run
    surface = ask.surface or (surface_of(found) if found.steps else Surface.TOOL_CALL)
    return Asked(surface, found, session, ask.runtime, request.scope["state"].get(TRACE, ""), ask.project)


async def _decided(engine: Engine, asked: Asked, run: Trajectory | RefusedError, since: float) -> Response:
    if isinstance(run, RefusedError):
        answered = await engine.undecided(asked, run.reason, since)
        return reply(answer_json(answered, asked.trajectory), run.status)
    return reply(answer_json(await engine.decide(asked, since), asked.trajectory))
