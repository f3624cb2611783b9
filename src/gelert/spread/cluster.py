"""Jobs on the machines of a Ray cluster, each with Gelert and what a job reads installed."""

import logging
import socket
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from types import ModuleType
from typing import Any, cast

from gelert.core.errors import GelertError, InputError, WorkerError, missing_extra
from gelert.spread.workers import AHEAD, J, Make, R, Sent, in_turn

LOCAL = "local"
"""The address that starts a cluster of this machine alone."""

DEATHS = 3
"""A job whose worker died is given to others so many times."""

ANSWER_SECONDS = 10.0
"""In which a cluster must answer at its address."""


def in_order(make: Make[J, R], jobs: Iterable[J], address: str) -> Iterator[R]:
    """See ``Workers.in_order``; one job for each core of the cluster at a time."""
    with joined(address) as ray:
        results = in_turn(_submitter(ray, make, 1), partial(_result, ray), jobs, _ahead(ray, 1))
        yield from cast("Iterator[R]", results)


def as_done(make: Make[J, R], jobs: Iterable[J], address: str, *, cores: int) -> Iterator[tuple[int, R]]:
    """The number of each job and its result as soon as it has ended, for jobs that take ``cores`` each."""
    with joined(address) as ray:
        submit, left, running = _submitter(ray, make, cores), enumerate(jobs), dict[object, int]()
        while True:
            for number, job in islice(left, _ahead(ray, cores) - len(running)):
                running[submit(job)] = number
            if not running:
                return
            for reference in ray.wait(list(running), num_returns=1)[0]:
                yield running.pop(reference), cast("R", _result(ray, reference))


@contextmanager
def joined(address: str) -> Generator[ModuleType]:
    """Ray, with this process in the cluster until the context ends; a process that is in one already stays in it.

    Raises:
        InputError: nobody answers at the address.
        MissingError: Ray is not installed.
    """
    try:
        import ray  # pyright: ignore[reportMissingImports]  # an extra
    except ImportError:
        raise missing_extra("--ray", "ray") from None
    if ray.is_initialized():
        yield ray
        return
    _knock(address)
    try:
        ray.init(
            address,
            include_dashboard=False if address == LOCAL else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, ValueError) as fault:
        raise InputError(f"expected a Ray cluster at {address!r}, got: {str(fault).splitlines()[0]}") from None
    # Else it prints the death of a worker to standard output, among the records; there is no public switch for that.
    private: Any = ray
    private._private.worker._worker_logs_enabled = False
    try:
        yield ray
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Whether anybody listens at a host and port: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        if address in (LOCAL, "auto"):
            return
        raise InputError(f"expected --ray local, auto, HOST:PORT or ray://HOST:PORT, got {address!r}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except (OSError, OverflowError) as fault:
        raise InputError(f"expected a Ray cluster at {address!r}, got no answer ({fault}); is it started?") from None


def _submitter(ray: ModuleType, make: Make[J, R], cores: int) -> Callable[[J], object]:
    return partial(ray.remote(num_cpus=cores, max_retries=DEATHS)(_do).remote, Sent[J, R].of(make))


def _do(sent: Sent[J, R], job: J) -> R:
    return sent.do(job)


def _ahead(ray: ModuleType, cores: int) -> int:
    """How many jobs may be under way; recomputed, for a cluster can grow."""
    return AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)) // cores)


def _result(ray: ModuleType, reference: object) -> object:
    """What a job gave; a fault that its user can act upon is raised as it was raised there."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as fault:
        cause = fault.cause
        raise (cause if isinstance(cause, GelertError) else fault) from None
    except ray.exceptions.RayError as fault:
        raise WorkerError(
            f"expected a worker to end its job, got {DEATHS + 1} that died with it, perhaps for want of memory:"
            f" {str(fault).splitlines()[0]}; what is finished is kept"
        ) from None
