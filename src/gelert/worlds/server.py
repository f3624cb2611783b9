"""Worlds over HTTP: the published interface (AgentDoG 1.5, application 1), with bounds on everything that comes in.

``GET /health``, ``GET /catalog/tasks``, ``POST /tasks/sample``, ``POST /admin/reinit-sampler``,
``POST /episodes/start``, ``POST /episodes/{id}/tool-call``, ``POST /episodes/{id}/finish``, ``DELETE /episodes/{id}``.
"""

from collections.abc import Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json, to_json
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gelert.worlds.episode import MOST_CALLS, Episode, changed, truth
from gelert.worlds.episodes import MOST_SAMPLED, Episodes, Fault, Why
from gelert.worlds.families import Scenario
from gelert.worlds.rewards import reward
from gelert.worlds.tasks import Task

LARGEST_BODY = 256_000
"""Bytes of a request."""

STATUS = {Why.UNKNOWN: HTTPStatus.NOT_FOUND, Why.FULL: HTTPStatus.TOO_MANY_REQUESTS, Why.WRONG: HTTPStatus.BAD_REQUEST}
JSON = "application/json"


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class List(_Asked):
    """Which tasks of the catalogue to list."""

    model_config = ConfigDict(strict=False)  # a query holds texts only
    world: str | None = None
    scenario: Scenario | None = None
    offset: int = Field(0, ge=0)
    limit: int = Field(100, ge=1, le=1000)


class Sample(_Asked):
    """How many tasks to draw."""

    count: int = Field(1, ge=1, le=MOST_SAMPLED)
    scenario: Scenario | None = None
    grouped: bool = False
    """For each draw a task of every scenario that its family and binding have."""


class Reseed(_Asked):
    """Of the sampler."""

    seed: int = 0


class Start(_Asked):
    """Which episode to begin."""

    task_id: str
    scenario: Literal["clean", "attacked"] | None = None


class Call(_Asked):
    """One call of a tool."""

    tool_name: str
    arguments: dict[str, object] | str = Field(default_factory=dict)


class Finish(_Asked):
    """How an agent ends."""

    final_answer: str = ""
    finish_reason: str = ""


class RefusedError(Exception):
    """A request that is not done, and what is said of it."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Service:
    """What answers each request.

    Args:
        episodes: that it serves.
    """

    def __init__(self, episodes: Episodes) -> None:
        self._episodes = episodes

    async def health(self, _request: Request) -> Response:
        """Whether it is there, and how full it is."""
        return _answer({"status": "ok", "episodes": len(self._episodes), "tasks": len(self._episodes.tasks)})

    async def catalogue(self, request: Request) -> Response:
        """Tasks, a page at a time."""
        asked = _checked(List, dict(request.query_params))
        among = [
            one
            for one in self._episodes.tasks.values()
            if asked.world in (None, one.family.world.name) and asked.scenario in (None, one.scenario)
        ]
        page = among[asked.offset : asked.offset + asked.limit]
        return _answer({"total": len(among), "tasks": [_row(one) for one in page]})

    async def sample(self, request: Request) -> Response:
        """Tasks drawn at random."""
        asked = await _body(Sample, request)
        drawn = self._episodes.sample(asked.count, asked.scenario, grouped=asked.grouped)
        return _answer({"tasks": [_row(one) for one in _found(drawn)]})

    async def reseed(self, request: Request) -> Response:
        """Begin drawing anew."""
        asked = await _body(Reseed, request)
        self._episodes.reseed(asked.seed)
        return _answer({"seed": asked.seed})

    async def start(self, request: Request) -> Response:
        """Begin an episode: what the agent is told, and its tools."""
        asked = await _body(Start, request)
        key, episode = _found(self._episodes.start(asked.task_id, asked.scenario))
        return _answer({"episode_id": key, **_beginning(episode)})

    async def call(self, request: Request) -> Response:
        """Call a tool; what an agent does wrong is an error in the result, with status 200."""
        asked = await _body(Call, request)
        episode = self._episode(request)
        before = len(episode.calls)
        result = episode.call(asked.tool_name, asked.arguments)
        ok = len(episode.calls) > before and episode.calls[-1].ok
        left = 0 if episode.finished else MOST_CALLS - len(episode.calls)
        # The result is JSON text already and is put in as it is.
        return Response(f'{{"ok":{str(ok).lower()},"calls_left":{left},"result":{result}}}', media_type=JSON)

    async def finish(self, request: Request) -> Response:
        """End an episode: its reward, its decisive steps, and all that it changed."""
        asked = await _body(Finish, request)
        episode = self._episode(request)
        episode.finish(asked.final_answer)
        earned, decisive = asdict(reward(episode)), asdict(truth(episode))
        return _answer({"reward": earned, "truth": decisive, "changes": changed(episode)})

    async def delete(self, request: Request) -> Response:
        """Forget an episode."""
        _found(self._episodes.drop(request.path_params["key"]))
        return _answer({"deleted": True})

    def _episode(self, request: Request) -> Episode:
        return _found(self._episodes.get(request.path_params["key"]))


def app(episodes: Episodes) -> Starlette:
    """The service as an ASGI application.

    Args:
        episodes: that it serves.
    """
    service = Service(episodes)
    return Starlette(
        routes=[
            Route("/health", service.health),
            Route("/catalog/tasks", service.catalogue),
            Route("/tasks/sample", service.sample, methods=["POST"]),
            Route("/admin/reinit-sampler", service.reseed, methods=["POST"]),
            Route("/episodes/start", service.start, methods=["POST"]),
            Route("/episodes/{key}/tool-call", service.call, methods=["POST"]),
            Route("/episodes/{key}/finish", service.finish, methods=["POST"]),
            Route("/episodes/{key}", service.delete, methods=["DELETE"]),
        ],
        exception_handlers={RefusedError: _refused},
    )


T = TypeVar("T")
M = TypeVar("M", bound=_Asked)


def _found(found: T | Fault) -> T:
    if isinstance(found, Fault):
        raise RefusedError(STATUS[found.why], found.message)
    return found


async def _body(kind: type[M], request: Request) -> M:
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > LARGEST_BODY:
            raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected at most {LARGEST_BODY} bytes, got more")
    try:
        found: object = from_json(data or b"{}", allow_inf_nan=False)
    except ValueError as fault:
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"expected a JSON object, got: {fault}") from None
    return _checked(kind, found)


def _checked(kind: type[M], found: object) -> M:
    try:
        return kind.model_validate(found)
    except ValidationError as fault:
        first = fault.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"{where}: {first['msg']}") from None


async def _refused(_request: Request, fault: Exception) -> Response:
    assert isinstance(fault, RefusedError)
    return _answer({"error": fault.message}, fault.status)


def _beginning(episode: Episode) -> dict[str, object]:
    beginning = episode.beginning
    tools = [
        {
            "type": "function",
            "function": {"name": spec.name, "description": spec.description, "parameters": from_json(spec.parameters)},
        }
        for spec in beginning.tools
    ]
    task = beginning.task
    return {"task_id": task.name, "system": task.family.policy, "goal": beginning.goal, "tools": tools}


def _row(one: Task) -> dict[str, object]:
    return {"task_id": one.name, "scenario": one.scenario, "risk": one.risk.name if one.risk else None}


def _answer(body: Mapping[str, object], status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(to_json(body), status, media_type=JSON)
