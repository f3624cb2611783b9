"""Decisions are a total order, and joining them is an algebra."""

from hypothesis import given
from hypothesis import strategies as st

from gelert.core.decision import Allow, Ask, Block, Decision, strictest

DECISIONS: st.SearchStrategy[Decision] = st.one_of(
    st.builds(Allow, st.booleans()),
    st.builds(Ask, st.text(), st.booleans()),
    st.builds(Block, st.text(), st.booleans()),
)


@given(DECISIONS, DECISIONS, DECISIONS)
def test_joining_is_associative(a: Decision, b: Decision, c: Decision) -> None:
    assert strictest(a, strictest(b, c)) == strictest(strictest(a, b), c)


@given(DECISIONS, DECISIONS)
def test_joining_is_commutative(a: Decision, b: Decision) -> None:
    assert strictest(a, b) == strictest(b, a)


@given(DECISIONS)
def test_joining_is_idempotent(a: Decision) -> None:
    assert strictest(a, a) == a


@given(st.lists(DECISIONS))
def test_a_block_is_never_outvoted(others: list[Decision]) -> None:
    assert isinstance(strictest(Block("no"), *others), Block)
