"""``/dashboard`` and what it asks for: the last decisions, one of them whole, and the labels that people give."""

import asyncio
import time
from dataclasses import replace
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError
from starlette.responses import HTMLResponse, Response, StreamingResponse

from gelert.core.errors import InputError
from gelert.core.trajectory import Trajectory
from gelert.serve.body import RefusedError, body
from gelert.serve.dashboard import page
from gelert.serve.dashboard.labels import Label, Labels
from gelert.serve.dashboard.view import reasons, steps_shown
from gelert.serve.dashboard.watch import Seen, Watch
from gelert.serve.engine import Engine
from gelert.serve.replies import ErrorReply, Object, reply

MOST_AT_ONCE = 1_000
"""Decisions in one answer."""

MOST_WAIT_SECONDS = 5.0
"""A longer wait would hold up the end of the service."""

LABEL_BYTES = 64 * 1024
"""Of the request that labels a run."""

Id = Annotated[int, Path(ge=1, le=2**53, description="Of a decision, as /v1/decisions tells it")]


class LabelBody(BaseModel):
    """What a person says of a run."""

    model_config = ConfigDict(extra="forbid")

    unsafe: StrictBool
    note: str = Field("", max_length=2_000)


def router(engine: Engine) -> APIRouter:
    """The routes; labels are kept beside the engine's audit.

    Args:
        engine: whose decisions are watched.
    """
    found = APIRouter(tags=["dashboard"])
    watch, labels = Watch(), Labels(engine.audit.path.parent / "labels")
    engine.watch(watch.see)
    unknown = {404: {"model": ErrorReply}}

    @found.get("/dashboard", response_class=HTMLResponse)
    async def shown() -> Response:
        """The page. It says nothing of any run; what it asks for needs the token."""
        return page.response()

    @found.get("/v1/decisions")
    async def decisions(
        after: Annotated[int, Query(ge=0, le=2**53, description="Id of the last decision that is known")] = 0,
        limit: Annotated[int, Query(ge=1, le=MOST_AT_ONCE)] = 200,
        wait: Annotated[float, Query(ge=0, le=MOST_WAIT_SECONDS, description="Seconds to wait for one more")] = 0,
    ) -> Response:
        """The decisions after one, oldest first, and how the service is. Only the last ones are kept, in memory."""
        await watch.grown(after, wait)
        rows = [seen.row for seen in watch.after(after, limit)]
        told = {"service": watch.service, "newest": watch.newest, "decisions": rows, "health": _health(engine)}
        return _private(told)

    @found.get("/v1/decisions/{number}", responses={**unknown})
    async def decision(number: Id) -> Response:
        """One decision with the steps of its run, its evidence and its diagnosis."""
        seen = watch.get(number)
        return _private(await asyncio.to_thread(_whole, seen, labels)) if seen else _unknown()

    @found.post("/v1/decisions/{number}/label", responses={**unknown, 422: {"model": ErrorReply}})
    async def put(request: Request, number: Id) -> Response:
        """Label the run as it stood at a decision; all of its text is then kept on disk."""
        try:
            raw = await body(request, replace(engine.limits, max_bytes=LABEL_BYTES), time.monotonic())
            given = LabelBody.model_validate_json(raw)
            run = _run(watch.get(number))
            if run is None:
                return _unknown()
            await asyncio.to_thread(labels.put, run, Label(given.unsafe, given.note))
        except RefusedError as fault:
            return _wrong(fault.reason, fault.status)
        except ValidationError as fault:
            first = fault.errors(include_url=False, include_input=False)[0]
            return _wrong(f"{'.'.join(map(str, first['loc'])) or 'the body'}: {first['msg']}")
        except InputError as fault:
            return _wrong(str(fault), HTTPStatus.INSUFFICIENT_STORAGE)
        return _private({"labelled": True, "labels": len(labels)})

    @found.delete("/v1/decisions/{number}/label", responses={**unknown})
    async def drop(number: Id) -> Response:
        """Take a label back; the run is then kept no longer."""
        run = _run(watch.get(number))
        if run is None or not await asyncio.to_thread(labels.drop, run):
            return _unknown()
        return _private({"labelled": False, "labels": len(labels)})

    @found.get("/v1/labels", response_class=StreamingResponse)
    async def export() -> Response:
        """Every labelled run, a record a line, for ``gelert train guard --data``."""
        headers = page.PRIVATE | {"content-disposition": 'attachment; filename="gelert-labels.jsonl"'}
        return StreamingResponse(labels.export(), media_type="application/x-ndjson", headers=headers)

    return found


def _health(engine: Engine) -> Object:
    return {
        "guard": engine.guard.name,
        "degraded": engine.unready,
        "waiting": engine.waiting,
        "faults": dict(engine.counts.faults),
    }


def _whole(seen: Seen, labels: Labels) -> Object:
    told = seen.row | reasons(seen.answered.verdict)
    if (run := _run(seen)) is None:
        return told | {"held": False, "shown": [], "label": None}
    given = labels.get(run)
    label = {"unsafe": given.unsafe, "note": given.note} if given else None
    return told | {"held": True, "shown": steps_shown(run, seen.answered.verdict), "label": label}


def _run(seen: Seen | None) -> Trajectory | None:
    """The run of a decision, if it is still held and there is something in it."""
    return seen.asked.trajectory if seen and seen.asked and seen.asked.trajectory.steps else None


def _private(value: object) -> Response:
    found = reply(value)
    found.headers.update(page.PRIVATE)
    return found


def _wrong(reason: str, status: HTTPStatus = HTTPStatus.UNPROCESSABLE_ENTITY) -> Response:
    return reply({"error": {"message": reason, "type": "invalid"}}, status)


def _unknown() -> Response:
    reason = "expected the id of a decision whose run is still in memory (and labelled, to take a label back)"
    return reply({"error": {"message": reason, "type": "unknown"}}, HTTPStatus.NOT_FOUND)
