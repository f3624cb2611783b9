"""Two doors in other products' shapes: OpenAI's ``/v1/moderations``, and the guardrail endpoint that LiteLLM calls."""

import time
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response

from gelert.core.decision import Allow
from gelert.core.example import Example
from gelert.core.taxonomy import Axis, Diagnosis, builtin
from gelert.core.trajectory import Role, Step, Trajectory
from gelert.core.verdict import Safe, Unreadable, Unsafe, Verdict
from gelert.guard.formats import read_value
from gelert.guard.formats.untrusted import as_list, as_object
from gelert.guard.policy import Surface
from gelert.serve.body import RefusedError, body
from gelert.serve.engine import Answered, Asked, Engine
from gelert.serve.gate import TRACE
from gelert.serve.judging import surface_of
from gelert.serve.replies import ErrorReply, decision_json, reply

MOST_INPUTS = 32


class TextPart(BaseModel):
    """A text among several inputs."""

    type: Literal["text"]
    text: str


class Moderation(BaseModel):
    """OpenAI's request. Each text is judged by itself, as the reply of an agent."""

    input: str | Annotated[list[str] | list[TextPart], Field(min_length=1, max_length=MOST_INPUTS)]
    model: str = ""


class Guardrail(BaseModel):
    """LiteLLM's request, as far as it is read; what else it holds is left alone."""

    model_config = ConfigDict(extra="allow")
    input_type: Literal["request", "response"]
    texts: list[str] | None = None
    structured_messages: list[dict[str, object]] | None = None
    tools: list[dict[str, object]] | None = None
    tool_calls: list[dict[str, object]] | None = None
    litellm_call_id: str | None = None
    litellm_trace_id: str | None = None
    model: str | None = None


class GuardrailReply(BaseModel):
    """LiteLLM's answer."""

    action: Literal["NONE", "BLOCKED"]
    blocked_reason: str | None = None


def router(engine: Engine) -> APIRouter:
    """The routes.

    Args:
        engine: decides.
    """
    found = APIRouter(tags=["compatible"])
    faults = {code: {"model": ErrorReply} for code in (408, 413, 422)}

    @found.post("/v1/moderations", responses={**faults}, openapi_extra=_takes(Moderation))
    async def moderations(request: Request) -> Response:
        """Judge texts; ``flagged`` is whatever is not allowed, so that a fault flags."""
        since = time.monotonic()
        try:
            asked = Moderation.model_validate_json(await body(request, engine.limits, since))
        except (ValidationError, RefusedError) as fault:
            return _wrong(fault)
        inputs = [asked.input] if isinstance(asked.input, str) else asked.input
        results: list[dict[str, object]] = []
        for one in inputs:
            run = Trajectory((Step(Role.AGENT, one if isinstance(one, str) else one.text),))
            question = Asked(Surface.REPLY, run, "", "moderations", request.scope["state"].get(TRACE, ""))
            results.append(_result(await engine.decide(question, since)))
        number = results[0]["number"]
        return reply({"id": f"modr-{number}", "model": engine.guard.name, "results": results})

    @found.post(
        "/beta/litellm_basic_guardrail_api",
        response_model=GuardrailReply,
        responses={**faults},
        openapi_extra=_takes(Guardrail),
    )
    async def guardrail(request: Request) -> Response:
        """Judge what LiteLLM is about to send to a model or to give back from one."""
        since = time.monotonic()
        try:
            asked = Guardrail.model_validate_json(await body(request, engine.limits, since))
        except (ValidationError, RefusedError) as fault:
            return _wrong(fault)
        trace = request.scope["state"].get(TRACE, "")
        read = read_value(_log(asked), format="openai", limits=engine.limits.log)
        if not isinstance(read, Example):
            empty = Asked(Surface.REPLY, Trajectory(()), "", "litellm", trace)
            return _guardrail_reply(await engine.undecided(empty, read.reason, since))
        run = read.trajectory
        if not any(step.role is Role.AGENT for step in run.steps):
            # Nothing was done yet: the first request of a run holds what people said, which is not an agent's doing.
            return reply({"action": "NONE"})
        session = f"litellm:{asked.litellm_trace_id}" if asked.litellm_trace_id else ""
        return _guardrail_reply(await engine.decide(Asked(surface_of(run), run, session, "litellm", trace), since))

    return found


def _takes(model: type[BaseModel]) -> dict[str, object]:
    """The body's schema for the OpenAPI document; the handler reads the bytes itself, which bounds them."""
    schema = model.model_json_schema()
    inner = schema.pop("$defs", {})

    def inlined(value: object) -> object:
        if isinstance(value, list):
            return [inlined(one) for one in as_list(value)]
        record = as_object(value)
        if isinstance(name := record.get("$ref"), str):
            return inner[name.rpartition("/")[2]]
        return {key: inlined(one) for key, one in record.items()} if record else value

    return {"requestBody": {"required": True, "content": {"application/json": {"schema": inlined(schema)}}}}


def _log(asked: Guardrail) -> dict[str, object]:
    """The request as one conversation; what a model answered comes last."""
    messages: list[object] = [*(asked.structured_messages or [])]
    texts = asked.texts or []
    if asked.input_type == "response":
        messages.append({"role": "assistant", "content": "\n".join(texts), "tool_calls": asked.tool_calls or []})
    elif not messages:
        messages = [{"role": "user", "content": text} for text in texts]
    return {"messages": messages, "tools": asked.tools or [], "model": asked.model or ""}


def _guardrail_reply(answered: Answered) -> Response:
    if isinstance(answered.decision, Allow):
        return reply({"action": "NONE"})
    return reply({"action": "BLOCKED", "blocked_reason": answered.decision.reason})


def _result(answered: Answered) -> dict[str, object]:
    named, risk = _named(answered.verdict)
    leaves = [(axis, leaf.slug) for axis in Axis for leaf in builtin().on(axis)]
    held = {f"{axis.value}/{slug}": named.on(axis) == slug for axis, slug in leaves}
    return {
        "flagged": not isinstance(answered.decision, Allow),
        "categories": held,
        "category_scores": {name: risk if there else 0.0 for name, there in held.items()},
        "risk": risk,
        "number": answered.number,
        **decision_json(answered.decision),
    }


def _named(verdict: Verdict) -> tuple[Diagnosis, float | None]:
    match verdict:
        case Unsafe(risk, _, diagnosis):
            return diagnosis, risk
        case Safe(risk):
            return Diagnosis(), risk
        case Unreadable():
            return Diagnosis(), None


def _wrong(fault: ValidationError | RefusedError) -> Response:
    if isinstance(fault, RefusedError):
        return reply({"error": {"message": fault.reason, "type": "invalid"}}, fault.status)
    first = fault.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"])) or "the body"
    return reply({"error": {"message": f"{where}: {first['msg']}", "type": "invalid"}}, HTTPStatus.UNPROCESSABLE_ENTITY)
