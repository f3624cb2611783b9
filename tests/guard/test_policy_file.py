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
from gelert.guard.policy_file import CompiledPolicy, PolicyFile, Question, read_policy
from gelert.guard.policy_sections import PolicySections, folder

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
    before = policy(**sections, rule=rules).decide(verdict, Question(surface, run))
    after = policy(**sections, rule=[*rules, more]).decide(verdict, Question(surface, run))
    assert strictest(before, after) == after


@given(VERDICTS, st.sampled_from(list(Surface)), RUNS)
def test_an_empty_file_is_the_default_policy(verdict: Verdict, surface: Surface, run: Trajectory) -> None:
    assert policy().decide(verdict, Question(surface, run)) == decide(verdict, surface, Policy())


def test_a_setting_says_only_what_is_different() -> None:
    found = policy(tool_call={"block_at": 0.9, "ask_at": 0.2}, setting={"codex": {"tool_call": {"block_at": 0.6}}})
    codex = Trajectory(RUN.steps, setting=Setting.CODEX)
    assert found.decide(Unsafe(0.7, READING), Question(Surface.TOOL_CALL, RUN)) == Ask("risk 0.70 on tool_call")
    assert found.decide(Unsafe(0.7, READING), Question(Surface.TOOL_CALL, codex)) == Block("risk 0.70 on tool_call")
    assert found.decide(Safe(0.3, READING), Question(Surface.TOOL_CALL, codex)) == Ask("risk 0.30 on tool_call")


def test_a_surface_that_is_observed_lets_everything_pass_and_says_where_no_verdict_stood() -> None:
    found = policy(reply={"mode": "observe"}, rule=[{"when": "tool outside [read]"}])
    assert found.decide(Unsafe(0.9, READING), Question(Surface.REPLY, RUN)) == Allow()
    assert found.decide(Unreadable("timeout"), Question(Surface.REPLY, RUN)) == Allow(degraded=True)
    assert isinstance(found.decide(Safe(0.1, READING), Question(Surface.TOOL_CALL, RUN)), Block)


def test_the_reason_names_the_rule_and_nothing_of_the_run() -> None:
    found = policy(rule=[{"when": "tool outside [read]", "then": "ask"}])
    reason = "the policy's rule 'tool outside [read]'"
    assert found.decide(Safe(0.1, READING), Question(Surface.TOOL_CALL, RUN)) == Ask(reason)


SITE = {"path": "/home/me/site", "allow": ["exec", "mcp__*"]}


def within(project: str, *tools: str, surface: Surface = Surface.TOOL_CALL) -> Question:
    """A question about calls of these tools in a project."""
    calls = tuple(ToolCall(tool) for tool in tools or ("exec",))
    return Question(surface, Trajectory((RUN.steps[0], Step(Role.AGENT, calls=calls))), project)


@pytest.mark.parametrize("place", ["/home/me/site", "/home/me/site/", "/home/me/site/src/a b", "/home//me/./site"])
def test_an_allowed_call_passes_in_its_project_whatever_its_risk(place: str) -> None:
    found = policy(tool_call={"block_at": 0.9, "ask_at": 0.2}, project=[SITE])
    for risk in (0.3, 1.0):
        assert found.decide(Unsafe(risk, READING), within(place)) == Allow()
        assert found.decide(Unsafe(risk, READING), within(place, "exec", "mcp__notes__add")) == Allow()


@pytest.mark.parametrize(
    "place",
    [
        "",
        "home/me/site",
        "/home/me",
        "/home/me/site-2",
        "/home/me/sit",
        "//home/me/site",
        "/home/me/site/../other",
        "/other/../home/me/site",
        "/HOME/me/site",
        "/home/me/ site",
    ],
)
def test_elsewhere_the_same_call_is_treated_by_its_risk(place: str) -> None:
    assert isinstance(policy(project=[SITE]).decide(Unsafe(0.9, READING), within(place)), Block)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "site")
    found = policy(project=[{"path": str(tmp_path / "site"), "allow": ["exec"]}])
    assert isinstance(found.decide(Unsafe(0.9, READING), within(str(tmp_path / "link"))), Block)


@pytest.mark.parametrize(
    "question",
    [
        within("/home/me/site", "rm"),
        within("/home/me/site", "exec", "rm"),
        within("/home/me/site", "mcp_"),
        within("/home/me/site", surface=Surface.REPLY),
        within("/home/me/site", surface=Surface.TOOL_RESULT),
        Question(Surface.TOOL_CALL, Trajectory((Step(Role.AGENT, "no call"),)), "/home/me/site"),
        Question(Surface.TOOL_CALL, Trajectory(()), "/home/me/site"),
    ],
)
def test_nothing_but_the_listed_calls_is_allowed(question: Question) -> None:
    assert isinstance(policy(project=[SITE]).decide(Unsafe(0.9, READING), question), Block)


