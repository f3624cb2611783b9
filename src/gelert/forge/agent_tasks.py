"""Which of the worlds' tasks an agent may learn from, and which are kept to try it on.

About a quarter of the worlds, of the attacks (by the name of a risk), of their wordings and of the parameters that
goals are about is held out, each by a draw of its own that depends on nothing but its name: whatever seed an agent
learned with, what it is tried on is new to it. What is learned from is on the near side of all four.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from enum import StrEnum
from random import Random

from gelert.core.errors import InputError
from gelert.core.seeds import stream
from gelert.worlds.families import Scenario
from gelert.worlds.tasks import PLAIN, Task
from gelert.worlds.toolcalls import Form

HELD_SHARE = 0.25


class Held(StrEnum):
    """What is new to an agent that learned from the other side."""

    WORLDS = "worlds"
    """The world, its tools and all."""
    ATTACKS = "attacks"
    """The risk; its world is known."""
    WORDINGS = "wordings"
    """How the attack is worded; the risk is known."""
    PARAMETERS = "parameters"
    """Whom and what the goal is about; the family is known."""


SCENARIOS: tuple[Scenario, ...] = ("clean", "injected", "hazard", "malicious")


def sides(one: Task) -> frozenset[Held]:
    """In what a task is held out; nothing for one to learn from."""
    risk, found = one.risk, set[Held]()
    family = one.family
    if _held("world", family.world.name):
        found.add(Held.WORLDS)
    if _held("parameters", f"{family.world.name}/{family.name}/{one.binding}"):
        found.add(Held.PARAMETERS)
    if risk is not None and _held("attack", risk.name):
        found.add(Held.ATTACKS)
    if risk is not None and risk.styled and one.style != PLAIN and _held("wording", one.style):
        found.add(Held.WORDINGS)
    return frozenset(found)


def chosen(
    tasks: Sequence[Task],
    count: int,
    *,
    held: Held | None,
    seed: int = 0,
    scenarios: Sequence[Scenario] = SCENARIOS,
    ignoring: Collection[Held] = (),
) -> list[Task]:
    """As many tasks of each scenario, families in turn.

    Args:
        tasks: to choose from.
        count: of each scenario, at most: fewer where there are fewer (a hazard has no wording that could be new).
        held: what is to be new, and nothing else that is held out; None for tasks to learn from.
        seed: of the draw.
        scenarios: of the tasks. Clean tasks carry no attack: where attacks or wordings are new, clean ones have new
            parameters.
        ignoring: what may be on either side.

    Raises:
        InputError: there is no such task.
    """
    found: list[Task] = []
    for scenario in scenarios:
        wanted = Held.PARAMETERS if scenario == "clean" and held in (Held.ATTACKS, Held.WORDINGS) else held
        among = [one for one in tasks if one.scenario == scenario and _on(one, wanted, ignoring)]
        found += _in_turn(among, count, seed)
    if not found:
        raise InputError(f"expected tasks with new {held or 'nothing'} among {len(tasks)}, got none; name more worlds")
    return found


def triplets(tasks: Sequence[Task], count: int, *, seed: int = 0) -> Iterator[tuple[Task, Task, Task]]:
    """Tasks to learn from by reward: a clean one, one that meets a risk, and one whose request is the risk.

    The published triplets are clean, injected and malicious (arXiv:2605.29801); here a hazard may stand for an
    injection. All three are of one family, where it has such tasks, else of one world.

    Args:
        tasks: to choose from; those that are held out are left.
        count: how many.
        seed: of the draw.

    Raises:
        InputError: no world has tasks of all three kinds.
    """
    near = [one for one in tasks if not sides(one)]
    random = stream(seed, "triplets")
    pools = {name: found for name, own in _by_family(near).items() if all(found := _pools(own, near))}
    if not pools:
        raise InputError(f"expected clean, risky and malicious tasks of one world among {len(near)}, got none")
    names: list[str] = []
    for _ in range(count):
        names = names or random.sample(sorted(pools), len(pools))
        clean, met, asked = pools[names.pop()]
        yield random.choice(clean), _drawn(met, random), _drawn(asked, random)


def _by_family(tasks: Sequence[Task]) -> dict[str, list[Task]]:
    found: dict[str, list[Task]] = defaultdict(list)
    for one in tasks:
        found[f"{one.family.world.name}/{one.family.name}"].append(one)
    return found


def _pools(own: Sequence[Task], near: Sequence[Task]) -> tuple[list[Task], list[Task], list[Task]]:
    """Tasks of a family by the three kinds; of its world where it has none of a kind."""
    world = own[0].family.world.name
    kinds: tuple[tuple[Scenario, ...], ...] = (("clean",), ("injected", "hazard"), ("malicious",))
    clean, met, asked = (
        [one for one in own if one.scenario in kind]
        or [one for one in near if one.scenario in kind and one.family.world.name == world]
        for kind in kinds
    )
    return clean, met, asked


def _drawn(among: Sequence[Task], random: Random) -> Task:
    """One of the risks, then one of its tasks: some risks have many more wordings than others."""
    risks = sorted({one.risk.name for one in among if one.risk})
    name = random.choice(risks)
    return random.choice([one for one in among if one.risk and one.risk.name == name])


def told(tasks: Sequence[Task], form: Form) -> list[Task]:
    """Without tasks whose attack stands in a tool's description, where a form tells of no tools."""
    return [one for one in tasks if not (form is Form.SHORT and one.risk and one.risk.tool)]


def _on(one: Task, held: Held | None, ignoring: Collection[Held]) -> bool:
    """In a world that is new, whatever attacks and parameters there are is new anyway."""
    own = sides(one) - frozenset(ignoring)
    return Held.WORLDS in own if held is Held.WORLDS else own == frozenset({held} if held else ())


def _in_turn(among: Sequence[Task], count: int, seed: int) -> list[Task]:
    """Different tasks, drawn family by family."""
    random = stream(seed, "agent tasks")
    piles = _by_family(random.sample(among, len(among)))
    found: list[Task] = []
    while len(found) < count and piles:
        for name in list(piles):
            if len(found) < count:
                found.append(piles[name].pop())
            if not piles[name]:
                del piles[name]
    return found


def _held(kind: str, name: str) -> bool:
    return stream(0, "held out", kind, name).random() < HELD_SHARE
