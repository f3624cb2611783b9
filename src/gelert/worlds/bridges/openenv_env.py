"""Tasks as an OpenEnv environment: its server, with an episode for each session, and its client.

::

    uvicorn.run(app(tasks))                                  the server
    with WorldClient(base_url="http://127.0.0.1:8000").sync() as client:
        begun = client.reset(task="mail/answer_mail/0/clean")
        client.step(WorldAction(tool="read_mail", arguments={"mail": "m3"}))
        client.step(WorldAction(answer="Done.")).reward

OpenEnv's task interface lists the tasks: its splits are the scenarios, and ``reset(**row)`` begins the task of a row.
"""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false, reportUntypedFunctionDecorator=false
# OpenEnv is an extra: where it is not installed, what it gives has no types.

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from random import Random
from typing import Any, Self

from pydantic import Field, model_validator

from gelert.core.errors import InputError, missing_extra
from gelert.core.seeds import stream
from gelert.worlds.episode import MOST_CALLS, Episode, changed
from gelert.worlds.rewards import reward
from gelert.worlds.tasks import Task, begin

try:
    from openenv.core import EnvClient
    from openenv.core.client_types import StepResult
    from openenv.core.env_server import Action, ConcurrencyConfig, Environment, Observation, State, create_fastapi_app
    from starlette.applications import Starlette
except ModuleNotFoundError:
    raise missing_extra("gelert.worlds.bridges.openenv_env", "openenv") from None


class WorldAction(Action):
    """A call of a tool, or the answer to the user, which ends the episode."""

    tool: str | None = None
    arguments: dict[str, Any] | str = Field(default_factory=dict)
    answer: str | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.tool is None) == (self.answer is None):
            raise ValueError("expected either a tool or an answer")
        return self


class WorldObservation(Observation):
    """What the agent is told: at first the policy, the request and the tools, then the result of each call.

    The reward comes with the last observation; its parts are in ``metadata``.
    """

    system: str = ""
    goal: str = ""
    tools: list[dict[str, Any]] = Field(default_factory=list)
    """As OpenAI's interface has them."""
    result: str = ""
    """JSON text."""


class WorldState(State):
    """What the trainer may know, and the agent not."""

    task: str = ""
    changes: list[dict[str, Any]] = Field(default_factory=list)
    """Rows that are not as they were."""


class WorldEnvironment(Environment[WorldAction, WorldObservation, WorldState]):
    """The episodes of one session, one after the other.

    Args:
        tasks: by name.
        random: draws the tasks of resets that name none and bring no seed; shared, so that sessions differ.
    """

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, tasks: Mapping[str, Task], random: Random) -> None:
        super().__init__()
        self._tasks, self._random = tasks, random
        self._episode: Episode | None = None
        self._key: str | None = None

    def reset(
        self,
        seed: int | None = None,
        episode_id: str | None = None,
        task: str | None = None,
        **more: object,
    ) -> WorldObservation:
        """Begin an episode.

        Args:
            seed: of the draw, where no task is asked for.
            episode_id: to be told in the state.
            task: its name.
            more: is refused.

        Raises:
            InputError: there is no such task, or no such argument.
        """
        if more:
            raise InputError(f"expected a reset with seed, episode_id and task, got {sorted(more)} too")
        if task is None:
            task = (self._random if seed is None else stream(seed, "openenv")).choice(list(self._tasks))
        if task not in self._tasks:
            raise InputError(f"expected one of the {len(self._tasks)} tasks of this server, got {task[:200]!r}")
        beginning = begin(self._tasks[task])
        self._episode, self._key = Episode(beginning), episode_id
        tools = [
            {"name": one.name, "description": one.description, "parameters": json.loads(one.parameters)}
            for one in beginning.tools
        ]
        return WorldObservation(
            system=beginning.task.family.policy,
            goal=beginning.goal,
            tools=[{"type": "function", "function": one} for one in tools],
        )

    def step(self, action: WorldAction, timeout_s: float | None = None, **_more: object) -> WorldObservation:  # noqa: ARG002 -- no call lasts
        """Make a call, or give the answer; what the agent does wrong is an error in the result.

        Raises:
            InputError: no episode has begun.
        """
        episode = self._episode
        if episode is None:
            raise InputError("expected a reset before the first step of a session")
        result = "" if action.tool is None else episode.call(action.tool, action.arguments)
        if action.answer is None and not episode.finished and len(episode.calls) < MOST_CALLS:
            return WorldObservation(result=result)
        episode.finish(action.answer or "")
        earned = reward(episode)
        return WorldObservation(result=result, done=True, reward=earned.total, metadata=asdict(earned))

    @property
    def state(self) -> WorldState:
        """Of the episode."""
        episode = self._episode
        if episode is None:
            return WorldState()
        name, done = episode.beginning.task.name, len(episode.calls) + episode.finished
        return WorldState(episode_id=self._key, step_count=done, task=name, changes=changed(episode))

    def list_splits(self) -> list[str]:
        """The scenarios that there are."""
        return list(dict.fromkeys(one.scenario for one in self._tasks.values()))

    def list_tasks(self, split: str) -> list[dict[str, str]]:
        """Those of a scenario."""
        return [{"task": name} for name, one in self._tasks.items() if one.scenario == split]

    def num_tasks(self, split: str) -> int:
        """How many a scenario has."""
        return len(self.list_tasks(split))

    def get_task(self, split: str, index: int) -> dict[str, str]:
        """One of them."""
        return self.list_tasks(split)[index]

    def get_task_range(self, split: str, start: int | None = None, stop: int | None = None) -> list[dict[str, str]]:
        """Some of them."""
        return self.list_tasks(split)[start:stop]


class WorldClient(EnvClient[WorldAction, WorldObservation, WorldState]):
    """A session with a server of worlds."""

    def _step_payload(self, action: WorldAction) -> dict[str, Any]:
        return action.model_dump()

    def _parse_result(self, payload: dict[str, Any]) -> StepResult[WorldObservation]:
        told = {name: payload[name] for name in ("reward", "done")}
        observation = WorldObservation.model_validate({**payload["observation"], **told})
        return StepResult(observation, metadata=observation.metadata, **told)

    def _parse_state(self, payload: dict[str, Any]) -> WorldState:
        return WorldState.model_validate(payload)


def app(tasks: Sequence[Task], *, sessions: int = 1000, seconds: float = 7200.0, seed: int = 0) -> Starlette:
    """The server as an ASGI application.

    Args:
        tasks: of any families.
        sessions: at once.
        seconds: that a session lives after its last message.
        seed: of the draw of tasks, where a reset neither names one nor brings a seed.
    """
    made = partial(WorldEnvironment, {one.name: one for one in tasks}, stream(seed, "openenv"))
    limits = ConcurrencyConfig(max_concurrent_envs=sessions, session_timeout=seconds)
    return create_fastapi_app(
        made, WorldAction, WorldObservation, concurrency_config=limits, env_name="gelert", state_cls=WorldState
    )
