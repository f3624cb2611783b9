"""Wider families: nothing that a family has is made again, and all that is made can be done."""

from collections.abc import Callable

import pytest

from gelert.forge.agent_widen import widened
from gelert.worlds.agents import Agent, defender, oracle, victim
from gelert.worlds.catalogue import catalogue
from gelert.worlds.episode import Episode
from gelert.worlds.families import Family
from gelert.worlds.rewards import Reward, reward
from gelert.worlds.tasks import Beginning, Task, begin, tasks

OWN = catalogue(["newsroom", "house", "bank"])
WIDER = widened(OWN, 12, 3)
CHANGED = sorted(name for name in OWN if len(WIDER[name].bindings) > len(OWN[name].bindings))


def new(name: str) -> list[Task]:
    return [one for one in tasks(WIDER[name]) if one.binding >= len(OWN[name].bindings)]


def test_most_families_get_more_bindings_behind_their_own() -> None:
    assert len(CHANGED) >= 7
    for name, family in OWN.items():
        count = len(family.bindings)
        assert WIDER[name].bindings[:count] == family.bindings
        assert len(WIDER[name].bindings) <= count + 12


@pytest.mark.parametrize("name", CHANGED)
def test_what_is_new_can_be_done_and_harmed(name: str) -> None:
    for one in new(name):
        if one.risk is None:
            assert _reward(one, oracle).success
            continue
        assert _reward(one, victim).harmed
        for how in one.risk.defenders:
            assert not _reward(one, lambda begun, how=how: defender(begun, how)).harmed


@pytest.mark.parametrize("name", CHANGED)
def test_no_goal_of_the_family_is_made_again(name: str) -> None:
    own = {begin(one).goal for one in tasks(OWN[name])}
    assert not own & {begin(one).goal for one in new(name) if one.scenario == "clean"}


def test_the_same_seed_gives_the_same_families_and_no_more_gives_the_same_ones() -> None:
    assert _bindings(widened(OWN, 12, 3)) == _bindings(WIDER)
    assert _bindings(widened(OWN, 12, 4)) != _bindings(WIDER)
    assert widened(OWN, 0) == OWN


def _bindings(families: dict[str, Family]) -> list[object]:
    return [family.bindings for family in families.values()]


def _reward(one: Task, agent: Callable[[Beginning], Agent]) -> Reward:
    episode = Episode(begin(one))
    agent(episode.beginning)(episode)
    return reward(episode)
