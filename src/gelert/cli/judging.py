"""Verdicts in the order of the runs: by this process, or by workers that each open the guard once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import tee
from pathlib import Path

from gelert.backends.base import in_order
from gelert.cli.guards import open_guard
from gelert.core.errors import InputError
from gelert.core.example import Example
from gelert.core.trajectory import Trajectory
from gelert.core.verdict import Verdict
from gelert.guard.card import kind
from gelert.spread.workers import Workers, reachable


@dataclass(frozen=True, slots=True)
class Opinion:
    """A verdict and whose it is."""

    verdict: Verdict
    guard: str


def opinions(
    guard_name: str | None, at_once: int | None, workers: Workers, examples: Iterator[Example]
) -> Iterator[tuple[Example, Opinion]]:
    """Each example with what a guard says of it, in order; examples are drawn as they are needed.

    Args:
        guard_name: as after ``--guard``.
        at_once: runs that an endpoint is asked about at once.
        workers: who judges; the lines are the same.
        examples: the runs.

    Raises:
        InputError: there is no such guard, or workers cannot share it: an endpoint, or recorded answers.
    """
    if workers.alone:
        guard = open_guard(guard_name, at_once)

        def work(example: Example) -> tuple[Example, Opinion]:
            return example, Opinion(guard.judge(example.trajectory), guard.name)

        return in_order(work, examples, guard.concurrency)
    jobs, kept = tee(examples)
    make = partial(judging, at_hand(guard_name, at_once))
    return zip(kept, workers.in_order(make, (example.trajectory for example in jobs)), strict=True)


def judging(guard_name: str | None) -> Callable[[Trajectory], Opinion]:
    """The judgement of one trajectory, in the process that opens the guard."""
    guard = open_guard(guard_name)
    return lambda trajectory: Opinion(guard.judge(trajectory), guard.name)


def at_hand(name: str | None, at_once: int | None) -> str | None:
    """The name under which every worker finds the guard's card.

    Args:
        name: as after ``--guard``.
        at_once: as after ``--at-once``.

    Raises:
        InputError: there is no such guard, or workers cannot share it.
    """
    if at_once is not None or (name is not None and "@" in name and not Path(name).exists()):
        raise InputError(
            f"expected a guard's card with --workers or --ray, got {name!r}; an endpoint is asked about many runs at"
            " once by one process: give --at-once alone"
        )
    if name is None:
        return None
    if not Path(name).exists():
        raise InputError(f"expected a guard card or CONTRACT@URL#MODEL, got {name!r}, which does not exist")
    if kind(Path(name)) == "cascade":
        from gelert.guard.cascade import load_cascade

        if "@recorded:" in load_cascade(Path(name)).second:
            raise InputError(f"expected no recorded answers with --workers or --ray: they go by their order ({name})")
    return reachable(name)
