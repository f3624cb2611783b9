"""What is read of a growing log is what a fresh reading of the whole gives, and each byte of it is parsed once."""

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gelert.core.errors import InputError
from gelert.core.example import Example
from gelert.core.trajectory import Setting
from gelert.guard.formats import Limits, read
from gelert.serve.hooks.growing import Growing, run_of

LOGS = sorted((Path(__file__).resolve().parents[3] / "examples" / "logs").iterdir())
LIMITS = Limits()


def format_of(log: Path) -> str:
    return "codex" if log.name.startswith("codex") else "claude-code"


@given(st.sampled_from(LOGS), st.lists(st.floats(0, 1), max_size=4))
@settings(max_examples=30, deadline=None)
def test_however_a_log_grew_its_run_is_the_same(log: Path, cuts: list[float]) -> None:
    lines = log.read_bytes().splitlines(keepends=True)
    growing = Growing()
    before: list[object] = []
    for cut in [*sorted(cuts), 1.0]:
        found = list(growing.lines("log", b"".join(lines[: round(cut * len(lines))]), LIMITS))
        assert all(one is other for one, other in zip(before, found, strict=False))
        before = found
    (fresh,) = read(io.BytesIO(log.read_bytes()), format=format_of(log))
    assert isinstance(fresh, Example)
    run = run_of(before, format_of(log), fresh.trajectory.setting, LIMITS)
    assert run == run_of(before, format_of(log), fresh.trajectory.setting, LIMITS)
    assert (run.steps, run.tools, run.agent) == (fresh.trajectory.steps, fresh.trajectory.tools, fresh.trajectory.agent)


def test_a_log_that_was_changed_or_cut_is_read_anew() -> None:
    growing = Growing()
    growing.lines("log", b'{"n": 1}\n{"n": 2}\n', LIMITS)
    assert growing.lines("log", b'{"n": 7}\n{"n": 2}\n{"n": 3}\n', LIMITS) == [{"n": 7}, {"n": 2}, {"n": 3}]
    assert growing.lines("log", b'{"n": 7}\n', LIMITS) == [{"n": 7}]
    assert growing.lines("log", b"", LIMITS) == ()


def test_a_line_that_cannot_be_read_is_a_fault_each_time() -> None:
    growing = Growing()
    growing.lines("log", b'{"n": 1}\n', LIMITS)
    for bad in (b"{\n", b'{"n": 1, "n": 2}\n', b"\xff\n", b"[" * 200 + b"]" * 200 + b"\n"):
        for _ in range(2):
            with pytest.raises(InputError):
                growing.lines("log", b'{"n": 1}\n' + bad, LIMITS)


def test_what_is_kept_is_bounded_and_what_was_dropped_is_read_again() -> None:
    growing, raw = Growing(most_bytes=20), b'{"n": 1}\n'
    one, two, three = (growing.lines(path, raw, LIMITS) for path in ("one", "two", "three"))
    assert growing.lines("three", raw, LIMITS) is three
    assert growing.lines("two", raw, LIMITS) is two
    again = growing.lines("one", raw, LIMITS)
    assert again == one
    assert again is not one


@pytest.mark.parametrize("lines", [[{"n": 1}], [{"type": "user", "uuid": "1", "sessionId": "s"}]])
def test_lines_that_tell_no_run_are_refused(lines: list[object]) -> None:
    with pytest.raises(InputError, match="expected"):
        run_of(lines, "claude-code", Setting.GENERAL, LIMITS)
