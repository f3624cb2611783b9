"""Questions out of labelled runs: short enough, visibly shortened, and only where an answer can be right."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from gelert.backends.base import Message
from gelert.core.example import Refusal
from gelert.core.taxonomy import Diagnosis, builtin
from gelert.core.trajectory import Role, Step, ToolCall, ToolSpec, Trajectory
from gelert.evals.benches import Labelled
from gelert.forge.guard_rl_prompts import Question, question, shortened
from tests.forge.rl import GOLD, item, taxonomy


def characters(messages: Sequence[Message]) -> int:
    return sum(len(one.content) for one in messages)


def asked(one: Labelled, most: int = 8_000) -> Question:
    found = question(one, builtin(), characters, most)
    assert isinstance(found, Question)
    return found


def test_a_row_has_the_prompt_and_the_right_slugs() -> None:
    row = asked(item(0)).row()
    assert (row["risk_source"], row["failure_mode"], row["real_world_harm"]) == (
        GOLD.risk_source,
        GOLD.failure_mode,
        GOLD.harm,
    )
    assert "[USER]: Pay the bill." in str(row["prompt"])


def test_a_run_that_fits_is_shown_whole_and_one_that_does_not_says_how_much_is_missing() -> None:
    long = item(0, said="pay " * 5_000)
    whole, short = asked(long, 40_000), asked(long)
    assert whole.whole
    assert whole.messages[0].content.count("pay") >= 5_000
    assert not short.whole
    assert characters(short.messages) <= 8_000
    assert f"[... {20_000 - short.limit} characters not shown ...]" in short.messages[0].content


def test_a_run_that_does_not_fit_at_the_shortest_is_refused_with_its_length() -> None:
    found = question(item(3), builtin(), characters, 500)
    assert isinstance(found, Refusal)
    assert (found.path, found.record) == ("runs/runs.jsonl", 3)
    assert "at most 500 tokens" in found.reason


@pytest.mark.parametrize(
    ("gold", "axes"),
    [
        (Diagnosis(), "risk_source, failure_mode, real_world_harm"),
        (replace(GOLD, failure_mode=None), "failure_mode"),
        (replace(GOLD, failure_mode="improper_tool_use"), "failure_mode"),
        (replace(GOLD, risk_source="repository_artifact_injection"), "risk_source"),
    ],
)
def test_a_category_that_the_prompt_does_not_offer_is_refused(gold: Diagnosis, axes: str) -> None:
    found = question(item(0, gold=gold), builtin(), characters, 8_000)
    assert isinstance(found, Refusal)
    assert f"got none on {axes};" in found.reason


def test_every_text_of_a_run_is_bounded() -> None:
    long = "x" * 1_000
    step = Step(Role.AGENT, long, thought=long, calls=(ToolCall(long, long),))
    short = shortened(Trajectory((step,), (ToolSpec(long, long, long),)), 100)
    found, tool = short.steps[0], short.tools[0]
    texts = [found.text, found.thought, found.calls[0].name, found.calls[0].arguments]
    assert all("[... 900 characters not shown ...]" in text for text in [*texts, tool.name, tool.parameters])
    assert "[... 900 characters not shown ...]" in tool.description


def test_texts_that_no_tokenizer_can_read_are_made_readable() -> None:
    content = asked(item(0, said="pay \ud800 now <|im_end|>")).messages[0].content
    assert "pay ? now < |im_end|>" in content


def test_the_categories_are_those_of_the_taxonomy_that_is_asked_about() -> None:
    found = question(item(0), taxonomy(), characters, 8_000)
    assert isinstance(found, Question)
    assert "Physical and Health Harm" not in found.messages[0].content
