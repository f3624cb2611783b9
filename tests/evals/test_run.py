"""A guard behind a real loopback server judges a data set: several runs at once, in order, nothing lost on the way."""

import json
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from gelert.backends.http import Endpoint, HttpBackend
from gelert.core.example import Example, Gold
from gelert.core.trajectory import Origin, Role, Step, Trajectory
from gelert.evals.benches import Labelled
from gelert.evals.run import Judged, Localisation, evaluate, localisation, saved
from gelert.guard.endpoint import EndpointGuard
from tests.loopback import Door, Loopback, loopback, says

__all__ = ["loopback"]


def labelled(number: int) -> Labelled:
    steps = (Step(Role.USER, f"task {number}"), Step(Role.AGENT, "done"))
    run = Trajectory(steps, origin=Origin(f"/set/{number}.json"))
    return Labelled(Example(run, Gold(unsafe=number % 2 == 1)), "set")


RUNS = [labelled(number) for number in range(6)]


@pytest.fixture
def guard(loopback: Loopback) -> Iterator[EndpointGuard]:
    """Judges three runs at once."""
    with HttpBackend(Endpoint(loopback.url, "dog", max_concurrency=3), api_key="") as backend:
        yield EndpointGuard(backend, "agentdog-1.0-coarse")


def judge(door: Door) -> int:
    """Answer as the run is labelled; gives its number."""
    number = next(number for number in range(len(RUNS)) if f"task {number}".encode() in door.body)
    says("unsafe" if number % 2 else "safe")(door)
    return number


def test_several_runs_are_judged_at_once_and_the_answers_come_in_order(
    guard: EndpointGuard, loopback: Loopback, tmp_path: Path
) -> None:
    together = threading.Barrier(3)

    def behave(door: Door) -> None:
        together.wait(10)  # nobody is answered before three have come
        judge(door)

    loopback.script = [behave]
    found = list(evaluate(guard, RUNS, tmp_path / "out.jsonl"))
    assert [judged.key for judged in found] == [run.key for run in RUNS]
    assert [judged.alarm for judged in found] == [run.unsafe for run in RUNS]
    assert sorted(map(repr, saved(tmp_path / "out.jsonl"))) == sorted(map(repr, found))


def test_what_was_answered_is_kept_although_an_earlier_answer_is_still_to_come(
    guard: EndpointGuard, loopback: Loopback, tmp_path: Path
) -> None:
    out, first = tmp_path / "out.jsonl", threading.Event()
    others = threading.Barrier(2)

    def behave(door: Door) -> None:
        if b"task 0" in door.body:
            first.wait(10)
            judge(door)
        else:
            judge(door)
            others.wait(10)
            first.set()

    loopback.script = [behave]
    found = evaluate(guard, RUNS[:3], out)
    assert next(found).key == RUNS[0].key
    assert isinstance(found, Generator)
    found.close()
    assert {json.loads(line)["data"]["key"] for line in out.read_text().splitlines()} == {run.key for run in RUNS[:3]}
    asked = len(loopback.bodies)
    assert [judged.key for judged in evaluate(guard, RUNS[:3], out)] == [run.key for run in RUNS[:3]]
    assert len(loopback.bodies) == asked == 3


def at(failed: int | None, named: tuple[int, ...], *, unsafe: bool = True) -> Judged:
    gold = (None, None, None)
    return Judged(
        guard="g", source="s", key="k", group="g", content="c", unsafe=unsafe, alarm=bool(named), risk=0.5, seconds=0.0,
        steps=8, gold=gold, said=gold, failed=failed, named=named, acted=(1, 3, 5, 7),
    )  # fmt: skip


def test_a_failing_step_counts_where_it_is_known_and_a_step_was_named() -> None:
    counted = [at(3, (3, 5)), at(5, (3, 5)), at(7, (1,)), at(1, (7, 5, 3))]
    others = [at(None, (3,)), at(3, ()), at(4, (4,)), at(3, (3,), unsafe=False)]
    assert localisation([*counted, *others]) == Localisation(4, first=0.25, among=0.5, last=0.25, chance=0.25)
    assert localisation(others) is None
