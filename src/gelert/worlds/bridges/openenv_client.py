"""The client of an OpenEnv server of worlds, and what goes over the wire.

::

    with WorldClient(base_url="http://127.0.0.1:8000").sync() as client:
        begun = client.reset(task="mail/answer_mail/0/clean")
        client.step(WorldAction(tool="read_mail", arguments={"mail": "m3"}))
        client.step(WorldAction(answer="Done.")).reward

A model plays through it, and a trainer gets tokens and masks, as with an ``Episode``::

        play(backend, Form.HERMES, ServedEpisode(client, "mail/answer_mail/0/clean"))
        Rollout(model, Form.HERMES, ServedEpisode(client, "mail/answer_mail/0/clean"))
"""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false, reportUntypedFunctionDecorator=false
# OpenEnv is an extra: where it is not installed, what it gives has no types.

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from pydantic import Field, model_validator

from gelert.core.errors import missing_extra
from gelert.core.trajectory import ToolSpec
from gelert.worlds.episode import OVER

try:
    from openenv.core import EnvClient
    from openenv.core.client_types import StepResult
    from openenv.core.env_server import Action, Observation, State
    from openenv.core.sync_client import SyncEnvClient
except ModuleNotFoundError:
    raise missing_extra("gelert.worlds.bridges.openenv_client", "openenv") from None


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


@dataclass(frozen=True)
class ServedBeginning:
    """What an agent is told at the beginning of an episode on a server."""

    policy: str
    goal: str
    tools: tuple[ToolSpec, ...]


class ServedEpisode:
    """An episode on a server, to be played as one's own is.

    Args:
        client: whose session has no other episode meanwhile.
        task: its name.
    """

    def __init__(self, client: SyncEnvClient[WorldAction, WorldObservation, WorldState], task: str) -> None:
        self._client = client
        begun = client.reset(task=task).observation
        tools = [one["function"] for one in begun.tools]
        specs = [ToolSpec(one["name"], one["description"], json.dumps(one["parameters"])) for one in tools]
        self.beginning = ServedBeginning(begun.system, begun.goal, tuple(specs))
        self.total: float | None = None
        """Its reward, once it is over."""
        self.parts: Mapping[str, Any] = {}
        """Of the reward."""

    def call(self, tool: str, arguments: str | Mapping[str, object], said: str = "") -> str:
        """Call a tool; gives the result as JSON text.

        Args:
            tool: its name.
            arguments: JSON text of an object, or the object.
            said: by the agent with the call; a server is not told.
        """
        del said
        if self.total is not None:
            return OVER
        return self._step(WorldAction(tool=tool, arguments=arguments if isinstance(arguments, str) else {**arguments}))

    def finish(self, answer: str) -> None:
        """End with an answer to the user; more calls are refused."""
        if self.total is None:
            self._step(WorldAction(answer=answer))

    def _step(self, action: WorldAction) -> str:
        result = self._client.step(action)
        if result.done:
            self.total, self.parts = result.reward, result.metadata
        return result.observation.result
