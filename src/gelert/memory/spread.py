"""Jobs over processes that tell how far they are and keep what they reached when they are interrupted."""

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Event
from typing import Any, TypeVar

J = TypeVar("J")
R = TypeVar("R")

Tell = Callable[[int | None, str], None]
"""How much of a job is done (``None`` for all of it), and what is being done."""

POLL_SECONDS = 0.5


def processes(
    work: Callable[[J, Tell], R], jobs: Sequence[J], workers: int, tell: Callable[[int, int | None, str], None]
) -> Iterator[tuple[int, R]]:
    """Do ``jobs`` in ``workers`` processes of this machine, its threads shared among them.

    An interrupt here raises KeyboardInterrupt in each job, where it tells of itself next.

    Args:
        work: does one; must be importable, as must what it is given and gives.
        jobs: any number.
        workers: how many at once.
        tell: told the job's number with what it tells.

    Yields:
        A job's number and its result.
    """
    import torch

    context = multiprocessing.get_context("spawn")
    told, stop = context.SimpleQueue(), context.Event()
    threads = max(1, torch.get_num_threads() // workers)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(told, stop, threads)) as pool:
        running = {pool.submit(_in_process, work, number, job): number for number, job in enumerate(jobs)}
        try:
            while running:
                done, _ = wait(running, POLL_SECONDS, FIRST_COMPLETED)
                while not told.empty():
                    tell(*told.get())
                for future in done:
                    yield running.pop(future), future.result()
        finally:
            stop.set()
            for future in running:
                future.cancel()


_here: dict[str, Any] = {}
"""What the process that spread the jobs gave this one."""


def _begin(told: "SimpleQueue[tuple[int, int | None, str]]", stop: Event, threads: int) -> None:
    """In a new process: an interrupt of the terminal is for the one that began us."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    _here.update(told=told, stop=stop)


def _in_process(work: Callable[[J, Tell], R], number: int, job: J) -> R:
    last = 0.0

    def tell(done: int | None, what: str) -> None:
        nonlocal last
        if _here["stop"].is_set():
            raise KeyboardInterrupt
        # The result itself says the end; a pipe that is told every step would fill.
        if done is not None and time.monotonic() - last > POLL_SECONDS:
            last = time.monotonic()
            _here["told"].put((number, done, what))

    return work(job, tell)
