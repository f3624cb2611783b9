"""Codex, Claude Code and OpenClaw: what the runtime said is not what the user asked."""

import json

import pytest

from gelert.core.trajectory import Role, Setting
from gelert.guard.formats.fences import spans
from tests.guard.formats.reading import examples, from_text, lines, roles, run, step_with, taken, texts
from tests.guard.formats.samples import atbench_codex, claude_code, codex, openclaw


def event(kind: str, **payload: object) -> dict[str, object]:
    return {"timestamp": "t", "type": "event_msg", "payload": {"type": kind, **payload}}


def test_a_rollouts_roles_are_told_apart() -> None:
    assert roles(run(codex())) == "ssruatatar"


@pytest.mark.parametrize("token", ["tok_user", "tok_final"])
def test_what_an_event_repeats_is_told_once(token: str) -> None:
    assert step_with(run(codex()), token)


def test_a_rollout_of_events_alone_is_read() -> None:
    made = [
        event("user_message", message="yes"),
        event("exec_command_begin", call_id="c", command=["ls"]),
        event("exec_command_end", call_id="c", aggregated_output="files", exit_code=1),
        event("agent_message", message="done"),
        event("user_message", message="yes"),
        event("agent_message", message="done again"),
        event("task_complete", last_agent_message="done again"),
    ]
    assert roles(run(made)) == "uataua"


def completed(kind: str, **item: object) -> dict[str, object]:
    return event("item_completed", item={"type": kind, **item})


def test_a_rollout_of_completed_items_alone_is_read() -> None:
    made = [
        completed("UserMessage", id="1", content=[{"type": "text", "text": "yes"}]),
        completed("CommandExecution", id="c", command=["ls"], aggregated_output="files", exit_code=0),
        completed("AgentMessage", id="2", content=[{"type": "Text", "text": "done"}]),
        completed("UserMessage", id="3", content=[{"type": "text", "text": "yes"}]),
    ]
    assert roles(run(made)) == "uatau"


def test_a_message_told_as_event_and_as_completed_item_is_told_once() -> None:
    made = [event("user_message", message="hi"), completed("UserMessage", id="1", content="hi")]
    assert roles(run(made)) == "u"


def test_a_last_message_that_no_item_tells_is_told() -> None:
    made = [{"timestamp": "t", "type": "session_meta", "payload": {"id": "r"}}, event("user_message", message="hi")]
    assert texts(run([*made, event("task_complete", last_agent_message="bye")]), Role.AGENT) == ["bye"]


def test_shell_output_is_taken_out_of_its_wrapping() -> None:
    step = step_with(run(codex()), "tok_result")
    assert (step.text, step.is_error, step.tool_name) == ("tok_result", True, "exec_command")


def test_reasoning_joins_the_call_that_it_leads_to() -> None:
    step = step_with(run(codex()), "tok_arg")
    assert (step.thought, len(step.calls)) == ("tok_thought", 1)


def test_a_codex_step_points_at_its_line_and_time() -> None:
    step = step_with(run(codex()), "tok_final")
    assert (step.provenance.pointer, step.provenance.timestamp) == ("/12/payload", "2026-01-01T00:00:00Z")


def test_a_rollout_has_the_codex_setting() -> None:
    assert run(codex()).setting == Setting.CODEX


def test_a_rollout_of_one_line_is_read() -> None:
    assert roles(examples(from_text(json.dumps(event("user_message", message="hi"))))[0].trajectory) == "u"


def test_a_conversation_and_its_rollout_are_woven_into_one() -> None:
    assert roles(run(atbench_codex())) == "uata"


def test_a_conversation_without_a_rollout_is_read() -> None:
    made = atbench_codex()
    assert roles(run({**made, "codex_rollout": []})) == "uaa"


def test_is_safe_false_is_unsafe() -> None:
    gold = taken(atbench_codex()).gold
    assert gold is not None
    assert gold.unsafe is True


def test_one_message_over_several_lines_is_one_step() -> None:
    step = step_with(run(claude_code()), 'tok_says"')
    assert (step.thought, step.text, len(step.calls)) == ("tok_thought", "tok_says", 1)


def test_a_sidechain_is_marked_and_its_request_is_the_runtimes() -> None:
    step = step_with(run(claude_code()), 'tok_side"')
    assert (step.role, step.provenance.kind) == (Role.RUNTIME, "sidechain")


def test_a_transcript_that_is_all_sidechain_has_its_user() -> None:
    made = claude_code()
    side = [line for line in made if isinstance(line, dict) and line.get("isSidechain")]
    assert roles(examples(from_text(lines(side)))[0].trajectory) == "ua"


def test_a_line_that_stands_twice_is_read_once() -> None:
    made = claude_code()
    assert len(run([*made, made[-1]]).steps) == len(run(made).steps)


def test_a_message_id_used_again_in_a_later_turn_is_another_step() -> None:
    said = {"id": "m", "role": "assistant", "content": [{"type": "text", "text": "yes"}]}
    asked = {"role": "user", "content": "and?"}
    kinds = [("assistant", said), ("user", asked), ("assistant", said)]
    made = [{"type": k, "uuid": str(n), "sessionId": "s", "message": m} for n, (k, m) in enumerate(kinds)]
    assert roles(run(made)) == "aua"


def test_openclaw_roles_are_told_apart() -> None:
    assert roles(run(openclaw())) == "uatra"


def test_an_openclaw_result_names_its_call() -> None:
    step = step_with(run(openclaw()), "tok_result")
    assert (step.call_id, step.tool_name, step.is_error) == ("c1", "exec", True)


def test_openclaws_labels_become_gold() -> None:
    gold = taken(openclaw()).gold
    assert gold is not None
    assert (gold.unsafe, gold.attributes) == (False, (("defense_type", "defended"),))


def test_a_legacy_openclaw_session_is_one_run() -> None:
    made = openclaw()
    events = [{"type": "session", "version": 3, "id": "s", "cwd": "/"}, *made["trajectory"]["events"]]
    found = examples(from_text(lines(events)))
    assert [(x.trajectory.trajectory_id, roles(x.trajectory)) for x in found] == [("s", "uatra")]


def test_hook_messages_are_openclaws() -> None:
    made = openclaw()
    messages = [event["message"] for event in made["trajectory"]["events"]]
    assert run({"messages": messages}).setting == Setting.OPENCLAW


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", [False]),
        ("<system-reminder>a</system-reminder>\n\nask", [True, False]),
        ("ask\n<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>x<<<END_OPENCLAW_INTERNAL_CONTEXT>>>", [False, True]),
        ('<hook_prompt hook_run_id="1">no</hook_prompt>', [True]),
        ("ask <system-reminder>never closed", [False, True]),
    ],
)
def test_fences_part_the_runtimes_words_from_the_users(text: str, expected: list[bool]) -> None:
    found = spans(text)
    assert ([x.runtime for x in found], "".join(x.text for x in found)) == (expected, text)


def test_a_fence_in_a_tool_result_stays_the_tools() -> None:
    made = [{"role": "user", "content": "hi"}, {"role": "tool", "content": "<system-reminder>x</system-reminder>"}]
    assert roles(run(made)) == "ut"
