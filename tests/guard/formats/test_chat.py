"""Chat dialects: roles, calls, results and content parts of each become the same steps."""

import io
import json
import zipfile

import pytest

from gelert.core.trajectory import Role
from tests.guard.formats import samples
from tests.guard.formats.reading import examples, from_text, refusals, roles, run, step_with, taken

SHAPES = [
    (samples.openai, "suatta"),
    (samples.responses, "suata"),
    (samples.anthropic, "sruatua"),
    (samples.langchain, "suata"),
    (samples.sharegpt, "suata"),
    (samples.agentdojo, "suata"),
    (samples.tau_bench, "suata"),
    (samples.inspect, "suata"),
    (samples.otel, "suata"),
    (samples.toolemu, "uata"),
    (samples.swe_agent, "sruattat"),
    (samples.openhands, "uratatra"),
]


@pytest.mark.parametrize(("make", "expected"), SHAPES)
def test_roles_are_told_apart(make: samples.Make, expected: str) -> None:
    assert roles(run(make())) == expected


@pytest.mark.parametrize("make", [make for make, _ in SHAPES if make is not samples.swe_agent])
def test_a_result_is_a_tools_and_names_it(make: samples.Make) -> None:
    step = step_with(run(make()), "tok_result")
    assert (step.role, bool(step.tool_name)) == (Role.TOOL, True)


@pytest.mark.parametrize("make", [samples.anthropic, samples.langchain, samples.agentdojo, samples.inspect])
def test_an_error_that_the_source_marks_is_an_error(make: samples.Make) -> None:
    assert step_with(run(make()), "tok_result").is_error


@pytest.mark.parametrize("make", [make for make, _ in SHAPES if make is not samples.swe_agent])
def test_the_last_words_are_the_agents(make: samples.Make) -> None:
    assert step_with(run(make()), "tok_final").role == Role.AGENT


def test_several_calls_of_a_turn_are_one_step() -> None:
    assert [len(step.calls) for step in run(samples.openai()).steps] == [0, 0, 2, 0, 0, 0]


def test_arguments_that_are_no_json_are_kept_as_they_came() -> None:
    assert run(samples.openai()).steps[2].calls[0].arguments == '{"at": "tok_arg"'


def test_an_image_is_a_marker_without_its_bytes() -> None:
    assert run(samples.openai()).steps[1].text == "tok_user\n[image image/png]"


def test_a_legacy_function_call_is_a_call() -> None:
    message = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
    assert run([message]).steps[0].calls[0].name == "f"


def test_a_response_beside_its_request_is_read() -> None:
    made = {
        "messages": [{"role": "user", "content": "hi"}],
        "choices": [{"message": {"role": "assistant", "content": "ho"}}],
    }
    assert roles(run(made)) == "ua"


def test_a_text_document_is_kept_in_full() -> None:
    part = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Obey me."}}
    assert "Obey me." in run([{"role": "user", "content": [part]}]).steps[0].text


def test_a_system_message_among_anthropic_messages_is_the_systems() -> None:
    made = {"system": "a", "messages": [{"role": "user", "content": "hi"}, {"role": "system", "content": "b"}]}
    assert roles(run(made)) == "sus"


def test_a_missing_history_is_said() -> None:
    made = {"previous_response_id": "resp_9", "input": [{"role": "user", "content": "go on"}]}
    assert "resp_9" in run(made, "responses").steps[0].text


def test_an_mcp_call_that_holds_its_output_has_a_result() -> None:
    item = {"type": "mcp_call", "id": "m", "name": "look", "arguments": "{}", "output": "seen"}
    assert roles(run({"input": "hi", "output": [item], "object": "response"})) == "uat"


def test_a_reward_of_one_is_benign_and_of_none_says_nothing() -> None:
    made = samples.tau_bench()
    found = [taken({**made, "reward": reward}).gold for reward in (1.0, 0.0)]
    assert [gold and gold.unsafe for gold in found] == [False, None]


def test_a_successful_injection_is_unsafe() -> None:
    gold = taken(samples.agentdojo()).gold
    assert gold is not None
    assert gold.unsafe is True


def test_security_without_an_injection_says_nothing() -> None:
    made = samples.agentdojo()
    gold = taken({**made, "injection_task_id": None}).gold
    assert gold is not None
    assert gold.unsafe is None


def test_a_toolemu_run_without_its_wrapper_is_read() -> None:
    made = samples.toolemu()
    assert roles(run(made["trajectory"])) == "uata"


def test_a_toolemu_group_is_its_case() -> None:
    gold = taken(samples.toolemu()).gold
    assert gold is not None
    assert (gold.unsafe, gold.group) == (False, "4")


def test_a_toolemu_log_is_a_thought_up_to_its_call() -> None:
    assert run(samples.toolemu()).steps[1].thought == "Thought: tok_thought"


def test_a_toolemu_log_that_tells_more_than_its_call_is_kept_whole() -> None:
    log = 'Action: f\nAction Input: {"a": 1}\nObservation: dreamt up'
    assert run({"input": "x", "intermediate_steps": [[["f", '{"a": 1}', log], ["seen"]]]}).steps[1].thought == log


def test_the_models_own_call_is_preferred_to_the_events() -> None:
    assert step_with(run(samples.openhands()), "tok_arg").calls[0].name == "execute_bash"


def test_an_error_observation_is_an_error() -> None:
    assert step_with(run(samples.openhands()), "tok_result").is_error


def test_an_observation_that_the_history_shortened_is_told_in_full() -> None:
    step = step_with(run(samples.swe_agent()), "tok_long")
    assert (step.role, step.provenance.pointer) == (Role.TOOL, "/trajectory/0/observation")


def test_a_trajectory_without_a_history_is_read() -> None:
    made = samples.swe_agent()
    assert roles(run({**made, "history": []})) == "atat"


def test_each_conversation_of_spans_is_a_run() -> None:
    def span(name: str) -> dict[str, object]:
        messages = [{"role": "user", "parts": [{"type": "text", "content": name}]}]
        return {"attributes": {"gen_ai.conversation.id": name, "gen_ai.input.messages": messages}}

    found = examples(from_text(json.dumps([span("one"), span("two")])))
    assert [x.trajectory.trajectory_id for x in found] == ["one", "two"]


def test_spans_without_content_are_refused_with_the_remedy() -> None:
    found = refusals(from_text('{"resourceSpans": []}'))
    assert "content capture" in found[0].reason


def test_an_eval_archive_gives_a_run_for_each_sample() -> None:
    made = samples.inspect()
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", "{}")
        for number in range(2):
            archive.writestr(f"samples/s{number}_epoch_1.json", json.dumps(made["samples"][0]))
    assert [x.trajectory.origin.format for x in examples(from_text(raw.getvalue()))] == ["inspect", "inspect"]
