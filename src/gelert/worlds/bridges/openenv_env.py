"""Tasks as an OpenEnv environment: a server that has an episode for each session.

::

    uvicorn.run(app(tasks))

The client is ``gelert.worlds.bridges.openenv_client``. OpenEnv's task interface lists the tasks: its splits are the
scenarios, and ``reset(**row)`` begins the task of a row.
"""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false, reportUntypedFunctionDecorator=false
# OpenEnv is an extra: where it is not installed, what it gives has no types.

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from random import Random

from gelert.core.errors import InputError, missing_extra
from gelert.core.seeds import stream
from gelert.worlds.episode import MOST_CALLS, Episode, changed
from gelert.worlds.rewards import reward
from gelert.worlds.tasks import Task, begin

try:
    from openenv.core.env_server import ConcurrencyConfig, Environment, create_fastapi_app
    from starlette.applications import Starlette

    from gelert.worlds.bridges.openenv_client import WorldAction, WorldObservation, WorldState
except ModuleNotFoundError:
    raise missing_extra("gelert.worlds.bridges.openenv_env", "openenv") from None


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
