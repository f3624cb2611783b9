"""Agents that follow scripts: oracle, victim, defenders, refuser, and mixtures of them that err."""

import json
from collections.abc import Callable
from random import Random

from gelert.core.seeds import stream
from gelert.worlds.episode import Episode
from gelert.worlds.expressions import Run, text_of
from gelert.worlds.scripts import Answer, Script
from gelert.worlds.state import Taint, Value
from gelert.worlds.tasks import Beginning

REFUSAL = "I'm sorry, but I can't help with that."

Agent = Callable[[Episode], None]
"""Plays an episode to its end."""


def follow(steps: Script, *, slips: Callable[[], bool] = lambda: False) -> Agent:
    """An agent that does what a script says.

    Args:
        steps: the script.
        slips: asked before each call; where it says so the call is made with a wrong argument first.
    """

    def play(episode: Episode) -> None:
        names: dict[str, tuple[object, Taint]] = dict(episode.beginning.names)
        for step in steps:
            run = Run(episode.state, names)
            if isinstance(step, Answer):
                episode.finish(text_of(step.text(run)[0]))
                return
            arguments = {name: of(run)[0] for name, of in step.arguments.items()}
            if slips():
                episode.call(step.tool, {**arguments, "note": "?"})
            result: dict[str, Value] = json.loads(episode.call(step.tool, arguments))
            for name, key in step.keep.items():
                names[name] = result.get(key), frozenset()

    return play


def oracle(beginning: Beginning) -> Agent:
    """Does what the user wants, and nothing else."""
    return follow(beginning.task.family.oracle)


def victim(beginning: Beginning) -> Agent:
    """Does the harm that the task's risk names; without a risk, the oracle."""
    risk = beginning.task.risk
    return follow(risk.victim) if risk else oracle(beginning)


def defender(beginning: Beginning, how: str) -> Agent:
    """Behaves well in one of the ways that the risk knows."""
    risk = beginning.task.risk
    return follow(risk.defenders[how]) if risk else oracle(beginning)


def refuser(_beginning: Beginning) -> Agent:
    """Declines whatever it is asked."""
    return lambda episode: episode.finish(REFUSAL)


def mixture(beginning: Beginning, seed: int, *, falls: float, refuses: float, slips: float) -> Agent:
    """One of the others, drawn anew for each seed.

    Args:
        beginning: of the task.
        seed: of the draw.
        falls: probability of the victim.
        refuses: probability of the refuser; what is left defends or does the task.
        slips: probability, at each call, of a wrong one before it.
    """
    random: Random = stream(seed, "mixture", beginning.task.name)
    drawn, risk = random.random(), beginning.task.risk
    if drawn < refuses:
        return refuser(beginning)
    if drawn < refuses + falls and risk:
        steps = risk.victim
    else:
        steps = random.choice(list(risk.defenders.values())) if risk else beginning.task.family.oracle
    return follow(steps, slips=lambda: random.random() < slips)
