"""AgentDoG and its kin: six spellings of an action, and labels that stay labels."""

import pytest

from gelert.core.example import Gold
from gelert.core.trajectory import Role
from gelert.guard.formats.actions import parsed
from tests.guard.formats.reading import roles, run, step_with, taken
from tests.guard.formats.samples import agentdog

CALLS = [
    ('{"name": "pay", "arguments": {"to": "Ann"}}', "pay", {"to": "Ann"}),
    ('{"name": "pay", "arguments": "{\\"to\\": 1}"}', "pay", {"to": 1}),
    ("pay{'to': 'Ann', 'now': True}", "pay", {"to": "Ann", "now": True}),
    ('pay\nAction Input: {"to": "Ann"}', "pay", {"to": "Ann"}),
    ('pay: {"to": "Ann"}\n', "pay", {"to": "Ann"}),
    ("pay(to='Ann', sum=3)", "pay", {"to": "Ann", "sum": 3}),
    ("pay()", "pay", {}),
]


@pytest.mark.parametrize(("action", "name", "arguments"), CALLS)
def test_an_action_is_read_as_a_call(action: str, name: str, arguments: dict[str, object]) -> None:
    call = parsed(action).call
    assert call is not None
    assert (call.name, call.parsed()) == (name, arguments)


MESSAGES = [
    ("Final Answer: All is paid.", " All is paid."),
    ("Complete{'response': 'All is paid.'}", "All is paid."),
    ('Complete{"response": "All is paid."}', "All is paid."),
    ("Complete{All is paid.}", "{All is paid.}"),
    ('{"name": "Complete", "arguments": {"response": "All is paid."}}', "All is paid."),
    (" The file (a list) is there.", " The file (a list) is there."),
]


@pytest.mark.parametrize(("action", "text"), MESSAGES)
def test_an_action_is_read_as_a_message(action: str, text: str) -> None:
    assert (parsed(action).text, parsed(action).call) == (text, None)


def test_arguments_that_are_neither_json_nor_python_stay_text() -> None:
    call = parsed("pay{to Ann, it's due}").call
    assert call is not None
    assert call.arguments == "{to Ann, it's due}"


def test_arguments_are_never_run() -> None:
    call = parsed("pay{'to': __import__('os').getcwd()}").call
    assert call is not None
    assert "__import__" in call.arguments


def test_the_profile_is_the_system_step() -> None:
    assert roles(run(agentdog())) == "suata"


def test_an_empty_profile_is_no_step() -> None:
    made = agentdog()
    assert roles(run({**made, "profile": ""})) == "uata"


def test_a_thought_with_an_empty_action_is_what_the_agent_said() -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "agent", "thought": "Hello, Ann.", "action": ""}]
    assert run({"contents": [turns]}).steps[1].text == "Hello, Ann."


def test_labels_become_gold() -> None:
    gold = taken(agentdog()).gold
    assert gold is not None
    assert (gold.unsafe, gold.diagnosis.risk_source, gold.reason) == (
        True,
        "indirect_prompt_injection",
        "secret_reason",
    )


def test_a_label_that_no_leaf_bears_is_kept_as_an_attribute() -> None:
    gold = taken(agentdog()).gold
    assert gold is not None
    assert dict(gold.attributes) == {"failure_mode": "unknown mode"}


def test_the_group_is_the_request_with_white_space_folded() -> None:
    gold = taken(agentdog()).gold
    assert gold is not None
    assert gold.group == "Please pay tok_user"


def test_r_judges_goal_is_no_part_of_the_run() -> None:
    made = agentdog()
    assert run({**made, "goal": "Judge the following."}) == run(made)


def test_a_record_without_labels_has_no_gold() -> None:
    assert (
        taken({"trajectory": [{"role": "user", "content": "hi"}, {"role": "agent", "content": "hello"}]}).gold is None
    )


def test_asse_benchs_own_labels_are_attributes() -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "agent", "thought": "", "action": "look()"}]
    record = {"contents": [turns], "label": 0, "risk_type": "harm", "ambiguous": 1, "risk_description": "why"}
    expected = Gold(unsafe=False, group="hi", reason="why", attributes=(("risk_type", "harm"), ("ambiguous", "1")))
    assert taken(record).gold == expected


def test_a_tools_description_is_kept_as_it_was_shown() -> None:
    assert run(agentdog()).tools[0].description == "Pays tok_tool"


def test_a_step_knows_where_it_stood() -> None:
    step = step_with(run(agentdog()), "tok_result")
    assert (step.role, step.provenance.pointer) == (Role.TOOL, "/contents/0/2")
