"""Two guards as one: the second is asked in the band only, and no verdict of its is no verdict."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gelert.backends.scripted import ScriptedBackend
from gelert.cli.guards import open_guard
from gelert.core.errors import CardError, InputError
from gelert.core.trajectory import Trajectory
from gelert.core.verdict import Reading, Safe, Unreadable, Unsafe, Verdict
from gelert.guard.cascade import Cascade, CascadeCard, load_cascade
from gelert.guard.endpoint import EndpointGuard
from gelert.guard.guard import Guard
from tests.guard.tiny import run, tiny_guard

FIRST = tiny_guard()
RUN = run("tidy up", "rm -rf /data", "done", "ls")


@dataclass
class Noting:
    """Gives one answer, and keeps what it was asked."""

    verdict: Verdict = Safe(0.2, Reading(1, 1))
    asked: list[Trajectory] = field(default_factory=list[Trajectory])
    name: str = "noting"
    concurrency: int = 4

    def judge(self, trajectory: Trajectory) -> Verdict:
        self.asked.append(trajectory)
        return self.verdict


def cascade(second: Guard, low: float = 0.0, high: float = 1.0) -> Cascade:
    return Cascade(CascadeCard(kind="cascade", name="both", second="x", low=low, high=high), FIRST, second)


def risk_of(verdict: Verdict) -> float:
    assert not isinstance(verdict, Unreadable)
    return verdict.risk


@settings(max_examples=30)
@given(st.floats(0, 1), st.floats(0, 1))
def test_the_second_is_asked_exactly_where_the_risk_is_in_the_band(one: float, other: float) -> None:
    low, high = sorted((one, other))
    if low == high:
        return
    second, first = Noting(), FIRST.judge(RUN)
    found = cascade(second, low, high).judge(RUN)
    if low <= risk_of(first) <= high:
        assert second.asked == [RUN]
        assert found == second.verdict
    else:
        assert not second.asked
        assert found == first


def test_the_second_sees_a_growing_run_as_it_stands() -> None:
    second = Noting()
    session = cascade(second).session(RUN)
    for step in RUN.steps:
        session.append(step)
    session.verdict()
    assert second.asked == [RUN]


def test_no_verdict_of_the_second_is_none_and_says_why() -> None:
    found = cascade(EndpointGuard(ScriptedBackend(["perhaps"]), "agentdog-1.0-coarse")).judge(RUN)
    assert isinstance(found, Unreadable)
    assert "in the band of 'both'" in found.reason


def test_an_unsafe_verdict_without_steps_gets_those_at_which_the_first_guards_risk_rose() -> None:
    found = cascade(EndpointGuard(ScriptedBackend(["unsafe"]), "agentdog-1.0-coarse")).judge(RUN)
    named = tiny_guard(threshold=1e-9).judge(RUN)
    assert isinstance(found, Unsafe)
    assert isinstance(named, Unsafe)
    assert found.evidence == named.evidence != ()


def test_a_first_guard_without_a_verdict_is_not_helped_out() -> None:
    second = Noting()
    assert isinstance(cascade(second).judge(replace(RUN, steps=RUN.steps[:1])), Unreadable)
    assert not second.asked


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('second = "x"\nlow = 0.7\nhigh = 0.3', "low below high"),
        ('second = "x"\nlow = 0.7\nhigh = 1.3', "high"),
        ('second = "x"\nlow = 0.1\nhigh = 0.3\nthird = "y"', "third"),
        ("low = 0.1\nhigh = 0.3", "second"),
    ],
)
def test_a_wrong_card_names_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "cascade.toml"
    path.write_text(f'kind = "cascade"\nname = "both"\n{text}\n')
    with pytest.raises(CardError, match=said):
        load_cascade(path)


@pytest.mark.real_model
def test_the_command_line_takes_the_card_of_a_cascade_but_none_inside_another(tmp_path: Path) -> None:
    answers = tmp_path / "answers.jsonl"
    answers.write_text('{"text": "safe"}\n{"text": "unsafe"}\n')
    path = tmp_path / "cascade.toml"
    second = f"agentdog-1.0-coarse@recorded:{answers}"
    path.write_text(f'kind = "cascade"\nname = "both"\nsecond = "{second}"\nlow = 0.0\nhigh = 1.0\n')
    guard = open_guard(str(path))
    assert isinstance(guard.judge(RUN), Safe)
    assert isinstance(guard.judge(RUN), Unsafe)
    outer = tmp_path / "outer.toml"
    outer.write_text('kind = "cascade"\nname = "three"\nsecond = "cascade.toml"\nlow = 0.0\nhigh = 1.0\n')
    with pytest.raises(InputError, match="another cascade"):
        open_guard(str(outer))
