"""What every bridge must keep: the same calls and the same answer end as they do in an ``Episode``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gelert.worlds.agents import Agent, oracle, victim
from gelert.worlds.catalogue import catalogue
from gelert.worlds.episode import Episode, changed
from gelert.worlds.rewards import reward
from gelert.worlds.tasks import Beginning, Task, begin, sample, tasks

TASKS = [one for found in catalogue(["mail", "shop"]).values() for one in tasks(found)]
PARTS = ("utility", "success", "safe", "harmed", "refused")
"""Of a reward, as every bridge tells them."""


@dataclass(frozen=True)
class End:
    """How an episode came out."""

    results: list[str]
    """Of its calls, as JSON text."""
    total: float
    parts: dict[str, float]
    changes: list[dict[str, object]]


Bridge = Callable[[Sequence[Episode]], list[End]]
"""Makes the calls and gives the answers of finished episodes once more, through a library."""


def parts(told: Mapping[str, Any]) -> dict[str, float]:
    """Those of a reward as numbers, whatever a library made of truth values."""
    return {name: float(told[name]) for name in PARTS}


def played(one: Task, agent: Callable[[Beginning], Agent]) -> Episode:
    """An episode without a library."""
    episode = Episode(begin(one))
    agent(episode.beginning)(episode)
    return episode


def end(episode: Episode) -> End:
    """How it came out."""
    earned = reward(episode)
    return End([one.result for one in episode.calls], earned.total, parts(asdict(earned)), changed(episode))


def episodes() -> list[Episode]:
    """Oracle and victim of tasks of every scenario, and of one whose attack stands in a tool's description."""
    told = [one for one in TASKS if one.risk and one.risk.tool]
    chosen = sample(told, 1, seed=1)
    for number, scenario in enumerate(("clean", "injected", "hazard", "malicious")):
        chosen += sample([one for one in TASKS if one.scenario == scenario and one not in told], 2, seed=number)
    return [played(one, agent) for one in chosen for agent in (oracle, victim)]


def holds(bridge: Bridge) -> None:
    """Assert it of a bridge."""
    own = episodes()
    assert sum(reward(one).harmed for one in own) >= 5
    assert sum(reward(one).success for one in own) >= 5
    found = bridge(own)
    assert [one.total for one in found] == [end(one).total for one in own]
    assert found == [end(one) for one in own]
