"""``POST /v1/hooks/{runtime}``: what a hook was told in, what it shall do out. Every fault on the way is a decision."""

import asyncio
import json
import time
from dataclasses import replace

from fastapi import APIRouter, Request
from starlette.responses import Response

from gelert.core.errors import InputError
from gelert.core.trajectory import Trajectory
from gelert.guard.formats.limits import excess
from gelert.guard.formats.untrusted import as_object, came
from gelert.serve.body import RefusedError, body
from gelert.serve.engine import Asked, Engine
from gelert.serve.gate import TRACE
from gelert.serve.hooks.answers import answer
from gelert.serve.hooks.canary import Canaries
from gelert.serve.hooks.event import EVENTS, KINDS, Event, Kind, Runtime, event
from gelert.serve.hooks.growing import Growing
from gelert.serve.hooks.pending import Questioned, questioned
from gelert.serve.hooks.pieces import Pieces
from gelert.serve.hooks.transcript import Homes, so_far
from gelert.serve.limits import Limits
from gelert.serve.replies import ErrorReply, Object, reply


def router(engine: Engine, homes: Homes | None = None) -> APIRouter:
    """The routes.

    Args:
        engine: decides.
        homes: below which the runtimes' transcripts lie; by default where this process's environment says.
    """
    found = APIRouter(tags=["hooks"])
    canaries, pieces, growing = Canaries(), Pieces(), Growing()
    places = homes or Homes()

    @found.post("/v1/hooks/canaries")
    async def mark() -> Response:
        """A fresh mark: what bears it counts as unsafe, and where it is seen is kept."""
        return reply({"mark": canaries.begin()})

    @found.get("/v1/hooks/canaries/{name}", responses={404: {"model": ErrorReply}})
    async def marked(name: str) -> Response:
        """Where a mark was seen, and what was decided there."""
        seen = canaries.seen(name)
        if seen is None:
            return reply({"error": {"message": "expected a mark that is out", "type": "unknown"}}, 404)
        return reply({"seen": seen})

    @found.post("/v1/hooks/{runtime}")
    async def hook(request: Request, runtime: Runtime, event_name: str = "") -> Response:
        """What the runtime's hook shall do about an event. What cannot be read is blocked."""
        since = time.monotonic()
        trace = request.scope["state"].get(TRACE, "")
        happened = _unread(runtime, event_name)
        try:
            raw = await body(request, engine.limits, since)
            happened = event(runtime, _object(raw, engine.limits))
            happened = replace(happened, reply=pieces.whole(happened))
            about = await asyncio.to_thread(_question, happened, places, growing)
        except (RefusedError, InputError, ValueError, RecursionError) as fault:
            asked = Asked(happened.kind.surface, Trajectory(()), "", runtime.value, trace, happened.project)
            why = str(fault) if isinstance(fault, (RefusedError, InputError)) else "expected JSON, got something else"
            answered = await engine.undecided(asked, why, since)
            return reply(answer(happened, answered.decision))
        key = f"{runtime.value}:{happened.session}:{happened.agent}" if about.told and happened.session else ""
        call = happened.call if happened.kind is Kind.CALL else None
        asked = Asked(happened.kind.surface, about.run, key, runtime.value, trace, happened.project, call)
        answered = await engine.decide(asked, since)
        return reply(answer(happened, canaries.tightened(asked, answered, happened, engine.policy)))

    return found


def _question(happened: Event, homes: Homes, growing: Growing) -> Questioned:
    return questioned(so_far(happened, homes, growing), happened)


def _object(raw: bytes, limits: Limits) -> Object:
    value = json.loads(raw)
    if reason := excess(value, limits.log):
        raise InputError(reason)
    if not isinstance(value, dict):
        raise InputError(f"expected an object that tells of an event, got {came(value)}")
    return as_object(value)


def _unread(runtime: Runtime, name: str) -> Event:
    """The event as far as the command line told it: a tool's call, where it did not."""
    call = next(one for one in EVENTS[runtime] if KINDS[one] is Kind.CALL)
    return event(runtime, {"hook_event_name": name if name in EVENTS[runtime] else call})
