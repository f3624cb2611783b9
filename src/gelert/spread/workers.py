"""Who does many jobs. Whoever it is, the results are the same and come in the order of the jobs.

What crosses to another process is a *make*: an importable function without arguments (or a ``partial`` of one) that
gives the function of one job. Each process calls it once, so what it loads is loaded once: a guard, a catalogue.
"""

import pickle
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Generic, Self, TypeVar, cast

from gelert.core.errors import InputError, WorkerError

J = TypeVar("J")
R = TypeVar("R")
F = TypeVar("F")

Make = Callable[[], Callable[[J], R]]
"""Gives the function of one job, in the process that is to do jobs."""

AHEAD = 16
"""Jobs sent before their results are needed, for each worker: a long job then keeps no other worker waiting."""


@dataclass(frozen=True, slots=True)
class Workers:
    """Processes of this machine, or a cluster."""

    processes: int = 1
    ray: str = ""
    """Address of a Ray cluster, as Ray takes it; ``local`` for one of this machine; empty for none."""

    def __post_init__(self) -> None:
        if self.ray and self.processes > 1:
            raise InputError(
                f"expected processes of this machine or a Ray cluster, got {self.processes} and {self.ray!r}"
            )

    @property
    def alone(self) -> bool:
        """Whether the calling process does everything."""
        return not self.ray and self.processes <= 1

    @contextmanager
    def ready(self) -> Generator[None]:
        """For several spreads one after another: a cluster is joined once, and left at the end."""
        if not self.ray:
            yield
            return
        from gelert.spread.cluster import joined

        with joined(self.ray):
            yield

    def in_order(self, make: Make[J, R], jobs: Iterable[J]) -> Iterator[R]:
        """The result of each job, in the order of the jobs, which are drawn as they are needed.

        Args:
            make: gives the function of one job; what it takes and gives must be picklable.
            jobs: any number.

        Raises:
            InputError: nobody answers at the address, or a worker has another version of Gelert.
            MissingError: a cluster is asked for and Ray is not installed.
            WorkerError: a process or machine died with its job, more often than is tried.
        """
        if self.ray:
            from gelert.spread.cluster import in_order as on_cluster

            yield from on_cluster(make, jobs, self.ray)
        elif self.processes > 1:
            from gelert.spread.processes import in_order as in_processes

            yield from in_processes(make, jobs, self.processes)
        else:
            yield from map(make(), jobs)


HERE = Workers()
"""The calling process alone."""


def in_turn(submit: Callable[[J], F], result: Callable[[F], R], jobs: Iterable[J], ahead: int) -> Iterator[R]:
    """The result of each job in order, with at most ``ahead`` of them under way or waiting to be taken."""
    waiting: deque[F] = deque()
    for job in jobs:
        waiting.append(submit(job))
        if len(waiting) >= ahead:
            yield result(waiting.popleft())
    while waiting:
        yield result(waiting.popleft())


@dataclass(frozen=True)
class Sent(Generic[J, R]):
    """A make as it goes to another process."""

    version: str
    """Of the program it belongs to."""
    make: bytes

    @classmethod
    def of(cls, make: Make[J, R]) -> Self:
        """This make, pickled."""
        return cls(version("gelert"), pickle.dumps(make))

    def do(self, job: J) -> R:
        """One job, in the process that it was sent to.

        Raises:
            WorkerError: another version of the program is installed there.
        """
        return cast("Callable[[J], R]", _made(self))(job)


@lru_cache(maxsize=1)
def _made(what: Sent[Any, Any]) -> object:
    if what.version != version("gelert"):
        raise WorkerError(f"expected gelert {what.version} on every worker, got {version('gelert')}; install it there")
    return pickle.loads(what.make)()


def reachable(name: str) -> str:
    """A path from the root, for a process that stands in another folder; a name that is no path as it is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if name and path.exists() else name
