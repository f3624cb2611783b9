"""Makes and jobs that other processes import."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from gelert.core.errors import MissingError


def doubling(pause: float = 0.0) -> Callable[[int], tuple[int, int]]:
    """Gives twice a number, and the process that did it; smaller numbers take longer."""

    def double(number: int) -> tuple[int, int]:
        time.sleep(pause / (1 + number))
        return 2 * number, os.getpid()

    return double


def counted(folder: Path) -> Callable[[int], int]:
    """Notes that it was made, then that a job was done."""
    (folder / f"made-{os.getpid()}").touch()
    return lambda number: number


def dying(folder: Path, deaths: int, at: int) -> Callable[[int], int]:
    """Kills its own process at one number, so many times."""

    def work(number: int) -> int:
        if number == at and len(list(folder.iterdir())) < deaths:
            (folder / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    return work


def refusing() -> Callable[[int], int]:
    """Lacks what it needs."""
    raise MissingError("the model is not fetched; run: gelert model pull it")


def failing() -> Callable[[int], int]:
    """Is a program with a fault."""
    return lambda number: 1 // (number - 3)


def threads() -> Callable[[int], str]:
    """Tells how many threads its process is given."""
    return lambda _number: os.environ["OMP_NUM_THREADS"]
