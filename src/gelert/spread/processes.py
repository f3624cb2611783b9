"""Jobs in several processes of this machine."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial

from gelert.core.errors import WorkerError
from gelert.spread.workers import AHEAD, J, Make, R, Sent, in_turn


def in_order(make: Make[J, R], jobs: Iterable[J], processes: int) -> Iterator[R]:
    """See ``Workers.in_order``; the processes share the cores of this machine, unless OMP_NUM_THREADS is set.

    Raises:
        WorkerError: a process died.
    """
    others = set(multiprocessing.active_children())
    threads = max(1, len(os.sched_getaffinity(0)) // processes)
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _begin, (threads,))
    try:
        yield from in_turn(partial(pool.submit, Sent[J, R].of(make).do), Future[R].result, jobs, AHEAD * processes)
    except BrokenProcessPool:
        raise WorkerError(
            "expected every process to end its job, got one that was killed, perhaps for want of memory; what is"
            " finished is kept: try fewer processes"
        ) from None
    except BaseException:
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(threads: int) -> None:
    # The process that was started by hand is told to stop, and stops the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """One that is killed cannot tell its pool to end."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
