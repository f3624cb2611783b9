"""Policy files: what they say is what is decided, a rule only ever tightens, and a broken file changes nothing."""

import logging
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gelert.core.decision import Allow, Ask, Block, strictest
from gelert.core.errors import InputError
from gelert.core.trajectory import Role, Setting, Step, ToolCall, Trajectory
from gelert.core.verdict import Reading, Safe, Unreadable, Unsafe, Verdict
from gelert.guard.policy import Policy, Surface, decide
from gelert.guard.policy_file import CompiledPolicy, PolicyFile, PolicySections, read_policy

READING = Reading(1, 1)
RUN = Trajectory((Step(Role.USER, "tidy up"), Step(Role.AGENT, calls=(ToolCall("exec"),))))

NAMES = st.sampled_from(["exec", "read", "send_mail"])
STEPS = st.builds(
    lambda name, value: [Step(Role.AGENT, calls=(ToolCall(name, f'{{"to": "{value}"}}'),)), Step(Role.TOOL, value)],
    NAMES,
    st.sampled_from(["eve@evil.example", "bob@home.example", "nothing"]),
)
RUNS = st.builds(
    lambda parts, end, setting: Trajectory((*(s for part in parts for s in part), *end[:1]), setting=setting),
    st.lists(STEPS, max_size=5),
    STEPS,
    st.sampled_from(list(Setting)),
)
LISTS = st.lists(NAMES, min_size=1, max_size=3).map(lambda names: f"[{', '.join(names)}]")
RULES = st.fixed_dictionaries(
    {
        "when": st.builds("untrusted value -> {}".format, LISTS)
        | st.builds("sequence {} then {}".format, LISTS, LISTS)
        | st.builds("tool outside {}".format, LISTS),
        "then": st.sampled_from(["block", "ask"]),
    }
)
SECTIONS = st.fixed_dictionaries(
    {},
    optional={
        "block_at": st.floats(0.5, 1),
        "ask_at": st.floats(0, 0.4),
        "on_failure": st.sampled_from(["block", "ask", "allow"]),
        "mode": st.sampled_from(["enforce", "observe"]),
    },
)
VERDICTS = st.one_of(
    st.floats(0, 0.5, exclude_max=True).map(lambda risk: Safe(risk, READING)),
    st.floats(0.5, 1).map(lambda risk: Unsafe(risk, READING)),
    st.just(Unreadable("timeout")),
)


def policy(**sections: object) -> CompiledPolicy:
    return CompiledPolicy(PolicySections.model_validate(sections))


@given(SECTIONS, SECTIONS, st.lists(RULES, max_size=4), RULES, RUNS, VERDICTS, st.sampled_from(list(Surface)))
def test_one_more_rule_never_weakens_a_decision(
    section: dict[str, object],
    override: dict[str, object],
    rules: list[dict[str, str]],
    more: dict[str, str],
    run: Trajectory,
    verdict: Verdict,
    surface: Surface,
) -> None:
    sections = {"tool_call": section, "reply": section, "setting": {"codex": {"tool_call": override}}}
    before = policy(**sections, rule=rules).decide(verdict, surface, run)
    after = policy(**sections, rule=[*rules, more]).decide(verdict, surface, run)
    assert strictest(before, after) == after


@given(VERDICTS, st.sampled_from(list(Surface)), RUNS)
def test_an_empty_file_is_the_default_policy(verdict: Verdict, surface: Surface, run: Trajectory) -> None:
    assert policy().decide(verdict, surface, run) == decide(verdict, surface, Policy())


def test_a_setting_says_only_what_is_different() -> None:
    found = policy(tool_call={"block_at": 0.9, "ask_at": 0.2}, setting={"codex": {"tool_call": {"block_at": 0.6}}})
    codex = Trajectory(RUN.steps, setting=Setting.CODEX)
    assert found.decide(Unsafe(0.7, READING), Surface.TOOL_CALL, RUN) == Ask("risk 0.70 on tool_call")
    assert found.decide(Unsafe(0.7, READING), Surface.TOOL_CALL, codex) == Block("risk 0.70 on tool_call")
    assert found.decide(Safe(0.3, READING), Surface.TOOL_CALL, codex) == Ask("risk 0.30 on tool_call")


def test_a_surface_that_is_observed_lets_everything_pass_and_says_where_no_verdict_stood() -> None:
    found = policy(reply={"mode": "observe"}, rule=[{"when": "tool outside [read]"}])
    assert found.decide(Unsafe(0.9, READING), Surface.REPLY, RUN) == Allow()
    assert found.decide(Unreadable("timeout"), Surface.REPLY, RUN) == Allow(degraded=True)
    assert isinstance(found.decide(Safe(0.1, READING), Surface.TOOL_CALL, RUN), Block)


def test_the_reason_names_the_rule_and_nothing_of_the_run() -> None:
    found = policy(rule=[{"when": "tool outside [read]", "then": "ask"}])
    reason = "the policy's rule 'tool outside [read]'"
    assert found.decide(Safe(0.1, READING), Surface.TOOL_CALL, RUN) == Ask(reason)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[tool_cal]", "tool_cal"),
        ("[reply]\nblock_at = 1.5", "reply.block_at"),
        ("[reply]\nblock_at = nan", "reply.block_at"),
        ("[reply]\nblock_at = '0.5'", "reply.block_at"),
        ("[reply]\non_failure = 'pass'", "reply.on_failure"),
        ("[setting.code.reply]", "setting.code"),
        ("[reply]\nask_at = 0.9\nblock_at = 0.5", "nobody would be asked"),
        ("[[rule]]\nwhen = 'tool outside'", "rule.0.when"),
        ("[[rule]]\nwhen = 'tool outside x'\nthen = 'allow'", "rule.0.then"),
        ("[reply", "TOML"),
        ("\ufeff\udcff", "TOML"),
    ],
)
def test_a_file_that_is_no_policy_is_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=named) as fault:
        read_policy(path)
    assert str(path) in str(fault.value)


def test_every_fault_of_a_file_is_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text("[reply]\nblock_at = 2\n[tool_call]\nask_at = -1\n")
    with pytest.raises(InputError, match=r"reply\.block_at") as fault:
        read_policy(path)
    assert "tool_call.ask_at" in str(fault.value)


def written(path: Path, text: str, second: int) -> None:
    path.write_text(text)
    os.utime(path, (second, second))


def test_a_file_that_changes_is_followed_and_one_that_breaks_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "policy.toml"
    written(path, "", 1)
    found = PolicyFile(path)
    verdict = Safe(0.3, READING)
    assert found.decide(verdict, Surface.TOOL_CALL, RUN) == Allow()

    written(path, "[tool_call]\nblock_at = 0.2\n", 2)
    strict = found.decide(verdict, Surface.TOOL_CALL, RUN)
    assert isinstance(strict, Block)
    assert not found.fault

    caplog.clear()
    written(path, "[tool_call]\nblock_at = 2\n", 3)
    assert found.decide(verdict, Surface.TOOL_CALL, RUN) == strict
    assert "tool_call.block_at" in found.fault
    assert [record.levelno for record in caplog.records] == [logging.ERROR]

    path.unlink()
    assert found.decide(verdict, Surface.TOOL_CALL, RUN) == strict
    assert "No such file" in found.fault

    written(path, "", 4)
    assert found.decide(verdict, Surface.TOOL_CALL, RUN) == Allow()
    assert not found.fault
