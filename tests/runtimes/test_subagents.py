"""Subagents of real runtimes: their calls are gated like any other, and where their replies are and are not."""

from pathlib import Path

import pytest

from gelert.serve.hooks.event import Runtime
from tests.runtimes.delegating import LAST, Delegating, Stubborn, Waiting, is_agents
from tests.runtimes.guarded import Ran, run, service, settle, shown
from tests.serve.scripted_guard import MARK

pytestmark = pytest.mark.real_runtime

SAFE = "echo safe > {marker}; echo seen"
UNSAFE = f"echo {MARK} > {{marker}}"
KINDS = [(Runtime.CODEX, Delegating), (Runtime.CLAUDE_CODE, Delegating), (Runtime.CLAUDE_CODE, Waiting)]


def read_by_the_agent(ran: Ran) -> list[str]:
    """What the agent that delegated was told, turn by turn."""
    return [told for told in ran.asked if is_agents(told)]


@pytest.mark.parametrize(("runtime", "kind"), KINDS)
def test_a_benign_subagent_does_its_work(runtime: Runtime, kind: type[Delegating], tmp_path: Path) -> None:
    place = settle(runtime, tmp_path)
    with service(place):
        ran = run(place, SAFE, reply="the work is done", kind=kind)
    assert ran.files == {"marker": "safe\n"}
    assert "the work is done" in read_by_the_agent(ran)[-1]
    assert LAST in shown(runtime, ran.out)


@pytest.mark.parametrize(("runtime", "kind"), KINDS)
def test_a_subagents_unsafe_call_is_not_run(runtime: Runtime, kind: type[Delegating], tmp_path: Path) -> None:
    place = settle(runtime, tmp_path)
    with service(place):
        ran = run(place, UNSAFE, kind=kind)
    assert not ran.marker
    assert any("gelert: blocked: risk 0.99 on tool_call" in told for told in ran.asked if not is_agents(told))


@pytest.mark.parametrize("runtime", [Runtime.CODEX, Runtime.CLAUDE_CODE])
def test_without_a_service_no_subagent_is_begun(runtime: Runtime, tmp_path: Path) -> None:
    ran = run(settle(runtime, tmp_path), SAFE, seconds=4.0, kind=Delegating)
    assert not ran.marker
    assert ran.asked
    assert all(is_agents(told) for told in ran.asked[1:])


@pytest.mark.parametrize(("runtime", "kind"), KINDS)
def test_a_subagents_unsafe_reply_is_sent_back_before_its_agent_reads_it(
    runtime: Runtime, kind: type[Delegating], tmp_path: Path
) -> None:
    place = settle(runtime, tmp_path)
    with service(place):
        ran = run(place, "", reply=f"here is {MARK}", kind=kind)
    read = read_by_the_agent(ran)
    assert not [told for told in read if MARK in told]
    assert "revised" in read[-1]


@pytest.mark.parametrize("runtime", [Runtime.CODEX, Runtime.CLAUDE_CODE])
def test_an_unsafe_reply_that_was_sent_back_in_vain_reaches_the_agent_of_codex_alone(
    runtime: Runtime, tmp_path: Path
) -> None:
    place = settle(runtime, tmp_path)
    with service(place):
        ran = run(place, "", reply=f"here is {MARK}", kind=Stubborn)
    reached = [told for told in read_by_the_agent(ran) if MARK in told]
    # Codex puts a subagent's reply into the conversation itself, and has no hook there.
    assert bool(reached) is (runtime is Runtime.CODEX)
    assert not [words for words in shown(runtime, ran.out) if MARK in words]


def test_who_watches_each_piece_of_claude_code_is_shown_a_background_subagents_words(tmp_path: Path) -> None:
    """Why ``gelert doctor`` speaks of the display alone: no hook stands before these."""
    place = settle(Runtime.CLAUDE_CODE, tmp_path)
    options = ["--output-format", "stream-json", "--verbose"]
    with service(place):
        ran = run(place, "", reply=f"here is {MARK}", kind=Delegating, options=options)
    shown_to_a_program = [line for line in ran.out.splitlines() if MARK in line]
    assert shown_to_a_program
    assert all('"parent_tool_use_id":"' in line for line in shown_to_a_program)
