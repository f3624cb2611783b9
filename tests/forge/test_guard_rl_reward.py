"""What answers of the fine contract are worth, against cases worked by hand and against hostile ones."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gelert.core.taxonomy import Axis, Diagnosis, builtin, selectable
from gelert.forge.guard_rl_reward import AXES, AxisReward, Completion, named, read, rewards

RIGHT = {
    Axis.FAILURE_MODE: "action_scope_overreach",
    Axis.HARM: "functional_and_opportunity_harm",
    Axis.RISK_SOURCE: "indirect_prompt_injection",
}
REASONING = "It deleted more than it was asked to, because a web page told it so."
LINES = (
    "Failure Mode: Action Scope Overreach",
    "Risk Consequence: Functional and Opportunity Harm",
    "Risk Source: Indirect Prompt Injection",
)
GOOD = "\n".join([f"<Analysis>{REASONING}</Analysis>", *LINES])


def vector(text: str, *, cut: bool = False, least_words: int = 8) -> list[float]:
    """The published vector of one answer, as the trainer gets it."""
    columns: dict[str, Any] = {axis.value: [slug] for axis, slug in RIGHT.items()}
    said: list[Completion] = [[{"role": "assistant", "content": text}]]
    return [one(said, cut=[cut], **columns)[0] for one in rewards(builtin(), least_words)]


def test_the_vector_is_failure_mode_then_harm_then_risk_source() -> None:
    assert [one.__name__ for one in rewards(builtin(), 8)] == ["failure_mode", "real_world_harm", "risk_source"]


@pytest.mark.parametrize(
    ("text", "worth"),
    [
        (GOOD, [1, 1, 1]),
        (f"<think>Who told it?</think>{GOOD}", [1, 1, 1]),
        (GOOD.replace("Action Scope", "action_scope"), [1, 1, 1]),
        (GOOD.replace("Indirect", "Direct"), [1, 1, 0]),
        (GOOD.replace("Functional and Opportunity", "Physical and Health"), [1, 0, 1]),
        (GOOD.replace(LINES[0], "Failure Mode: Something Else"), [0, 1, 1]),
        (GOOD.replace(REASONING, ""), [0, 0, 0]),
        (GOOD.replace(REASONING, "so " * 50), [0, 0, 0]),
        ("\n".join(LINES), [0, 0, 0]),
        (GOOD.replace(LINES[2], ""), [0, 0, 0]),
        (f"{GOOD}\nRisk Source: Direct Prompt Injection", [0, 0, 0]),
        (GOOD.replace("</Analysis>", ""), [0, 0, 0]),
        (f"<think>{GOOD}", [0, 0, 0]),
        ("", [0, 0, 0]),
    ],
)
def test_an_answer_earns_what_the_parser_reads_and_only_with_reasons(text: str, worth: list[float]) -> None:
    assert vector(text) == worth


def test_an_answer_that_was_cut_earns_nothing() -> None:
    assert vector(GOOD, cut=True) == [0, 0, 0]


def test_the_least_number_of_different_words_is_exact() -> None:
    words = len(set(REASONING.lower().replace(",", "").replace(".", "").split()))
    assert vector(GOOD, least_words=words) == [1, 1, 1]
    assert vector(GOOD, least_words=words + 1) == [0, 0, 0]


def test_a_category_that_is_none_is_out_of_form_but_the_others_count() -> None:
    said = read(GOOD.replace(LINES[0], "Failure Mode: Something Else"), builtin(), cut=False, least_words=8)
    assert (said.in_form, said.counts) == (False, True)
    assert said.diagnosis == Diagnosis("indirect_prompt_injection", None, "functional_and_opportunity_harm")


@pytest.mark.parametrize(
    ("lines", "count"),
    [
        ("Risk Source: Direct Prompt Injection", 1),
        ("Risk Source: Direct Prompt Injection, or Indirect Prompt Injection", 2),
        ("Risk Source: Direct Prompt Injection\nRisk Source: direct prompt injection", 1),
        ("Risk Source: none of these", 0),
    ],
)
def test_hedging_is_counted_after_the_analysis_only(lines: str, count: int) -> None:
    text = f"<Analysis>Not a Tool Description Injection.</Analysis>\n{lines}"
    assert named(text, Axis.RISK_SOURCE, builtin()) == count


def test_no_category_counts_for_two() -> None:
    leaves = selectable(builtin().leaves)
    counts = [named(leaf.name, leaf.axis, builtin()) for leaf in leaves]
    assert counts == [1] * 47


def test_accuracy_hedging_and_form_are_logged_over_all_answers() -> None:
    logged: dict[str, float] = {}
    hedged = f"{GOOD}\nRisk Source: Direct Prompt Injection"
    reward = AxisReward(Axis.RISK_SOURCE, builtin(), 8)
    reward(
        [GOOD, hedged, "", GOOD],
        cut=[False, False, False, True],
        log_metric=logged.__setitem__,
        risk_source=[RIGHT[Axis.RISK_SOURCE]] * 4,
    )
    assert logged == {"accuracy/risk_source": 0.25, "over_labelled/risk_source": 0.25, "in_form": 0.25}


PIECES = st.sampled_from(["<Analysis>", "</Analysis>", "<think>", "</think>", *LINES, REASONING, "\x00", "\ud800", ":"])


@given(st.one_of(st.text(), st.lists(st.one_of(PIECES, st.text(max_size=5))).map("\n".join)), st.booleans())
def test_no_answer_breaks_a_reward(text: str, cut: bool) -> None:  # noqa: FBT001  # a drawn value
    assert set(vector(text, cut=cut)) <= {0.0, 1.0}
    assert all(named(text, axis, builtin()) >= 0 for axis in AXES)


@pytest.mark.parametrize("completion", [[], [{"role": "assistant"}], [{"role": "assistant", "content": None}]])
def test_a_completion_without_words_earns_nothing(completion: Completion) -> None:
    reward = AxisReward(Axis.HARM, builtin(), 0)
    assert reward([completion], cut=[False], real_world_harm=[RIGHT[Axis.HARM]]) == [0.0]
