"""Tasks for TRL's ``GRPOTrainer``: rows of a dataset, classes for ``environment_factory``, and the reward.

::

    bridge = TrlWorlds(tasks)
    GRPOTrainer(..., train_dataset=Dataset.from_list(bridge.rows), environment_factory=bridge.environments,
                reward_funcs=[bridge.reward])

Each public method of an environment is a tool, as TRL has it; the answer to the user is the last message.
"""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from gelert.core.trajectory import ToolSpec
from gelert.worlds.episode import Episode
from gelert.worlds.rewards import Reward, reward
from gelert.worlds.tasks import Beginning, Task, begin

PYTHON: Mapping[str, type] = {"string": str, "integer": int, "number": float, "boolean": bool}


class Environment:
    """One rollout after another; its subclasses have a method for each tool."""

    _beginnings: Mapping[str, Beginning]

    def reset(self, task: str, **_row: object) -> None:
        """Begin the episode of a row."""
        self._episode = Episode(self._beginnings[task])

    def _call(self, tool: str, arguments: Mapping[str, object]) -> str:
        given = {name: value for name, value in arguments.items() if value is not None}
        return self._episode.call(tool, json.dumps(given))

    def _reward(self, answer: str) -> Reward:
        self._episode.finish(answer)
        return reward(self._episode)


class TrlWorlds:
    """Some tasks, in the shapes that TRL takes.

    Args:
        tasks: of any families.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        beginnings = {task.name: begin(task) for task in tasks}
        self.rows: list[dict[str, object]] = []
        """``prompt``, ``environment`` and ``task``."""
        self.environments: dict[str, type[Environment]] = {}
        """By name: one for each family, and for each task whose tools are told otherwise."""
        for name, beginning in beginnings.items():
            family, risk = beginning.task.family, beginning.task.risk
            kind = name if risk and risk.tool else f"{family.world.name}/{family.name}"
            if kind not in self.environments:
                self.environments[kind] = _environment(kind, beginning.tools, beginnings)
            said = [{"role": "system", "content": family.policy}] if family.policy else []
            said.append({"role": "user", "content": beginning.goal})
            self.rows.append({"prompt": said, "environment": kind, "task": name})

    @staticmethod
    def reward(
        completions: Sequence[Sequence[Mapping[str, object]]],
        environments: Sequence[Environment],
        log_metric: Callable[[str, float], None] | None = None,
        **_more: object,
    ) -> list[float | None]:
        """The published rewards of finished rollouts; their parts go to the trainer's log, apart.

        Args:
            completions: messages of each rollout; the last is the answer.
            environments: in which they were.
            log_metric: of the trainer, where it has one.
        """
        found = [
            one._reward(_answer(said))  # pyright: ignore[reportPrivateUsage]  # public methods are tools
            for said, one in zip(completions, environments, strict=True)
        ]
        if log_metric and found:
            for name in ("utility", "success", "safe", "harmed", "refused"):
                log_metric(f"worlds/{name}", sum(float(getattr(one, name)) for one in found) / len(found))
        return [one.total for one in found]


def _answer(said: Sequence[Mapping[str, object]]) -> str:
    last = said[-1] if said else {}
    return str(last.get("content") or "") if last.get("role") == "assistant" and not last.get("tool_calls") else ""


def _environment(kind: str, tools: Sequence[ToolSpec], beginnings: Mapping[str, Beginning]) -> type[Environment]:
    methods = {spec.name: _method(spec) for spec in tools}
    name = "".join(part.title() for part in kind.replace("/", "_").split("_"))
    return cast("type[Environment]", type(name, (Environment,), {**methods, "_beginnings": beginnings}))


def _method(spec: ToolSpec) -> Callable[..., str]:
    """A method with the signature and docstring from which transformers makes the tool's schema."""
    schema = cast("dict[str, object]", json.loads(spec.parameters))
    properties = cast("dict[str, dict[str, object]]", schema["properties"])
    required = cast("list[str]", schema["required"])
    # A parameter without a default cannot follow one with it.
    order = sorted(properties, key=lambda one: one not in required)

    def method(self: Environment, *values: object, **arguments: object) -> str:
        return self._call(spec.name, {**dict(zip(order, values, strict=False)), **arguments})  # pyright: ignore[reportPrivateUsage]

    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    told: list[str] = []
    for name in order:
        kind = PYTHON[str(properties[name]["type"])]
        default = inspect.Parameter.empty if name in required else None
        annotation = kind if name in required else kind | None
        parameters.append(
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation)
        )
        told.append(f"    {name}: {properties[name]['description']}")
    method.__name__ = spec.name
    method.__signature__ = inspect.Signature(parameters, return_annotation=str)  # pyright: ignore[reportFunctionMemberAccess]
    method.__annotations__ = {one.name: one.annotation for one in parameters[1:]} | {"return": str}
    method.__doc__ = "\n".join([spec.description, *(["", "Args:", *told] if told else [])])
    return method
