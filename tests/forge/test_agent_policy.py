"""New small models: what is one token, and that every text is spelled back."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("trl")

from gelert.core.trajectory import Role
from gelert.forge.agent_policy import NEW, Policy, made
from gelert.lm.model import LanguageModel, load
from gelert.worlds.toolcalls import Form
from tests.forge.agent_train import runs

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
