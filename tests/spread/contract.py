"""What jobs keep wherever they are done: in this process, by others of this machine, or on a cluster."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from gelert.core.errors import MissingError
from gelert.spread.workers import AHEAD, Workers
from tests.spread.jobs import counted, doubling, failing, refusing


class SpreadContract:
    """A subclass has the fixture ``workers``."""

    PROCESSES: int
    """That they may be."""
    DRAWN: int = 3 + 2 * AHEAD
    """Jobs that may be drawn when three results are taken."""

    def test_results_come_in_the_order_of_the_jobs(self, workers: Workers) -> None:
        found = list(workers.in_order(partial(doubling, 0.3), range(40)))
        assert [result for result, _ in found] == list(range(0, 80, 2))

    def test_each_process_makes_what_it_needs_once(self, workers: Workers, tmp_path: Path) -> None:
        assert list(workers.in_order(partial(counted, tmp_path), range(200))) == list(range(200))
        assert 1 <= len(list(tmp_path.iterdir())) <= self.PROCESSES

    def test_jobs_are_drawn_as_they_are_needed(self, workers: Workers) -> None:
        drawn = list[int]()

        def endless() -> Iterator[int]:
            while True:
                drawn.append(len(drawn))
                yield drawn[-1]

        found = workers.in_order(doubling, endless())
        assert [next(found)[0] for _ in range(3)] == [0, 2, 4]
        found.close()  # pyright: ignore[reportAttributeAccessIssue]  # it is a generator
        assert len(drawn) <= self.DRAWN

    def test_a_fault_comes_as_it_was_raised_after_the_results_before_it(self, workers: Workers) -> None:
        found = workers.in_order(failing, range(10))
        assert [next(found) for _ in range(3)] == [-1, -1, -1]
        with pytest.raises(ZeroDivisionError):
            next(found)
        with pytest.raises(MissingError, match=r"^the model is not fetched; run: gelert model pull it$"):
            list(workers.in_order(refusing, range(10)))
