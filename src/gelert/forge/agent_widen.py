"""Families with more parameters than they have: for a small model to read what is asked, and not to remember it.

A family combines a dozen rows with a few options, so a model of a few million weights learns by heart which option goes
with which row. Here options are taken from other families; the world plays them all the same, and what its own script
cannot do then is left out. No binding of the family's own is made again: those that are held out stay new.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import cast

from gelert.core.seeds import stream
from gelert.worlds.agents import Agent, defender, oracle, victim
from gelert.worlds.checks import Names
from gelert.worlds.episode import Episode
from gelert.worlds.families import Family
from gelert.worlds.rewards import Reward, reward
from gelert.worlds.state import CLEAN
from gelert.worlds.tasks import Beginning, Task, begin

TRIES = 8
"""Draws for each binding that is wanted."""


def widened(families: Mapping[str, Family], more: int, seed: int = 0) -> dict[str, Family]:
    """The families, each with up to so many more bindings behind its own.

    Args:
        families: by ``world/family``.
        more: bindings of each.
        seed: of the draws.
    """
    options = {name: _options(family) for name, family in families.items()}
    every = sorted({one for own in options.values() for values in own.values() for one in values}, key=repr)
    found: dict[str, Family] = {}
    for name, family in families.items():
        random = stream(seed, "widened", name)
        found[name] = _wider(family, options[name], every, more, random) if options[name] else family
    return found


def _wider(
    family: Family, options: Mapping[str, Sequence[object]], every: Sequence[object], more: int, random: Random
) -> Family:
    own, chosen = len(family.bindings), _chosen(family)
    for _ in range(more * TRIES):
        if len(family.bindings) == own + more:
            break
        base = random.choice(family.bindings[:own])
        drawn = {name: (_drawn(values, every, random), CLEAN) for name, values in options.items()}
        names = cast("Names", {**base, **drawn})
        if any(all(names[name] == one[name] for name in chosen) for one in family.bindings):
            continue
        wider = replace(family, bindings=(*family.bindings, names))
        if _holds(wider, len(family.bindings)):
            family = wider
    return family


def _holds(family: Family, binding: int) -> bool:
    """Whether the scripts come to what they stand for: the goal, each risk's harm, and none where it is handled."""
    if not _played(Task(family, binding), oracle).success:
        return False
    for risk in family.risks.values():
        one = Task(family, binding, risk)
        if not _played(one, victim).harmed:
            return False
        if any(_played(one, lambda begun, how=how: defender(begun, how)).harmed for how in risk.defenders):
            return False
    return True


def _played(one: Task, agent: Callable[[Beginning], Agent]) -> Reward:
    episode = Episode(begin(one))
    agent(episode.beginning)(episode)
    return reward(episode)


def _drawn(values: Sequence[object], every: Sequence[object], random: Random) -> object:
    """An option of the family's own or one of the same type."""
    return random.choice([random.choice(values), *(one for one in every if type(one) is type(values[0]))])


def _chosen(family: Family) -> list[str]:
    """The parameters in which bindings differ by choice: not those of an attacker, which only alternate."""
    return [name for name, how in _parameters(family).items() if "pick" not in how]


def _parameters(family: Family) -> Mapping[str, Mapping[str, object]]:
    source = cast("list[dict[str, object]]", family.world.source["families"])
    told = next(one for one in source if one["family"] == family.name)
    return cast("dict[str, dict[str, object]]", told.get("parameters", {}))


def _options(family: Family) -> dict[str, list[object]]:
    """The parameters that are one of a list, unless others are worked out from them."""
    parameters = _parameters(family)
    if any("value" in how for how in parameters.values()):
        return {}
    return {name: cast("list[object]", how["of"]) for name, how in parameters.items() if "of" in how}
