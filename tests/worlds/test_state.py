"""Forks never leak into each other: against plain dictionaries that are copied whole."""

import copy

from hypothesis import given
from hypothesis import strategies as st

from gelert.worlds.state import DEEPEST, NO_TAINTS, Base, State

KEYS = st.sampled_from(["a", "b", "c", "d"])
MOVES = st.lists(
    st.tuples(st.sampled_from(["put", "drop", "fork"]), st.integers(0, 5), KEYS, st.integers(0, 9)), max_size=60
)
BASE = Base.of({"t": {"a": {"v": 1}, "b": {"v": 2}}}, frozenset())


def content(state: State) -> dict[str, object]:
    return {key: row["v"] for key, (row, _) in state.rows("t")}


@given(MOVES)
def test_any_number_of_forks_are_as_independent_as_copies(moves: list[tuple[str, int, str, int]]) -> None:
    states, plain = [State(BASE)], [{"a": 1, "b": 2}]
    for move, which, key, value in moves:
        at = which % len(states)
        match move:
            case "put":
                states[at].put("t", key, ({"v": value}, NO_TAINTS))
                plain[at][key] = value
            case "drop":
                states[at].drop("t", key)
                plain[at].pop(key, None)
            case _:
                states.append(states[at].fork())
                plain.append(copy.deepcopy(plain[at]))
        assert [content(state) for state in states] == plain
    for state, wanted in zip(states, plain, strict=True):
        assert {key: state.get("t", key) is not None for key in "abcd"} == {key: key in wanted for key in "abcd"}


@given(MOVES)
def test_the_diff_is_what_became_other_since_the_fork(moves: list[tuple[str, int, str, int]]) -> None:
    start = State(BASE)
    state, before = start.fork(), {"a": 1, "b": 2}
    for move, _, key, value in moves:
        if move == "drop":
            state.drop("t", key)
        else:
            state.put("t", key, ({"v": value}, NO_TAINTS))
    after = content(state)
    assert {change.key for change in state.diff(start)} == {k for k in "abcd" if before.get(k) != after.get(k)}


def test_a_long_chain_of_forks_is_merged() -> None:
    state = State(BASE)
    for number in range(3 * DEEPEST):
        state.put("t", "x", ({"v": number}, NO_TAINTS))
        state = state.fork()
    assert content(state) == {"a": 1, "b": 2, "x": 3 * DEEPEST - 1}
    assert state._below is not None  # pyright: ignore[reportPrivateUsage]  # how deep it is shows nowhere else
    assert state._below.depth <= DEEPEST  # pyright: ignore[reportPrivateUsage]
