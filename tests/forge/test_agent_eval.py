"""Agents tried in the worlds: what is held out, what the figures say of agents that are known, what a guard changes."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from gelert.core.errors import InputError
from gelert.core.trajectory import Trajectory
from gelert.core.verdict import Reading, Safe, Unreadable, Unsafe, Verdict
from gelert.forge.agent_eval import Choose, Played, evaluate, figures, play, saved
from gelert.forge.agent_guarded import BLOCKED, WITHHELD, Guarded
from gelert.forge.agent_tasks import Held, chosen, sides
from gelert.worlds import agents
from gelert.worlds.catalogue import catalogue
from gelert.worlds.episode import Episode
from gelert.worlds.tasks import Beginning, Task, begin, tasks

EVERY = [one for family in catalogue(["mail", "workspace", "bank"]).values() for one in tasks(family)]
INJECTED = chosen(EVERY, 12, held=None, scenarios=("injected",))


@dataclass(frozen=True)
class Told:
    """Judges by what the last step says."""

    bad: str
    name: str = "told"
    concurrency: int = 1

    def judge(self, trajectory: Trajectory) -> Verdict:
        last = trajectory.steps[-1]
        reading = Reading(len(trajectory.steps), len(trajectory.steps))
        said = " ".join([last.text, *(call.name for call in last.calls)])
        return Unsafe(0.9, reading) if self.bad in said else Safe(0.1, reading)


@dataclass(frozen=True)
class Silent:
    """Has no verdict."""

    name: str = "silent"
    concurrency: int = 1

    def judge(self, trajectory: Trajectory) -> Verdict:
        return Unreadable(f"expected an answer on {len(trajectory.steps)} steps, got none")


def shares(played: list[Played]) -> dict[str, float]:
    return {one.name: one.interval.value for one in figures(played, draws=20)}


def test_what_is_learned_from_is_on_the_near_side_of_everything() -> None:
    near = chosen(EVERY, 100, held=None)
    assert {one.scenario for one in near} == {"clean", "injected", "hazard", "malicious"}
    assert all(not sides(one) for one in near)
    for held in (Held.ATTACKS, Held.WORDINGS):
        far = chosen(EVERY, 100, held=held)
        assert {sides(one) for one in far if one.risk} == {frozenset({held})}
        assert not {one.name for one in far if one.risk} & {one.name for one in near}
    new = chosen(EVERY, 100, held=Held.WORLDS)
    assert not {one.family.world.name for one in new} & {one.family.world.name for one in near}


def test_a_choice_is_the_same_again_and_balanced_over_families() -> None:
    first, again = (chosen(EVERY, 20, held=None, seed=3) for _ in range(2))
    assert [one.name for one in first] == [one.name for one in again]
    clean = [one.family.name for one in first if one.scenario == "clean"]
    assert max(map(clean.count, clean)) - min(map(clean.count, clean)) <= 2


def test_without_tasks_on_a_side_there_is_an_error() -> None:
    known = [one for one in EVERY if Held.WORLDS not in sides(one)]
    with pytest.raises(InputError, match="new worlds"):
        chosen(known, 5, held=Held.WORLDS)


@pytest.mark.parametrize(
    ("agent", "useful", "harmful", "refusing"),
    [(agents.victim, None, 1.0, 0.0), (agents.refuser, 0.0, 0.0, 1.0)],
)
def test_figures_say_what_a_known_agent_does(
    agent: Choose, useful: float | None, harmful: float, refusing: float
) -> None:
    found = shares([play(agent, one, "known") for one in INJECTED])
    assert found["attack success"] == found["harm"] == harmful
    assert found["over-refusal"] == refusing
    assert useful is None or found["utility, attacked"] == useful


def test_an_oracle_does_every_clean_task() -> None:
    found = shares([play(agents.oracle, one, "oracle") for one in chosen(EVERY, 20, held=None, scenarios=("clean",))])
    assert found == {"utility, clean": 1.0, "over-refusal": 0.0, "reward": pytest.approx(1.0)}


def test_a_guard_that_lets_everything_pass_changes_nothing() -> None:
    for one in INJECTED:
        assert play(agents.victim, one, "a", Told("nothing says this")) == play(agents.victim, one, "a")


def test_a_call_that_is_blocked_is_not_made_and_the_agent_is_told() -> None:
    beginning = begin(INJECTED[0])
    tool = next(iter(beginning.task.family.offered))
    episode = Guarded(beginning, Told(tool))
    assert BLOCKED in episode.call(tool, "{}")
    assert (episode.blocked, episode.calls[0].ok, episode.changes) == (1, False, [])
    episode.finish(f"{tool} did not work")
    assert (episode.blocked, episode.answer) == (2, WITHHELD)


def test_without_a_verdict_nothing_passes() -> None:
    found = [play(agents.victim, one, "a", Silent()) for one in INJECTED]
    assert not any(one.harmed or one.success for one in found)
    assert all(one.blocked == one.calls + 1 for one in found)


def test_an_interrupted_run_goes_on_and_plays_nothing_twice(tmp_path: Path) -> None:
    out, played = tmp_path / "runs.jsonl", list[str]()

    def noting(beginning: Beginning) -> agents.Agent:
        played.append(beginning.task.name)
        return agents.oracle(beginning)

    run = evaluate(noting, INJECTED, "oracle", out)
    first = [next(run) for _ in range(3)]
    del run
    whole = list(evaluate(noting, INJECTED, "oracle", out))
    assert whole[:3] == first
    assert played == [one.name for one in INJECTED]
    assert saved(out) == whole
    with pytest.raises(InputError, match="oracle"):
        list(evaluate(agents.victim, INJECTED, "victim", out))


def test_an_agent_that_stops_without_an_answer_is_finished() -> None:
    def idle(_: Beginning) -> agents.Agent:
        return lambda _: None

    one: Task = INJECTED[0]
    found = play(idle, one, "idle")
    assert found.refused
    assert not Episode(begin(one)).finished
