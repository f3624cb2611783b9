"""Policy: no verdict never passes in silence, and more risk never means less caution."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gelert.core.decision import Allow, Ask, Block, strictest
from gelert.core.verdict import Reading, Safe, Unreadable, Unsafe, Verdict
from gelert.guard.policy import OnFailure, Policy, Rule, Surface, decide

READING = Reading(1, 1)
RULES = st.builds(
    Rule,
    st.none() | st.floats(0, 1),
    st.none() | st.floats(0, 1),
    st.sampled_from(list(OnFailure)),
)


def verdict(risk: float) -> Verdict:
    return Unsafe(risk, READING) if risk >= 0.5 else Safe(risk, READING)


@pytest.mark.parametrize("surface", [Surface.TOOL_CALL, Surface.REPLY])
def test_without_a_verdict_tool_calls_and_replies_are_blocked_and_marked(surface: Surface) -> None:
    decision = decide(Unreadable("the model answered in prose"), surface)
    assert isinstance(decision, Block)
    assert decision.degraded


@given(RULES, st.sampled_from(list(Surface)))
def test_a_decision_without_a_verdict_is_always_marked_degraded(rule: Rule, surface: Surface) -> None:
    policy = Policy(rule, rule, rule)
    assert decide(Unreadable("timeout"), surface, policy).degraded
    assert not decide(Safe(0.1, READING), surface, policy).degraded


@given(RULES, st.floats(0, 1), st.floats(0, 1))
def test_more_risk_never_gives_a_weaker_kind_of_decision(rule: Rule, a: float, b: float) -> None:
    order = (Allow, Ask, Block)
    low, high = sorted((a, b))
    policy = Policy(tool_call=rule)
    ranks = [order.index(type(decide(verdict(r), Surface.TOOL_CALL, policy))) for r in (low, high)]
    assert ranks[0] <= ranks[1]


def test_the_default_blocks_what_the_guard_calls_unsafe() -> None:
    assert decide(Unsafe(0.9, READING), Surface.TOOL_CALL) == Block("risk 0.90 on tool_call")
    assert decide(Safe(0.2, READING), Surface.REPLY) == Allow()


def test_an_operator_may_ask_before_blocking() -> None:
    policy = Policy(tool_call=Rule(block_at=0.9, ask_at=0.3))
    assert decide(verdict(0.4), Surface.TOOL_CALL, policy) == Ask("risk 0.40 on tool_call")
    assert strictest(decide(verdict(0.95), Surface.TOOL_CALL, policy), Allow()) == Block("risk 0.95 on tool_call")
