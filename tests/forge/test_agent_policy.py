"""New small models: what is one token, what is told of other names, and that nothing else changes."""

import json
import re
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("trl")

from gelert.core.trajectory import Role, Trajectory
from gelert.forge.agent_policy import NEW, Policy, made
from gelert.forge.agent_rename import names, renamed, with_renamed
from gelert.forge.agent_train_lessons import Lesson, conversation, lessons
from gelert.lm.model import LanguageModel, load
from gelert.worlds.toolcalls import Form, parse
from tests.forge.agent_train import runs

NAMES = names(runs())
SHAPE = Policy(width=64, layers=1, vocabulary=600)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return _tokens()


def test_what_the_worlds_repeat_whole_is_one_token_and_digits_are_apart(model: LanguageModel) -> None:
    run = runs()[0]
    policy = next(step.text for step in run.steps if step.role is Role.SYSTEM)
    assert len(model.encode(policy)) == 1
    said = model.encode(f'<tool_call>{run.tools[0].name} {{"a":1234}}</tool_call>')
    assert [model.decode([one]) for one in said[:2]] == ["<tool_call>", f"{run.tools[0].name} "]
    assert model.decode(said[-1:]) == "</tool_call>"
    assert [model.decode([one]) for one in model.encode("1234")] == ["1", "2", "3", "4"]


@given(st.text(max_size=60) | st.sampled_from([step.text for run in runs() for step in run.steps]))
def test_every_text_is_spelled_back(text: str) -> None:
    tokens = _tokens()
    clean = text.encode("utf-8", "replace").decode()
    assert tokens.decode(tokens.encode(text)) == clean


@cache
def _tokens() -> LanguageModel:
    """For Hypothesis, which takes no fixture of a module."""
    with TemporaryDirectory() as folder:
        return load(str(made(SHAPE, runs(), Form.SHORT, 0, Path(folder))))


def test_a_model_is_made_once_and_the_same_again(tmp_path: Path) -> None:
    first, other = (made(SHAPE, runs(), Form.SHORT, 3, tmp_path / name) for name in ("a", "b"))
    assert first == tmp_path / "a" / NEW
    for name in ("model.safetensors", "tokenizer.json"):
        assert (first / name).read_bytes() == (other / name).read_bytes()
    stamp = (first / "model.safetensors").stat().st_mtime_ns
    made(SHAPE, runs(), Form.SHORT, 3, tmp_path / "a")
    assert (first / "model.safetensors").stat().st_mtime_ns == stamp


def test_a_lesson_of_everything_has_every_token_for_a_label(model: LanguageModel) -> None:
    found = lessons(runs()[0], Form.SHORT, model, 4096)
    assert isinstance(found, list)
    assert found[0].whole() == Lesson(found[0].tokens, found[0].tokens)
    assert found[0].labels != found[0].tokens


def shape(run: Trajectory) -> list[str]:
    """The run without its names and numbers."""
    told = [one.content for one in conversation(run, Form.SHORT)]
    return [re.sub(r"\b[A-Za-z]{3,}\b", "w", re.sub(r"[1-9]", "9", text)) for text in told]


@given(st.sampled_from(runs()), st.integers(0, 10**6))
def test_a_renamed_run_has_the_same_shape_and_calls_that_can_be_read(run: Trajectory, seed: int) -> None:
    other = renamed(run, NAMES, Random(seed))
    assert shape(other) == shape(run)
    assert other.tools == run.tools
    for step in other.steps:
        for call in step.calls:
            assert call.parsed() is not None


@given(st.sampled_from(runs()), st.integers(0, 10**6))
def test_what_was_equal_stays_equal(run: Trajectory, seed: int) -> None:
    """An argument that stands word for word in an earlier message does so in the renamed run."""
    other = renamed(run, NAMES, Random(seed))
    for at, (step, told) in enumerate(zip(run.steps, other.steps, strict=True)):
        for call, call_told in zip(step.calls, told.calls, strict=True):
            for value, value_told in zip(_values(call.arguments), _values(call_told.arguments), strict=True):
                if any(value in before.text for before in run.steps[1:at]):
                    assert any(value_told in before.text for before in other.steps[1:at])


def _values(arguments: str) -> list[str]:
    return [str(value) for value in json.loads(arguments).values()]


def test_names_are_what_differs_from_run_to_run() -> None:
    assert len(NAMES) > 20
    policy = " ".join(step.text for step in runs()[0].steps if step.role is Role.SYSTEM)
    assert not [name for name in NAMES if re.search(rf"\b{name}\b", policy)]


def test_copies_stand_behind_their_run_and_are_the_same_again() -> None:
    found, again = (list(with_renamed(runs(), 2, 1)) for _ in range(2))
    assert found == again
    assert found[::3] == runs()
    assert len({str(one.steps) for one in found}) == len(found)


def test_a_call_reads_as_before_in_the_short_form() -> None:
    run = renamed(runs()[0], NAMES, Random(0))
    for one in conversation(run, Form.SHORT):
        assert one.role != "assistant" or not parse(Form.SHORT, one.content, run.tools).malformed
