"""Demonstrations for agents: what is good by the world, what a filter keeps, and the form that trainers take."""

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from gelert.cli.data_demonstrate import demonstrate
from gelert.core.errors import InputError
from gelert.core.trajectory import Role, Trajectory
from gelert.core.verdict import Reading, Safe, Unreadable, Unsafe, Verdict
from gelert.forge.agent_sft import Agreement, Candidate, Draw, Keep, agreement, candidates, conversation, kept
from gelert.forge.agent_tasks import sides
from gelert.guard.formats import read_value
from gelert.worlds.catalogue import catalogue
from gelert.worlds.tasks import task
from tests.scripted_vllm import ScriptedVllm
from tests.serve.proxy.wire import listening

FAMILIES = catalogue(["mail", "bank"])
DRAW = Draw(60, 0.5, 0.3, seed=1)
FOUND = list(candidates(FAMILIES, DRAW))
SHORT = [one for one in FOUND if not one.long]


@dataclass(frozen=True)
class Says:
    """One verdict for everything."""

    verdict: Verdict
    name: str = "says"
    concurrency: int = 1

    def judge(self, trajectory: Trajectory) -> Verdict:
        assert trajectory.steps
        return self.verdict


def test_candidates_are_of_tasks_to_learn_from_risky_ones_first() -> None:
    assert [one.scenario == "clean" for one in FOUND] == [False] * 60 + [True] * 30
    assert all(not sides(task(FAMILIES, one.run.trajectory_id)) for one in FOUND)
    assert {one.scenario for one in FOUND} == {"clean", "injected", "hazard", "malicious"}


def test_a_victim_is_never_good_and_a_plain_run_always_is() -> None:
    fallen = [one for one in FOUND if one.agent == "victim"]
    assert 8 <= len(fallen) <= 28
    assert not any(one.good for one in fallen)
    assert all(one.good is not one.long for one in FOUND if one.scenario == "clean")
    assert any(not one.good for one in FOUND if one.agent not in ("victim", "oracle"))  # safe, but left undone


def test_the_same_seed_gives_the_same_candidates() -> None:
    assert [one.run for one in candidates(FAMILIES, DRAW)] == [one.run for one in FOUND]


@pytest.mark.parametrize(
    ("verdict", "keeps"),
    [
        (Safe(0.1, Reading(1, 1)), True),
        (Unsafe(0.9, Reading(1, 1)), False),
        (Unreadable("expected an answer, got none"), False),
    ],
)
def test_a_guard_keeps_what_it_finds_safe_and_nothing_that_it_cannot_judge(verdict: Verdict, *, keeps: bool) -> None:
    risky, plain = SHORT[0], SHORT[-1]
    assert kept(risky, Keep.GUARD, Says(verdict)) is keeps
    assert kept(plain, Keep.GUARD, Says(verdict))


def test_bare_runs_are_of_the_same_tasks_and_agents_and_shorter() -> None:
    bare = list(candidates(FAMILIES, replace(DRAW, bare=True)))
    assert [(one.run.trajectory_id, one.agent) for one in bare] == [(o.run.trajectory_id, o.agent) for o in FOUND]
    assert [one.earned.harmed for one in bare] == [one.earned.harmed for one in FOUND]
    assert sum(len(one.run.steps) for one in bare) < sum(len(one.run.steps) for one in FOUND)


@pytest.mark.parametrize("keep", [Keep.ALL, Keep.TRUTH, Keep.GUARD])
def test_what_has_more_turns_than_an_agent_in_play_is_not_kept(keep: Keep) -> None:
    long = [one for one in FOUND if one.long]
    assert {one.scenario == "clean" for one in long} == {True, False}
    assert not [one for one in long if kept(one, keep, Says(Safe(0.1, Reading(1, 1))))]


def test_agreement_counts_runs_with_a_risk() -> None:
    good, bad = next(one for one in FOUND if one.good), next(one for one in FOUND if not one.good)
    plain = FOUND[-1]
    found = agreement([(good, True), (good, True), (good, False), (bad, True), (bad, False), (plain, True)])
    assert found == Agreement(runs=5, good=3, kept=3, both=2)
    assert (found.precision, found.recall) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert agreement([(plain, True)]).precision == 0.0


@pytest.mark.parametrize("one", FOUND[::9], ids=lambda one: one.run.trajectory_id)
def test_a_conversation_holds_every_step_and_is_read_back(one: Candidate) -> None:
    row = conversation(one.run)
    back = read_value(json.loads(json.dumps(row)), format="openai")
    assert isinstance(getattr(back, "trajectory", None), Trajectory), back
    again: Trajectory = back.trajectory  # pyright: ignore[reportAttributeAccessIssue]
    assert [(s.role, s.text) for s in again.steps] == [(s.role, s.text) for s in one.run.steps]
    calls = [[(c.name, c.parsed()) for c in s.calls] for s in again.steps if s.role is Role.AGENT]
    assert calls == [[(c.name, c.parsed()) for c in s.calls] for s in one.run.steps if s.role is Role.AGENT]
    assert [t.name for t in again.tools] == [t.name for t in one.run.tools]


def test_the_command_writes_what_is_kept_and_says_how_good_it_is(tmp_path: Path) -> None:
    out = tmp_path / "demo.jsonl"
    words = ["--count", "12", "--keep", "truth", "--world", "mail", "--plain", "1", "--out", str(out), "--json"]
    found = json.loads(CliRunner().invoke(demonstrate, words, catch_exceptions=False).stdout)
    assert (found["runs"], found["precision"], found["recall"]) == (24, 1.0, 1.0)
    assert found["kept"] < found["written"] == len(out.read_text().splitlines()) <= found["kept"] + 12
    assert list(tmp_path.iterdir()) == [out]
    two = tmp_path / "two.jsonl"
    words[words.index(str(out))] = str(two)
    assert (
        json.loads(CliRunner().invoke(demonstrate, [*words, "--workers", "2"], catch_exceptions=False).stdout) == found
    )
    assert two.read_bytes() == out.read_bytes()


def test_a_guard_behind_an_endpoint_chooses_for_many_runs_at_once(tmp_path: Path) -> None:
    vllm = ScriptedVllm(speak=lambda prompt, _: ("unsafe", 0.9) if len(prompt) % 2 else ("safe", 0.1), seconds=0.1)
    words = ["--count", "12", "--world", "mail", "--plain", "0", "--json"]
    wrote: list[bytes] = []
    with listening(vllm.app()) as port:
        guard = ["--guard", f"agentdog-1.0-coarse@http://127.0.0.1:{port}/v1#base"]
        for at_once in "6", "1":
            out = tmp_path / at_once
            asked = ["data", "demonstrate", *words, *guard, "--at-once", at_once, "--out", str(out)]
            command = [sys.executable, "-m", "gelert.cli.main", *asked]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            wrote.append(out.read_bytes())
    assert 0 < found["kept"] < found["runs"] == 12
    assert wrote[0] == wrote[1]
    assert 1 < vllm.most_under_way <= 6


@pytest.mark.parametrize("option", [["--guard", "mine"], ["--at-once", "4"]], ids=["guard", "at once"])
def test_a_guard_that_would_not_choose_is_refused(tmp_path: Path, option: list[str]) -> None:
    words = ["--count", "12", "--keep", "truth", "--out", str(tmp_path / "demo.jsonl"), *option]
    with pytest.raises(InputError, match="expected --keep guard"):
        CliRunner().invoke(demonstrate, words, catch_exceptions=False)
    assert not list(tmp_path.iterdir())
