"""Proof of tasks: scripted agents show that each can be done, that its harm can be done, and that it can be avoided."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gelert.core.taxonomy import Axis, builtin, selectable
from gelert.worlds.agents import Agent, defender, oracle, refuser, victim
from gelert.worlds.episode import Episode, truth
from gelert.worlds.expressions import Found, text_of
from gelert.worlds.rewards import reward
from gelert.worlds.tasks import Beginning, Task, begin

FINISHES = frozenset({"ignore", "warn", "verify"})
"""Ways to behave well that reach the user's goal all the same; the others stop short of it."""


@dataclass
class Coverage:
    """How many tasks each leaf of the taxonomy has, and how many there are of each scenario."""

    leaves: Mapping[Axis, Counter[str]] = field(default_factory=lambda: {axis: Counter() for axis in Axis})
    scenarios: Counter[str] = field(default_factory=Counter)

    def add(self, task: Task) -> None:
        """Count a task."""
        self.scenarios[task.scenario] += 1
        if task.risk:
            for axis in Axis:
                self.leaves[axis][str(task.risk.diagnosis.on(axis))] += 1

    def empty(self) -> list[str]:
        """Leaves that no task has, as ``axis/slug``."""
        return [
            f"{axis}/{leaf.slug}"
            for axis in Axis
            for leaf in selectable(builtin().on(axis))
            if not self.leaves[axis][leaf.slug]
        ]


def prove(task: Task) -> list[str]:
    """What is wrong with a task; nothing where it is proven.

    The oracle reaches the goal without side effects and uses only what it was told or has read; a refuser does not
    reach it. With a risk: the victim does the harm, after the risk came before it; every defender does none, and those
    that ``FINISHES`` names reach the goal. Before anything is done, neither the goal is reached nor the harm done.
    """
    beginning = begin(task)
    faults = list(_untouched(beginning))
    if task.risk is None:
        faults += _oracle(beginning)
    else:
        faults += _risky(beginning)
    if task.scenario != "malicious":
        idle = _played(beginning, refuser(beginning))
        if reward(idle).success:
            faults.append("the refuser reaches the goal")
    return faults


def _untouched(beginning: Beginning) -> Iterator[str]:
    start = Episode(beginning)
    if start.harmed:
        yield "the harm is there before anything is done"
    start.finish("")
    if reward(start).success and beginning.task.scenario != "malicious":
        yield "the goal is reached before anything is done"


def _oracle(beginning: Beginning) -> Iterator[str]:
    episode = _played(beginning, oracle(beginning))
    earned = reward(episode)
    yield from (f"the oracle's call of {one.tool} fails: {one.result}" for one in episode.calls if not one.ok)
    if not earned.success:
        yield f"the oracle does not reach the goal (side effects: {', '.join(earned.side_effects) or 'none'})"
    if earned.success and earned.checklist < 1:
        yield "the oracle leaves something of the checklist undone"
    for risk in beginning.task.family.risks.values():
        if risk.harm(episode.ended, beginning.names):
            yield f"the oracle does the harm of {risk.name}"
    yield from _guesses(episode)


def _risky(beginning: Beginning) -> Iterator[str]:
    risk = beginning.task.risk
    assert risk is not None
    fell = _played(beginning, victim(beginning))
    yield from (f"the victim's call of {one.tool} fails: {one.result}" for one in fell.calls if not one.ok)
    if not fell.harmed:
        yield "the victim does no harm"
    found = truth(fell)
    if fell.harmed and (found.entered is None or found.harmed is None or found.entered > found.harmed):
        yield "the risk does not come before the victim until the harm is done"
    for how in risk.defenders:
        episode = _played(beginning, defender(beginning, how))
        if episode.harmed:
            yield f"the defender ({how}) does the harm"
        if _must_end_well(beginning.task, how) and not reward(episode).success:
            yield f"the defender ({how}) does not reach the goal"


def _must_end_well(task: Task, how: str) -> bool:
    return task.scenario != "malicious" and how in FINISHES


_TEXT = re.compile(r"\s+")


def _guesses(episode: Episode) -> Iterator[str]:
    """Values of rows that the oracle passes without having been told or read them."""
    told = [f"{spec.description} {spec.parameters}" for spec in episode.beginning.tools]
    seen = _TEXT.sub(" ", " ".join([episode.beginning.task.family.policy, episode.beginning.goal, *told])).casefold()
    values = {
        text_of(part)
        for value, _ in episode.beginning.names.values()
        if isinstance(value, Found)
        for part in (value.key, *value.row[0].values())
        if not isinstance(part, bool)
    }
    for one in episode.calls:
        arguments = json.loads(one.arguments)
        for name, value in arguments.items():
            said = _TEXT.sub(" ", text_of(value)).casefold()
            if text_of(value) in values and said and said not in seen:
                yield f"the oracle passes {name}={value!r} to {one.tool} before it could know it"
        read = json.loads(one.result)
        seen += " " + _TEXT.sub(" ", " ".join(_leaves(read))).casefold()


def _leaves(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for part in value.values():
            yield from _leaves(part)
    elif isinstance(value, list):
        for part in value:
            yield from _leaves(part)
    else:
        yield text_of(value)


def _played(beginning: Beginning, agent: Agent) -> Episode:
    episode = Episode(beginning)
    agent(episode)
    return episode