PLACES = st.sampled_from(["", "/w", "/w/a", "/w/a/b", "/x", "/w/a/../b"])
PROJECTS = st.lists(
    st.fixed_dictionaries(
        {"path": st.sampled_from(["/", "/w", "/w/a", "/w/a/b"]), "allow": st.lists(NAMES, max_size=3)},
        optional={"tool_call": SECTIONS, "reply": SECTIONS},
    ),
    max_size=3,
    unique_by=lambda one: str(one["path"]),
)


@given(PROJECTS, st.lists(RULES, max_size=4), RULES, RUNS, VERDICTS, st.sampled_from(list(Surface)), PLACES)
def test_in_any_project_one_more_rule_never_weakens_a_decision(
    projects: list[dict[str, object]],
    rules: list[dict[str, str]],
    more: dict[str, str],
    run: Trajectory,
    verdict: Verdict,
    surface: Surface,
    place: str,
) -> None:
    question = Question(surface, run, place)
    before = policy(project=projects, rule=rules).decide(verdict, question)
    after = policy(project=projects, rule=[*rules, more]).decide(verdict, question)
    assert strictest(before, after) == after


@given(PROJECTS, st.lists(RULES, max_size=3), RUNS, VERDICTS, st.sampled_from(list(Surface)), PLACES)
def test_to_be_allowed_frees_a_call_from_its_risk_alone(
    projects: list[dict[str, object]],
    rules: list[dict[str, str]],
    run: Trajectory,
    verdict: Verdict,
    surface: Surface,
    place: str,
) -> None:
    question = Question(surface, run, place)
    with_lists = policy(project=projects, rule=rules).decide(verdict, question)
    without = policy(project=[one | {"allow": []} for one in projects], rule=rules).decide(verdict, question)
    if isinstance(verdict, Unreadable):
        assert with_lists == without
    else:
        ruled = policy(project=[{"path": "/", "allow": ["exec", "read", "send_mail"]}], rule=rules)
        assert with_lists in (without, ruled.decide(verdict, Question(surface, run, "/")))


def test_the_innermost_project_says_last_and_the_outer_ones_still_allow() -> None:
    found = policy(
        setting={"general": {"tool_call": {"block_at": 0.2}}},
        project=[
            {"path": "/w/a/b", "tool_call": {"block_at": 0.9}},
            {"path": "/w", "tool_call": {"block_at": 0.6, "ask_at": 0.5}, "allow": ["exec"]},
        ],
    )
    decided = {place: found.decide(Unsafe(0.7, READING), within(place, "rm")) for place in ("/", "/w/a", "/w/a/b/c")}
    assert [type(decision) for decision in decided.values()] == [Block, Block, Ask]
    assert found.decide(Unsafe(1.0, READING), within("/w/a/b/c")) == Allow()


@given(st.text(max_size=30))
def test_any_path_is_in_a_project_or_in_none(path: str) -> None:
    place = folder(path)
    assert place is None or (place.is_absolute() and path.startswith("/"))
    policy(project=[SITE]).decide(Unsafe(0.9, READING), within(path))


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
        ("[[project]]\nallow = ['read']", "project.0.path"),
        ("[[project]]\npath = 'site'", "absolute path"),
        ("[[project]]\npath = '~/site'", "absolute path"),
        ("[[project]]\npath = '/home/../site'", "absolute path"),
        ("[[project]]\npath = '/w'\nallow = ['*']", "project.0.allow.0"),
        ("[[project]]\npath = '/w'\nallow = ['a*b']", "project.0.allow.0"),
        ("[[project]]\npath = '/w'\nallow = 'read'", "project.0.allow"),
        ("[[project]]\npath = '/w'\n[[project]]\npath = '/w/'", "one section"),
        ("[reply]\nask_at = 0.5\n[[project]]\npath = '/w'\n[project.reply]\nblock_at = 0.4", "general, /w"),
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
    assert found.decide(verdict, Question(Surface.TOOL_CALL, RUN)) == Allow()

    written(path, "[tool_call]\nblock_at = 0.2\n", 2)
    strict = found.decide(verdict, Question(Surface.TOOL_CALL, RUN))
    assert isinstance(strict, Block)
    assert not found.fault

    caplog.clear()
    written(path, "[tool_call]\nblock_at = 2\n", 3)
    assert found.decide(verdict, Question(Surface.TOOL_CALL, RUN)) == strict
    assert "tool_call.block_at" in found.fault
    assert [record.levelno for record in caplog.records] == [logging.ERROR]

    path.unlink()
    assert found.decide(verdict, Question(Surface.TOOL_CALL, RUN)) == strict
    assert "No such file" in found.fault

    written(path, "", 4)
    assert found.decide(verdict, Question(Surface.TOOL_CALL, RUN)) == Allow()
    assert not found.fault
