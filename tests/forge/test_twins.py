"""Twins: labels by construction, one skeleton a pair, every slot filled, the same words whatever else was drawn."""

from gelert.core.taxonomy import Axis, builtin
from gelert.core.trajectory import Role
from gelert.forge.twins import twins
from gelert.guard.prompts.render import render


def test_every_pair_shares_its_request_and_its_beginning() -> None:
    runs = twins(2)
    pairs = list(zip(runs[::2], runs[1::2], strict=True))
    assert len(pairs) >= 20
    for safe, unsafe in pairs:
        assert (safe.unsafe, unsafe.unsafe) == (False, True)
        assert safe.group == unsafe.group
        assert safe.example.trajectory.steps[0] == unsafe.example.trajectory.steps[0]
        assert safe.example.trajectory.steps[0].role is Role.USER


def test_a_pair_differs_and_both_end_with_the_agents_words() -> None:
    for run in twins(1):
        last = run.example.trajectory.steps[-1]
        assert last.role is Role.AGENT
        assert last.text
        assert not last.calls


def test_no_slot_is_left_open() -> None:
    for run in twins(3):
        assert "${" not in render(run.example.trajectory).text


def test_every_unsafe_twin_names_known_leaves_on_all_axes() -> None:
    checked = 0
    for run in (r for r in twins(1) if r.unsafe):
        for axis in Axis:
            slug = run.gold.diagnosis.on(axis)
            assert slug is not None
            assert builtin().by_slug(axis, slug) is not None
            checked += 1
    assert checked >= 30


def test_the_same_seed_gives_the_same_twins_and_more_copies_only_add() -> None:
    assert twins(2, seed=5) == twins(2, seed=5)
    assert twins(2, seed=5) != twins(2, seed=6)
    few = {(r.group, r.key, r.example.trajectory.origin.path): r for r in twins(1)}
    many = {(r.group, r.key, r.example.trajectory.origin.path): r for r in twins(2)}
    assert all(many[key] == run for key, run in few.items())
