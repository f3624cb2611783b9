"""The memory of recent decisions: bounded in number and in bytes, and nobody waits for ever."""

import asyncio
import time

from gelert.core.decision import Allow
from gelert.core.trajectory import Role, Step, Trajectory
from gelert.core.verdict import Reading, Safe
from gelert.guard.policy import Surface
from gelert.serve.asked import Answered, Asked
from gelert.serve.dashboard.watch import MOST_WAITING, Bounds, Watch

ANSWERED = Answered(Allow(), Safe(0.1, Reading(1, 1)), 1, 2.0)


def see(watch: Watch, characters: int = 10) -> None:
    watch.see(Asked(Surface.REPLY, Trajectory((Step(Role.AGENT, "x" * characters),))), ANSWERED)


def test_only_the_last_decisions_are_kept() -> None:
    watch = Watch(Bounds(decisions=3))
    for _ in range(10):
        see(watch)
    assert [seen.row["id"] for seen in watch.after(0, 100)] == [8, 9, 10]
    assert watch.get(7) is None


def test_runs_are_let_go_of_by_bytes_oldest_first_and_their_decisions_stay() -> None:
    watch = Watch(Bounds(run_bytes=10_000))
    for characters in (4_000, 4_000, 4_000):
        see(watch, characters)
    assert [seen.run is not None for seen in watch.after(0, 100)] == [False, True, True]
    see(watch, 20_000)
    assert [seen.run for seen in watch.after(0, 100)] == [None] * 4


def test_a_run_whose_decision_is_gone_counts_no_more() -> None:
    watch = Watch(Bounds(decisions=2, run_bytes=10_000))
    for _ in range(50):
        see(watch, 4_000)
    assert all(seen.run for seen in watch.after(0, 100))


def test_who_is_behind_does_not_wait_and_who_is_not_waits_no_longer_than_asked() -> None:
    async def waited(number: int, seconds: float) -> float:
        watch = Watch()
        see(watch)
        start = time.monotonic()
        await watch.grown(number, seconds)
        return time.monotonic() - start

    assert asyncio.run(waited(0, 5)) < 0.5
    assert asyncio.run(waited(7, 5)) < 0.5
    assert 0.09 < asyncio.run(waited(1, 0.1)) < 2


def test_only_so_many_wait_at_once() -> None:
    async def last() -> bool:
        watch = Watch()
        others = [asyncio.create_task(watch.grown(0, 5)) for _ in range(MOST_WAITING)]
        await asyncio.sleep(0)
        await asyncio.wait_for(watch.grown(0, 5), 1)
        waiting = not any(task.done() for task in others)
        see(watch)
        await asyncio.wait_for(asyncio.gather(*others), 1)
        return waiting

    assert asyncio.run(last())
