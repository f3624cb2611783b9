"""``/dashboard`` and what it asks for: the last decisions, one of them whole, and the labels that people give."""

import asyncio
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import HTMLResponse, Response

from gelert.serve.dashboard import labelling, page
from gelert.serve.dashboard.labels import Labels
from gelert.serve.dashboard.view import reasons, steps_shown
from gelert.serve.dashboard.watch import Id, Seen, Watch
from gelert.serve.engine import Engine
from gelert.serve.replies import ErrorReply, Object

MOST_AT_ONCE = 1_000
"""Decisions in one answer."""

MOST_WAIT_SECONDS = 5.0
"""For the next decision, and no longer than a decision may take: the end of the service waits for who waits here."""


def router(engine: Engine) -> APIRouter:
    """The routes; labels are kept beside the engine's audit.

    Args:
        engine: whose decisions are watched.
    """
    found = APIRouter(tags=["dashboard"])
    watch, labels = Watch(), Labels(engine.audit.path.parent / "labels")
    engine.watch(watch.see)

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
        await watch.grown(after, min(wait, engine.limits.deadline_seconds))
        seen = watch.after(after, limit)
        rows = await asyncio.to_thread(lambda: [one.row for one in seen])
        told = {"service": watch.service, "newest": watch.newest, "decisions": rows, "health": _health(engine)}
        return page.private(told)

    @found.get("/v1/decisions/{number}", responses={404: {"model": ErrorReply}})
    async def decision(number: Id) -> Response:
        """One decision with the steps of its run, its evidence and its diagnosis."""
        if seen := watch.get(number):
            return page.private(await asyncio.to_thread(_whole, seen, labels))
        reason = "expected the id of one of the last decisions, got another; the audit has them all"
        return page.private({"error": {"message": reason, "type": "unknown"}}, HTTPStatus.NOT_FOUND)

    found.include_router(labelling.router(watch, labels, engine.limits))
    return found


def _health(engine: Engine) -> Object:
    return {"guard": engine.guard.name, "degraded": engine.unready or engine.policy_fault, "waiting": engine.waiting}


def _whole(seen: Seen, labels: Labels) -> Object:
    """A decision with its run, if that is still held, and with the run's label, if it has one."""
    told = seen.row | reasons(seen.answered.verdict)
    if (run := seen.run) is None:
        return told | {"shown": None, "label": None}
    label = labels.get(run)
    said = {"unsafe": label.unsafe, "note": label.note} if label else None
    return told | {"shown": steps_shown(run, seen.answered.verdict), "label": said}
