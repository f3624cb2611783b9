"""Demonstrations as tokens: the very ones that a model gets and gives in play, and a label for what it says alone."""

from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest

from gelert.backends.base import Answer
from gelert.backends.local_chat import opening
from gelert.backends.scripted import ScriptedBackend
from gelert.core.example import Refusal
from gelert.core.trajectory import Role, Step, ToolCall, Trajectory
from gelert.forge.agent_train_lessons import MOST_TURNS, UNLEARNT, Lesson, conversation, lessons
from gelert.lm.model import LanguageModel, load
from gelert.worlds.catalogue import catalogue
from gelert.worlds.episode import Episode
from gelert.worlds.model_agent import play
from gelert.worlds.tasks import begin, task
from gelert.worlds.toolcalls import Form
from tests.forge.agent_train import runs, tiny

EMPTY_THOUGHT = "<think>\n\n</think>\n\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load(tiny(tmp_path_factory.mktemp("tiny") / "model"), layers=1)


@pytest.fixture
def thinking(tmp_path: Path) -> LanguageModel:
    """Its template opens an answer with a thought that it does not tell later."""
    found = load(tiny(tmp_path / "thinking"), layers=1)
    plain = str(found.tokenizer.chat_template)
    found.tokenizer.chat_template = plain.replace("<|im_start|>assistant\n", f"<|im_start|>assistant\n{EMPTY_THOUGHT}")
    assert found.tokenizer.chat_template != plain
    return found


def taught(run: Trajectory, model: LanguageModel, form: Form = Form.HERMES, most: int = 8000) -> list[Lesson]:
    found = lessons(run, form, model, most)
    assert isinstance(found, list), found
    return found


def spans(lesson: Lesson) -> list[tuple[int, int]]:
    """Where what is learnt begins and ends."""
    places = groupby(range(len(lesson.labels)), key=lambda at: lesson.labels[at] != UNLEARNT)
    whole = [list(part) for learnt, part in places if learnt]
    return [(part[0], part[-1] + 1) for part in whole]


@pytest.mark.parametrize("run", runs(), ids=lambda run: run.trajectory_id)
def test_exactly_what_the_agent_says_is_learnt_with_the_token_that_ends_it(
    run: Trajectory, model: LanguageModel
) -> None:
    (lesson,) = taught(run, model)
    said = [one.content for one in conversation(run, Form.HERMES) if one.role == "assistant"]
    assert [model.decode(lesson.tokens[start:end]) for start, end in spans(lesson)] == [f"{s}<|im_end|>" for s in said]
    assert all(label in (UNLEARNT, token) for token, label in zip(lesson.tokens, lesson.labels, strict=True))


@pytest.mark.parametrize("form", list(Form))
@pytest.mark.parametrize("number", range(5))
def test_what_is_trained_is_what_is_played(number: int, form: Form, model: LanguageModel) -> None:
    run = runs()[number]
    (lesson,) = taught(run, model, form)
    said = [one.content for one in conversation(run, form) if one.role == "assistant"]
    backend = ScriptedBackend([Answer(text) for text in said])
    play(backend, form, Episode(begin(task(catalogue(["mail"]), run.trajectory_id))))
    assert len(backend.requests) == len(said) == len(spans(lesson))
    for request, (start, _) in zip(backend.requests, spans(lesson), strict=True):
        assert opening(model, request.messages) == list(lesson.tokens[:start])


def test_a_template_that_tells_earlier_turns_otherwise_gives_a_lesson_a_turn(thinking: LanguageModel) -> None:
    run = runs()[0]
    messages = conversation(run, Form.HERMES)
    turns = [at for at, one in enumerate(messages) if one.role == "assistant"]
    found = taught(run, thinking)
    assert len(found) == len(turns) > 1
    for lesson, at in zip(found, turns, strict=True):
        ((start, end),) = spans(lesson)
        assert opening(thinking, messages[:at]) == list(lesson.tokens[:start])
        assert thinking.decode(lesson.tokens[start:end]) == f"{messages[at].content}<|im_end|>"
        assert thinking.decode(lesson.tokens[:start]).endswith(EMPTY_THOUGHT)


def test_results_of_one_message_come_as_one(model: LanguageModel) -> None:
    calls = (ToolCall("a", "{}", "1"), ToolCall("b", "{}", "2"))
    results = (Step(Role.TOOL, "x", tool_name="a"), Step(Role.TOOL, "y", tool_name="b"))
    run = Trajectory((Step(Role.USER, "go"), Step(Role.AGENT, calls=calls), *results, Step(Role.AGENT, "done")))
    assert [one.role for one in conversation(run, Form.HERMES)] == ["system", "user", "assistant", "user", "assistant"]
    assert len(spans(taught(run, model)[0])) == 2


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (Step(Role.AGENT, calls=(ToolCall("send", "now"),)), "JSON objects as arguments"),
        (Step(Role.AGENT, '<tool_call>\n{"name": "send", "arguments": {}}\n</tool_call>'), "read as they were meant"),
        (Step(Role.AGENT, "</tool_call>"), "read as they were meant"),
        (Step(Role.AGENT, " spaces ", calls=(ToolCall("send"),)), "read as they were meant"),
        (Step(Role.USER, "and now?"), "messages of an agent"),
    ],
)
def test_a_message_that_play_would_take_otherwise_is_refused(step: Step, why: str, model: LanguageModel) -> None:
    found = lessons(Trajectory((Step(Role.USER, "go"), step)), Form.HERMES, model, 8000)
    assert isinstance(found, Refusal)
    assert why in found.reason


def test_a_run_that_is_too_long_is_refused_and_never_cut(model: LanguageModel) -> None:
    run = runs()[0]
    (lesson,) = taught(run, model)
    assert taught(run, model, most=len(lesson.tokens)) == [lesson]
    found = lessons(run, Form.HERMES, model, len(lesson.tokens) - 1)
    assert isinstance(found, Refusal)
    assert f"got {len(lesson.tokens)}" in found.reason


def test_a_run_of_more_turns_than_an_agent_has_in_play_is_refused(model: LanguageModel) -> None:
    said = [Step(Role.AGENT, "wait")] * MOST_TURNS
    assert taught(Trajectory((Step(Role.USER, "go"), *said)), model)
    found = lessons(Trajectory((Step(Role.USER, "go"), *said, said[0])), Form.HERMES, model, 8000)
    assert isinstance(found, Refusal)
    assert f"{MOST_TURNS} turns" in found.reason


def test_markers_of_the_chat_form_in_what_tools_say_stay_text(model: LanguageModel) -> None:
    run = runs()[0]
    steps = tuple(replace(step, text="<|im_end|>") if step.role is Role.TOOL else step for step in run.steps)
    (lesson,) = taught(replace(run, steps=steps), model)
    ends = [token for token in lesson.tokens if token == model.tokenizer.eos_token_id]
    assert len(ends) == len(conversation(run, Form.HERMES))
