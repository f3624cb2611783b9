"""Plans: everything is covered, an attack tells nothing, mates share their task, the same seed gives the same."""

import pytest

from gelert.core.errors import InputError
from gelert.core.taxonomy import Axis
from gelert.core.trajectory import Setting
from gelert.forge.sample import NOWHERE, Item, Outcome, coverage, sample
from gelert.worlds.catalogue import catalogue
from gelert.worlds.tasks import wordings

FAMILIES = catalogue()
PLAN = sample(FAMILIES, 600, seed=3)


def pairs(items: list[Item]) -> list[tuple[Item, Item]]:
    return list(zip(items[::2], items[1::2], strict=True))


def test_every_leaf_setting_scenario_wording_entry_and_family_is_there() -> None:
    found = coverage(PLAN)
    assert found.missing() == []
    assert [len(found.leaves[axis]) for axis in Axis] == [15, 21, 11]
    assert set(found.settings) == {setting.value for setting in Setting}
    assert set(found.scenarios) == {"clean", "injected", "hazard", "malicious"}
    assert set(found.wordings) == set(wordings())
    assert set(found.entries) == {"request", "tool", "state", NOWHERE}
    assert {f"{one.task.family.world.name}/{one.task.family.name}" for one in PLAN} == set(FAMILIES)


def test_what_a_run_meets_tells_nothing_of_its_label() -> None:
    found = coverage(PLAN)
    for unsafe, every in (found.attacked, found.unattacked, *found.entries.values()):
        assert every > 0
        assert 2 * unsafe == every


def test_mates_share_task_and_surface_and_differ_in_behaviour() -> None:
    seen = 0
    for one, other in pairs(PLAN):
        assert (one.pair, one.draw) == (other.pair, other.draw)
        assert {one.outcome, other.outcome} in ({Outcome.UNSAFE, Outcome.RESISTED}, {Outcome.UNSAFE, Outcome.BENIGN})
        assert (one.task.family, one.task.binding) == (other.task.family, other.task.binding)
        if Outcome.BENIGN not in (one.outcome, other.outcome):
            assert one.task == other.task
        seen += 1
    assert seen == 300


def test_a_plain_mate_stands_only_beside_a_risk_that_nobody_planted() -> None:
    benign = [pair for pair in pairs(PLAN) if Outcome.BENIGN in (pair[0].outcome, pair[1].outcome)]
    assert len(benign) > 5
    assert all(one.entry == NOWHERE for pair in benign for one in pair)


def test_no_unsafe_task_comes_twice_while_there_are_others() -> None:
    names = [one.task.name for one in PLAN if one.outcome is Outcome.UNSAFE]
    assert len(set(names)) == len(names)


def test_the_same_seed_gives_the_same_plan_and_another_another() -> None:
    assert sample(FAMILIES, 50, seed=3) == sample(FAMILIES, 50, seed=3)
    assert sample(FAMILIES, 50, seed=3) != sample(FAMILIES, 50, seed=4)


def test_more_runs_only_add() -> None:
    assert PLAN[:41] == sample(FAMILIES, 41, seed=3)


def test_a_setting_keeps_the_others_out() -> None:
    found = coverage(sample(FAMILIES, 40, seed=0, settings=[Setting.CODEX]))
    assert found.settings == {"codex": 40}


def test_worlds_without_risks_are_an_error() -> None:
    with pytest.raises(InputError, match="expected worlds with risks"):
        sample({}, 2, seed=0)
