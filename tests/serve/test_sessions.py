"""What is kept of runs that are read on: bounded in number, in time and in bytes, the longest unused first."""

from gelert.core.trajectory import Role, Step, Trajectory
from gelert.core.verdict import Safe
from gelert.guard.words import TERMS
from gelert.serve.limits import Limits
from gelert.serve.sessions import BYTES_A_CHARACTER, Sessions
from tests.guard.tiny import run, tiny_guard
from tests.serve.scripted_guard import ResumableGuard

GUARD = tiny_guard()


def never() -> bool:
    return False


def saying(text: str) -> Trajectory:
    return Trajectory((Step(Role.AGENT, text),))


def test_runs_are_forgotten_where_their_bytes_are_too_many() -> None:
    guard = ResumableGuard()
    sessions = Sessions(guard, Limits(max_session_bytes=2 * (1_000 + 100 * BYTES_A_CHARACTER)))
    for key in "abc":
        sessions.verdict(key, saying(key * 100), never)
    assert len(sessions) == 2
    sessions.verdict("c", saying("c" * 100), never)
    assert guard.read == 3
    sessions.verdict("a", saying("a" * 100), never)
    assert guard.read == 4


def test_a_run_larger_than_the_bound_is_judged_and_not_kept() -> None:
    sessions = Sessions(ResumableGuard(), Limits(max_session_bytes=5_000))
    assert isinstance(sessions.verdict("a", saying("x"), never), Safe)
    assert isinstance(sessions.verdict("b", saying("x" * 1_000), never), Safe)
    assert len(sessions) == 0


def test_a_head_guards_session_says_what_it_keeps() -> None:
    short, long = GUARD.session(run("go")), GUARD.session(run("go"))
    for step in run("go", "ls").steps:
        short.append(step)
    for step in run("go", "ls " * 300).steps:
        long.append(step)
    numbers = 2 * GUARD.model.model.layers
    assert long.kept_bytes - short.kept_bytes >= 800 * numbers * 4
    assert short.kept_bytes > 4 * TERMS


def test_keys_and_values_count() -> None:
    keeps = GUARD.session(run("go")).kept_bytes
    room = Limits(max_session_bytes=3 * keeps)
    sessions = Sessions(GUARD, room)
    for number in range(8):
        sessions.verdict(str(number), run("go", "ls"), never)
    assert 1 <= len(sessions) < 4
