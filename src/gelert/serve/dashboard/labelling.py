"""What people say of runs, over HTTP: ``/v1/decisions/{id}/label`` gives and takes a label, ``/v1/labels`` exports."""

import asyncio
import time
from dataclasses import replace
from http import HTTPStatus

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError
from starlette.responses import Response, StreamingResponse

from gelert.core.errors import InputError
from gelert.serve.body import RefusedError, body
from gelert.serve.dashboard.labels import Label, Labels
from gelert.serve.dashboard.page import PRIVATE, private
from gelert.serve.dashboard.watch import Id, Watch
from gelert.serve.limits import Limits
from gelert.serve.replies import ErrorReply

LABEL_BYTES = 64 * 1024
"""Of the request that labels a run."""


class LabelBody(BaseModel):
    """What a person says of a run."""

    model_config = ConfigDict(extra="forbid")

    unsafe: StrictBool
    note: str = Field("", max_length=2_000)


def router(watch: Watch, labels: Labels, limits: Limits) -> APIRouter:
    """The routes.

    Args:
        watch: has the runs.
        labels: keeps those that are labelled.
        limits: on the time of a request.
    """
    found = APIRouter(tags=["dashboard"])
    faults = {code: {"model": ErrorReply} for code in (404, 408, 413, 422, 507)}
    bounds = replace(limits, max_bytes=LABEL_BYTES)
    schema = {"requestBody": {"required": True, "content": {"application/json": {"schema": _SCHEMA}}}}

    @found.post("/v1/decisions/{number}/label", responses={**faults}, openapi_extra=schema)
    async def put(request: Request, number: Id) -> Response:
        """Label the run as it stood at a decision; all of its text is then kept on disk."""
        try:
            given = LabelBody.model_validate_json(await body(request, bounds, time.monotonic()))
        except RefusedError as fault:
            return _refused(fault.reason, fault.status)
        except ValidationError as fault:
            first = fault.errors(include_url=False, include_input=False)[0]
            return _refused(f"{'.'.join(map(str, first['loc'])) or 'the body'}: {first['msg']}")
        if (run := watch.run(number)) is None:
            return _unknown()
        try:
            await asyncio.to_thread(labels.put, run, Label(given.unsafe, given.note))
        except InputError as fault:
            return _refused(str(fault), HTTPStatus.INSUFFICIENT_STORAGE)
        return private({"labelled": True})

    @found.delete("/v1/decisions/{number}/label", responses={404: {"model": ErrorReply}})
    async def drop(number: Id) -> Response:
        """Take a label back; the run is then no longer kept on disk."""
        run = watch.run(number)
        if run is None or not await asyncio.to_thread(labels.drop, run):
            return _unknown()
        return private({"labelled": False})

    @found.get("/v1/labels", response_class=StreamingResponse)
    async def export() -> Response:
        """Every labelled run, a record a line, for ``gelert train guard --data``."""
        headers = PRIVATE | {"content-disposition": 'attachment; filename="gelert-labels.jsonl"'}
        return StreamingResponse(labels.export(), media_type="application/x-ndjson", headers=headers)

    return found


_SCHEMA = LabelBody.model_json_schema()


def _refused(reason: str, status: HTTPStatus = HTTPStatus.UNPROCESSABLE_ENTITY) -> Response:
    return private({"error": {"message": reason, "type": "invalid"}}, status)


def _unknown() -> Response:
    reason = "expected the id of a decision whose run is in memory (to take a label back: and labelled)"
    return private({"error": {"message": reason, "type": "unknown"}}, HTTPStatus.NOT_FOUND)
