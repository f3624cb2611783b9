"""One request through the proxy: asked upstream, held, judged, and released to the byte or refused."""

import asyncio
import secrets
import time
from collections.abc import Coroutine
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from gelert.core.decision import Allow, strictest
from gelert.core.trajectory import Trajectory
from gelert.guard.formats.run import Malformed
from gelert.guard.formats.untrusted import Object, text_at
from gelert.guard.policy import Surface
from gelert.serve.asked import project_of
from gelert.serve.body import RefusedError, body
from gelert.serve.engine import Answered, Asked, Engine
from gelert.serve.gate import TRACE
from gelert.serve.proxy.candidate import Candidate, candidate, session_of
from gelert.serve.proxy.dialect import Dialect, Refusal, counts, words
from gelert.serve.proxy.events import parsed
from gelert.serve.proxy.upstream import Held, Line, Upstream, UpstreamError
from gelert.serve.replies import decision_json, reply

CLIENT_GONE = 499

PROJECT = "x-gelert-project"
"""The header that names the folder in which the agent works; for this service, so it goes no further."""


class Hold:
    """Holds the answers of upstreams until the engine has decided.

    Args:
        engine: decides.
        line: to the upstreams.
    """

    def __init__(self, engine: Engine, line: Line) -> None:
        self._engine, self._line = engine, line

    async def judged(self, request: Request, to: Upstream, path: str, dialect: Dialect) -> Response:
        """The upstream's answer, or its refusal."""
        return await self._through(request, to, path, dialect, judged=True)

    async def plain(self, request: Request, to: Upstream, path: str, dialect: Dialect) -> Response:
        """An answer that no model wrote, such as a list of models."""
        return await self._through(request, to, path, dialect, judged=False)

    async def _through(self, request: Request, to: Upstream, path: str, dialect: Dialect, *, judged: bool) -> Response:
        try:
            raw = await body(request, self._engine.limits, time.monotonic())
            asked = parsed(raw) if judged else {}
        except RefusedError as fault:
            return reply(dialect.fault(fault.reason), fault.status)
        except Malformed as fault:
            return reply(dialect.fault(str(fault)), HTTPStatus.BAD_REQUEST)
        query = f"?{request.url.query}" if request.url.query else ""
        sent = self._line.send(request.method, f"{to.url}/{path}{query}", _headers(request), raw)
        self._line.held += len(raw)
        try:
            held = await _unless_gone(request, sent)
        except UpstreamError as fault:
            return reply(dialect.fault(fault.reason), fault.status)
        finally:
            self._line.held -= len(raw)
        if held is None:
            return Response(status_code=CLIENT_GONE)
        try:
            if not judged or held.status >= HTTPStatus.BAD_REQUEST:
                return _released(held)
            return await self._judged(request, to, dialect, asked, held)
        finally:
            self._line.release(held)

    async def _judged(self, request: Request, to: Upstream, dialect: Dialect, asked: Object, held: Held) -> Response:
        since = time.monotonic()
        trace, project = request.scope["state"].get(TRACE, ""), _project(request)
        try:
            # Beside the event loop, so that a long conversation does not hold up the others.
            found = await asyncio.to_thread(candidate, dialect, asked, held, self._engine.limits.log)
        except Malformed as fault:
            # Whether it called a tool is not known, so the surface that fails closed most surely is asked.
            question = Asked(Surface.TOOL_CALL, Trajectory(()), "", "proxy", trace, project)
            answers = [await self._engine.undecided(question, str(fault), since)]
            found = Candidate((), [""])
        else:
            answers = [
                await self._engine.decide(
                    Asked(found.surface, run, "" if number else session_of(to.name, run), "proxy", trace, project),
                    since,
                )
                for number, run in enumerate(found.runs)
            ]
        return _decided(dialect, asked, held, found, answers)


def _decided(dialect: Dialect, asked: Object, held: Held, found: Candidate, answers: list[Answered]) -> Response:
    decision = strictest(*(answered.decision for answered in answers))
    said = decision_json(decision)
    marks = {"x-gelert-decision": str(said["decision"]), "x-gelert-record": str(answers[-1].number)}
    if decision.degraded:
        marks["x-gelert-degraded"] = "true"
    if isinstance(decision, Allow):
        response = _released(held)
        response.headers.update(marks)
        return response
    text = words(decision, found.calls)
    model = text_at(asked, "model")
    refusal = Refusal(text, model, secrets.token_hex(12), int(time.time()), counts(found.usage))
    if asked.get("stream") is True:
        return Response(dialect.refused_stream(refusal), headers=marks, media_type="text/event-stream")
    response = reply(dialect.refused(refusal))
    response.headers.update(marks)
    return response


def _released(held: Held) -> Response:
    """The answer as it came; a header that came twice goes twice."""
    response = Response(held.body, held.status)
    response.raw_headers += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in held.headers]
    return response


def _project(request: Request) -> str:
    return project_of(request.headers.get(PROJECT, "").encode("latin-1").decode("utf-8", "replace"))


def _headers(request: Request) -> list[tuple[str, str]]:
    told = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw)
    return [(name, value) for name, value in told if name != PROJECT]


async def _unless_gone(request: Request, work: Coroutine[object, object, Held]) -> Held | None:
    """What ``work`` gives, or None if the client went away before; the upstream is then told as well."""
    working, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else None
    finally:
        for task in (working, gone):
            task.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
