"""A model as the agent: what it says is read, done and told back, until a rule stops it."""

import json

import pytest

from gelert.backends.base import Answer
from gelert.backends.local_chat import LocalChat
from gelert.backends.scripted import ScriptedBackend
from gelert.worlds.catalogue import catalogue
from gelert.worlds.episode import Episode
from gelert.worlds.model_agent import Ending, Rules, play
from gelert.worlds.rewards import reward
from gelert.worlds.tasks import begin, sample, tasks
from gelert.worlds.toolcalls import Form
from tests.worlds.small import task


def call(name: str, **arguments: str) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def says(*texts: str) -> ScriptedBackend:
    return ScriptedBackend([Answer(text) for text in texts])


def episode() -> Episode:
    return Episode(begin(task()))


def test_a_model_that_calls_and_answers_reaches_the_goal() -> None:
    said = [
        call("list_letters"),
        "First I read it. " + call("read_letter", letter="l1"),
        call("send", to="Ada", text="By Monday."),
        "I have told Ada.",
    ]
    one = episode()
    backend = says(*said)
    found = play(backend, Form.HERMES, one)
    assert (found.ending, found.turns) == (Ending.ANSWERED, 4)
    assert reward(one).total == 1.0
    assert one.calls[1].said == "First I read it."
    assert "A-17" in backend.requests[2].messages[-1].content
    assert [message.role for message in backend.requests[0].messages] == ["system", "user"]


def test_two_unreadable_messages_in_a_row_end_it() -> None:
    one = episode()
    found = play(
        ScriptedBackend(["<tool_call>", call("list_letters"), "<tool_call>", "<tool_call>x"]), Form.HERMES, one
    )
    assert (found.ending, found.turns, found.malformed) == (Ending.MALFORMED, 4, 3)
    assert one.finished


def test_turns_are_bounded_and_a_silent_backend_is_a_value() -> None:
    one = episode()
    assert play(says(*[call("list_letters")] * 9), Form.HERMES, one, Rules(turns=3)).ending == Ending.TURNS
    other = episode()
    failed = play(says(), Form.HERMES, other)
    assert (failed.ending, other.finished) == (Ending.FAILED, True)
    assert failed.reason


@pytest.mark.real_model
@pytest.mark.long
def test_a_real_small_model_plays_twenty_tasks(real_model: str) -> None:
    backend = LocalChat.load(real_model, dtype="float32")
    every = [one for family in catalogue(["mail"]).values() for one in tasks(family)]
    played = 0
    for one in sample(every, 20, seed=0):
        run = Episode(begin(one))
        found = play(backend, Form.HERMES, run, Rules(turns=3, tokens=32))
        assert found.ending != Ending.FAILED
        assert run.finished
        assert 0.0 <= reward(run).total <= 1.0
        played += 1
    assert played == 20
