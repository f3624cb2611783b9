"""Worlds as a taskset of verifiers 0.4: its tasks, its tools and its reward, for any harness that speaks MCP.

Verifiers finds a taskset by the name of a top-level module, so one line in ``my_worlds.py`` makes it known::

    from gelert.worlds.bridges.verifiers_env import Worlds; __all__ = ["Worlds"]

    vf-eval my-worlds --env.taskset.worlds '["mail"]' --env.agent.harness.id null --env.agent.runtime.type subprocess

The calls of a rollout's episode go to its trace, from which the reward is read off, at once or later.
"""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false, reportUntypedFunctionDecorator=false
# Verifiers is an extra: where it is not installed, what it gives has no types.

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import cast

from pydantic import Field

from gelert.core.errors import missing_extra
from gelert.worlds.bridges.carried import Told, again, chosen, named
from gelert.worlds.episode import Episode, changed, truth
from gelert.worlds.families import Scenario
from gelert.worlds.rewards import reward
from gelert.worlds.tasks import begin

try:
    import verifiers.v1 as vf

    from gelert.worlds.bridges.verifiers_tools import Played, WorldTools
except ModuleNotFoundError:
    raise missing_extra("gelert.worlds.bridges.verifiers_env", "verifiers") from None

METRICS = ("utility", "success", "checklist", "safe", "harmed", "refused")
"""Parts of the reward that are told apart."""


class WorldData(vf.TaskData):
    """A task of a world."""

    task: str
    """Its name."""
    worlds: list[str]
    """Names or files; all that come with Gelert where there are none."""
    scenario: Scenario


class WorldsConfig(vf.TasksetConfig):
    """Which tasks."""

    worlds: list[str] = Field(default_factory=list)
    """Names or files; all that come with Gelert where there are none."""
    scenario: Scenario | None = None
    """Of the tasks; any where it is None."""
    count: int | None = None
    """How many to draw; all where it is None."""
    seed: int = 0
    """Of the draw."""
    tools: vf.SharedToolsetConfig = vf.SharedToolsetConfig()
    """Where the tool server runs."""


class WorldTask(vf.Task[WorldData, Played]):
    """What is done with it: ``total`` is its reward, the parts of that are metrics."""

    @property
    def key(self) -> str:
        """The task's name, by which runs are compared."""
        return self.data.task

    async def setup(self, trace: vf.Trace, runtime: vf.Runtime) -> None:  # noqa: ARG002 -- verifiers passes it by name
        """Tell the tool server which task this is."""
        trace.state.worlds, trace.state.task = self.data.worlds, self.data.task

    async def finalize(self, trace: vf.Trace, runtime: vf.Runtime) -> None:  # noqa: ARG002 -- verifiers passes it by name
        """Keep what was done in the trace, for the state is not written to disk."""
        trace.info["calls"] = [asdict(one) for one in trace.state.calls]
        episode = self._episode(trace)
        trace.info["changes"], trace.info["truth"] = changed(episode), asdict(truth(episode))

    @vf.reward
    async def total(self, trace: vf.Trace) -> float:
        """The published reward."""
        return reward(self._episode(trace)).total

    @vf.metric
    async def parts(self, trace: vf.Trace) -> dict[str, float]:
        """What it is made of."""
        earned = asdict(reward(self._episode(trace)))
        return {name: float(earned[name]) for name in METRICS}

    def _episode(self, trace: vf.Trace) -> Episode:
        calls = [Told(**one) for one in cast("list[dict[str, str]]", trace.info["calls"])]
        return again(named(self.data.worlds, self.data.task), calls, _answer(trace))


class Worlds(vf.Taskset[WorldTask, WorldsConfig]):
    """Tasks of worlds."""

    @classmethod
    def toolsets(cls, config: WorldsConfig) -> list[vf.Toolset]:
        """The one tool server."""
        return [WorldTools(config.tools)]

    def load(self) -> Iterator[WorldTask]:
        """The tasks.

        Raises:
            InputError: there is no such world, or there are fewer tasks than that.
        """
        config = self.config
        # The tool server runs in a folder of its own.
        worlds = [str(Path(one).resolve()) if one.endswith(".json") else one for one in config.worlds]
        for one in chosen(worlds, config.scenario, config.count, config.seed):
            yield WorldTask(
                WorldData(
                    name=one.name,
                    task=one.name,
                    prompt=begin(one).goal,
                    system_prompt=one.family.policy or None,
                    worlds=worlds,
                    scenario=one.scenario,
                ),
                config.task,
            )


def _answer(trace: vf.Trace) -> str:
    said = trace.assistant_messages
    return trace.last_reply if said and not said[-1].tool_calls else ""
