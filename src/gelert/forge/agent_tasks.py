"""Which of the worlds' tasks an agent may learn from, and which are kept to try it on.

About a quarter of the worlds, of the attacks (by the name of a risk) and of the wordings is held out, each by a draw
of its own that depends on nothing but its name and the seed. What is learned from is on the near side of all three.
"""

from collections.abc import Sequence
from enum import StrEnum

from gelert.core.errors import InputError
from gelert.core.seeds import stream
from gelert.worlds.families import Scenario
from gelert.worlds.tasks import PLAIN, Task

HELD_SHARE = 0.25


class Held(StrEnum):
    """What is new to an agent that learned from the other side."""

    WORLDS = "worlds"
    """The world, its tools and all."""
    ATTACKS = "attacks"
    """The risk; its world is known."""
    WORDINGS = "wordings"
    """How the attack is worded; the risk is known."""


SCENARIOS: tuple[Scenario, ...] = ("clean", "injected", "hazard", "malicious")


def sides(one: Task, seed: int = 0) -> frozenset[Held]:
    """In what a task is held out; nothing for one to learn from."""
    risk, found = one.risk, set[Held]()
    if _held(seed, "world", one.family.world.name):
        found.add(Held.WORLDS)
    if risk is not None and _held(seed, "attack", risk.name):
        found.add(Held.ATTACKS)
    if risk is not None and risk.styled and one.style != PLAIN and _held(seed, "wording", one.style):
        found.add(Held.WORDINGS)
    return frozenset(found)


def chosen(
    tasks: Sequence[Task], count: int, *, held: Held | None, seed: int = 0, scenarios: Sequence[Scenario] = SCENARIOS
) -> list[Task]:
    """As many tasks of each scenario, families in turn.

    Args:
        tasks: to choose from.
        count: of each scenario, at most: fewer where there are fewer (a hazard has no wording that could be new).
        held: what is to be new, and nothing else that is held out; None for tasks to learn from.
        seed: of the sides and of the draw.
        scenarios: of the tasks. Clean tasks carry no attack: where attacks or wordings are new, clean ones are of
            known worlds.

    Raises:
        InputError: there is no such task.
    """
    found: list[Task] = []
    for scenario in scenarios:
        wanted = frozenset({held} if held and (scenario != "clean" or held is Held.WORLDS) else ())
        among = [one for one in tasks if one.scenario == scenario and _on(one, wanted, seed)]
        found += _in_turn(among, count, seed)
    if not found:
        raise InputError(f"expected tasks with new {held or 'nothing'} among {len(tasks)}, got none; name more worlds")
    return found


def _on(one: Task, wanted: frozenset[Held], seed: int) -> bool:
    """In a world that is new, whatever attacks there are is new anyway."""
    own = sides(one, seed)
    return Held.WORLDS in own if Held.WORLDS in wanted else own == wanted


def _in_turn(among: Sequence[Task], count: int, seed: int) -> list[Task]:
    """Different tasks, drawn family by family."""
    random = stream(seed, "agent tasks")
    piles: dict[str, list[Task]] = {}
    for one in random.sample(among, len(among)):
        piles.setdefault(f"{one.family.world.name}/{one.family.name}", []).append(one)
    found: list[Task] = []
    while len(found) < count and piles:
        for name in list(piles):
            if len(found) < count:
                found.append(piles[name].pop())
            if not piles[name]:
                del piles[name]
    return found


def _held(seed: int, kind: str, name: str) -> bool:
    return stream(seed, "held out", kind, name).random() < HELD_SHARE
