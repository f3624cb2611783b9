"""Worlds as an Inspect task: a sample for each task, the world's tools, a scorer that reads the final state.

::

    inspect_ai.eval(worlds("mail", scenario="injected", count=50), model="openai/gpt-...")

A sample's store holds the calls of its episode, and every use of the episode plays them again. So a sample can be
forked, its log says all that was done, and ``inspect score`` gives a log its scores anew.
"""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false, reportUntypedFunctionDecorator=false
# Inspect is an extra: where it is not installed, what it gives has no types.

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from gelert.core.errors import missing_extra
from gelert.core.trajectory import ToolSpec
from gelert.worlds.bridges.carried import Told, again, carried, chosen, named
from gelert.worlds.episode import changed, truth
from gelert.worlds.families import Scenario
from gelert.worlds.rewards import reward
from gelert.worlds.tasks import Task, begin

try:
    import inspect_ai
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageSystem, ChatMessageUser
    from inspect_ai.scorer import Score, Scorer, Target, grouped, mean, scorer, stderr
    from inspect_ai.solver import Generate, Solver, TaskState, generate, solver
    from inspect_ai.tool import Tool, ToolDef, ToolParams
    from inspect_ai.util import StoreModel, store_as
    from pydantic import Field
except ModuleNotFoundError:
    raise missing_extra("gelert.worlds.bridges.inspect_task", "inspect") from None

VALUES = ("total", "utility", "success", "checklist", "safe", "harmed", "refused")
"""Of the reward: what a score's values are; each has its mean over all samples and over those of each scenario."""


class Played(StoreModel):
    """What a sample's store holds of its episode."""

    calls: list[Told] = Field(default_factory=list)


@inspect_ai.task
def worlds(
    world: str | Sequence[str] = (),
    scenario: Scenario | None = None,
    count: int | None = None,
    seed: int = 0,
    turns: int = 15,
) -> inspect_ai.Task:
    """Tasks of worlds.

    Args:
        world: names or files; all that come with Gelert where there are none.
        scenario: of the tasks; any where it is None.
        count: how many to draw; all where it is None.
        seed: of the draw.
        turns: messages of the agent, after which a sample ends without an answer.

    Raises:
        InputError: there is no such world, or there are fewer tasks than that.
    """
    asked = [world] if isinstance(world, str) else list(world)
    return inspect_ai.Task(
        dataset=[_sample(one) for one in chosen(asked, scenario, count, seed)],
        setup=offered(asked),
        solver=generate(),
        scorer=earned(asked),
        headline_metric="total",
        turn_limit=turns,
    )


@solver
def offered(asked: list[str]) -> Solver:
    """Gives the agent the tools of its sample's task.

    Args:
        asked: worlds of the tasks.
    """

    async def solve(state: TaskState, generate: Generate) -> TaskState:  # noqa: ARG001 -- Inspect passes it by name
        one = named(asked, state.metadata["task"])
        state.tools = [_tool(one, spec) for spec in begin(one).tools]
        return state

    return solve


@scorer(metrics={name: [mean(), stderr(), grouped(mean(), "scenario", all=False)] for name in VALUES})
def earned(asked: list[str]) -> Scorer:
    """Reads the reward off the final state; side effects, changes and decisive steps are in a score's metadata.

    Args:
        asked: worlds of the tasks.
    """

    async def score(state: TaskState, target: Target) -> Score:  # noqa: ARG001 -- the state says it all
        answer = _answer(state.messages)
        episode = again(named(asked, state.metadata["task"]), state.store_as(Played).calls, answer)
        found = asdict(reward(episode))
        return Score(
            value={name: float(found[name]) for name in VALUES},
            answer=answer,
            metadata={
                "side_effects": list(found["side_effects"]),
                "changes": changed(episode),
                "truth": asdict(truth(episode)),
            },
        )

    return score


def _sample(one: Task) -> Sample:
    family, risk = one.family, one.risk
    told: list[ChatMessage] = [ChatMessageSystem(content=family.policy)] if family.policy else []
    told.append(ChatMessageUser(content=begin(one).goal))
    about = {"task": one.name, "world": family.world.name, "scenario": one.scenario, "risk": risk.name if risk else ""}
    return Sample(id=one.name, input=told, metadata=about)


def _tool(one: Task, spec: ToolSpec) -> Tool:
    # Inspect hands the arguments over as they came under this name and type only.
    async def execute(**kwargs: Any) -> str:  # noqa: ANN401
        played = store_as(Played)
        episode = again(one, played.calls)
        result = episode.call(spec.name, kwargs)
        played.calls = carried(episode)
        return result

    parameters = ToolParams.model_validate(json.loads(spec.parameters))
    # A world bounds its results itself; without the 0 Inspect would cut them shorter.
    return ToolDef(execute, spec.name, spec.description, parameters, parallel=False, max_output=0).as_tool()


def _answer(messages: Sequence[ChatMessage]) -> str:
    last = messages[-1]
    return last.text if isinstance(last, ChatMessageAssistant) and not last.tool_calls else ""
