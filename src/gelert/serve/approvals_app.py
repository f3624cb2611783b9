"""``/v1/approvals``: the calls that wait for a person, and a person's answers. An answer holds once it is on record."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Annotated, Literal, TypeVar

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.responses import Response

from gelert.core.verdict import Unreadable
from gelert.serve.approvals import MOST_REMEMBERED, Waiting
from gelert.serve.approvals_file import Answer, Said
from gelert.serve.body import RefusedError, body
from gelert.serve.engine import Engine
from gelert.serve.entry import Entry, answer_entry
from gelert.serve.replies import ErrorReply, Object, reply

Id = Annotated[str, Path(max_length=64, description="As GET /v1/approvals gives it")]

Named = TypeVar("Named", Waiting, Answer)


class Given(BaseModel):
    """What a person says of a call."""

    model_config = ConfigDict(extra="forbid", strict=True)
    answer: Said
    remember: bool = False


@dataclass(frozen=True, slots=True)
class Listed:
    """All that waits and all that is remembered."""

    waiting: list[Waiting]
    remembered: list[Answer]


class Done(BaseModel):
    """The answer holds."""

    answered: Literal[True]


class Forgotten(BaseModel):
    """The answer holds no longer."""

    forgotten: Literal[True]


def router(engine: Engine) -> APIRouter:
    """The routes.

    Args:
        engine: whose approvals these are.
    """
    found = APIRouter(tags=["approvals"])
    approvals, turn = engine.approvals, asyncio.Lock()
    faults = {code: {"model": ErrorReply} for code in (404, 503)}
    wrong = {code: {"model": ErrorReply} for code in (408, 409, 413, 422)}
    takes = {"required": True, "content": {"application/json": {"schema": Given.model_json_schema()}}}

    @found.get("/v1/approvals")
    async def listed() -> Listed:
        """The calls that wait for an answer, and the answers that are remembered."""
        return Listed(list(approvals.waiting.values()), list(approvals.remembered.values()))

    @found.post(
        "/v1/approvals/{name}",
        response_model=Done,
        responses={**faults, **wrong},
        openapi_extra={"requestBody": takes},
    )
    async def answer(request: Request, name: Id) -> Response:
        """Let a call that waits pass, once or from now on, or block it."""
        try:
            said = Given.model_validate_json(await body(request, engine.limits, time.monotonic()))
        except RefusedError as fault:
            return _error(fault.reason, "invalid", fault.status)
        except ValidationError:
            reason = 'expected {"answer": "allow" or "block", "remember": true or false}, got another body'
            return _error(reason, "invalid", HTTPStatus.UNPROCESSABLE_ENTITY)
        async with turn:
            waits = _named(approvals.waiting, name)
            if waits is None:
                return _unknown("a call that waits for an answer")
            if said.remember and len(approvals.remembered) >= MOST_REMEMBERED:
                reason = f"expected at most {MOST_REMEMBERED} remembered answers; forget one, or answer for once"
                return _error(reason, "full", HTTPStatus.CONFLICT)
            call, asked = waits
            given = Answer(name, said.answer, asked.project, asked.tool, round(time.time(), 3))
            row = answer_entry(call, given, "always" if said.remember else "once")
            change = partial(approvals.answer, call, given, remember=said.remember)
            return await _settled(engine, row, change, {"answered": True})

    @found.delete("/v1/approvals/{name}", response_model=Forgotten, responses={**faults})
    async def forget(name: Id) -> Response:
        """Forget a remembered answer: the next such call is asked about again."""
        async with turn:
            holds = _named(approvals.remembered, name)
            if holds is None:
                return _unknown("an answer that is remembered")
            call, given = holds
            row = answer_entry(call, given, "no longer")
            return await _settled(engine, row, partial(approvals.forget, call), {"forgotten": True})

    return found


def _named(kept: Mapping[str, Named], name: str) -> tuple[str, Named] | None:
    return next(((call, one) for call, one in kept.items() if one.id == name), None)


async def _settled(engine: Engine, row: Entry, change: Callable[[], Awaitable[None]], done: Object) -> Response:
    """Makes a change once it is on record; one that fails is on record as well."""
    number = await engine.record(row, engine.limits.deadline_seconds)
    if isinstance(number, Unreadable):
        return _error(number.reason, "degraded", HTTPStatus.SERVICE_UNAVAILABLE)
    try:
        await change()
    except OSError as fault:
        await engine.record({**row, "holds": "as before"}, engine.limits.deadline_seconds)
        reason = f"expected a file that can be written, got {fault.strerror}; the answers stay as they were"
        return _error(reason, "degraded", HTTPStatus.SERVICE_UNAVAILABLE)
    return reply(done)


def _unknown(expected: str) -> Response:
    return _error(f"expected the id of {expected}; GET /v1/approvals lists them", "unknown", HTTPStatus.NOT_FOUND)


def _error(reason: str, kind: str, status: HTTPStatus) -> Response:
    return reply({"error": {"message": reason, "type": kind}}, status)
