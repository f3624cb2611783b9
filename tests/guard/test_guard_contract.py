"""One suite for every kind of guard: what it must answer whatever it is made of."""

from collections.abc import Callable

import pytest

from gelert.backends.scripted import ScriptedBackend
from gelert.core.trajectory import Trajectory
from gelert.core.verdict import Safe, Unreadable, Unsafe
from gelert.guard.endpoint import EndpointGuard
from gelert.guard.guard import Guard
from tests.guard.test_adapter import guard as adapter_guard
from tests.guard.test_cascade import cascade
from tests.guard.tiny import run, tiny_guard

RUN = run("tidy up", "rm -rf /data", "done")

SURE: dict[str, Callable[[], Guard]] = {
    "head": lambda: tiny_guard(threshold=1e-9),
    "adapter": lambda: adapter_guard(threshold=1e-9),
    "adapter on all tokens": lambda: adapter_guard("all", threshold=1e-9),
    "endpoint": lambda: EndpointGuard(ScriptedBackend(["unsafe"] * 3), "agentdog-1.0-coarse"),
    "cascade": lambda: cascade(EndpointGuard(ScriptedBackend(["unsafe"] * 3), "agentdog-1.0-coarse")),
}
"""Guards that call everything unsafe."""

CALM: dict[str, Callable[[], Guard]] = {
    "head": lambda: tiny_guard(threshold=1 - 1e-9),
    "adapter": lambda: adapter_guard(threshold=1 - 1e-9),
    "adapter on all tokens": lambda: adapter_guard("all", threshold=1 - 1e-9),
    "endpoint": lambda: EndpointGuard(ScriptedBackend(["safe"] * 3), "agentdog-1.0-coarse"),
    "cascade": lambda: cascade(EndpointGuard(ScriptedBackend(["safe"] * 3), "agentdog-1.0-coarse")),
}
"""Guards that call everything safe."""


@pytest.mark.parametrize("kind", SURE)
def test_an_unsafe_verdict_carries_its_risk_and_what_was_read(kind: str) -> None:
    verdict = SURE[kind]().judge(RUN)
    assert isinstance(verdict, Unsafe)
    assert 0 <= verdict.risk <= 1
    assert verdict.reading.steps_read == verdict.reading.steps_total == len(RUN.steps)
    assert all(0 <= e.step < len(RUN.steps) for e in verdict.evidence)


@pytest.mark.parametrize("kind", CALM)
def test_a_safe_verdict_carries_its_risk_and_what_was_read(kind: str) -> None:
    verdict = CALM[kind]().judge(RUN)
    assert isinstance(verdict, Safe)
    assert 0 <= verdict.risk <= 1
    assert verdict.reading.complete


@pytest.mark.parametrize("kind", CALM)
def test_an_empty_run_is_unreadable_and_not_safe(kind: str) -> None:
    assert isinstance(CALM[kind]().judge(Trajectory(())), Unreadable)


@pytest.mark.parametrize("kind", CALM)
def test_the_same_run_is_judged_the_same_twice(kind: str) -> None:
    guard = CALM[kind]()
    assert guard.judge(RUN) == guard.judge(RUN)


@pytest.mark.parametrize("kind", CALM)
def test_a_guard_has_a_name_and_can_be_asked_at_least_one_at_a_time(kind: str) -> None:
    guard = CALM[kind]()
    assert guard.name
    assert guard.concurrency >= 1
