"""Many things done at once, and what comes of them in order."""

import threading
import time
from collections.abc import Generator, Iterator

import pytest

from gelert.backends.base import AHEAD, in_order


class Slow:
    """Work that notes how much of it is under way at once; odd numbers take longer."""

    def __init__(self) -> None:
        self.most = self.inside = self.begun = 0
        self._lock = threading.Lock()

    def double(self, number: int) -> int:
        with self._lock:
            self.inside += 1
            self.begun += 1
            self.most = max(self.most, self.inside)
        time.sleep(0.02 if number % 2 else 0.001)
        with self._lock:
            self.inside -= 1
        return 2 * number


def test_many_are_done_at_once_but_no_more_than_the_bound_and_order_is_kept() -> None:
    work = Slow()
    assert list(in_order(work.double, range(20), 3)) == list(range(0, 40, 2))
    assert 1 < work.most <= 3


def test_items_are_drawn_as_they_are_needed_and_leaving_early_drops_the_rest() -> None:
    work, drawn = Slow(), list[int]()

    def endless() -> Iterator[int]:
        while True:
            yield len(drawn)
            drawn.append(len(drawn))

    found = in_order(work.double, endless(), 4)
    assert next(found) == 0
    assert isinstance(found, Generator)
    found.close()
    assert len(drawn) <= 4 * AHEAD
    assert work.begun <= 4 * AHEAD
    assert work.inside == 0


def test_one_that_takes_long_does_not_hold_up_those_behind_it() -> None:
    held, done = threading.Event(), threading.Semaphore(0)

    def work(number: int) -> int:
        if number == 0:
            assert held.wait(20)
        done.release()
        return number

    found = in_order(work, range(100), 2)
    given: list[int] = []
    reading = threading.Thread(target=lambda: given.extend(found))
    reading.start()
    for _ in range(2 * AHEAD - 1):
        assert done.acquire(timeout=20)  # done while the first is still under way
    assert given == []
    held.set()
    reading.join()
    assert given == list(range(100))


def test_one_at_a_time_is_done_in_the_calling_thread_when_it_is_asked_for() -> None:
    threads: list[threading.Thread] = []
    found = in_order(lambda _: threads.append(threading.current_thread()), range(3), 1)
    assert threads == []
    next(found)
    assert threads == [threading.current_thread()]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_fault_comes_in_its_turn_after_what_was_done_before_it(concurrency: int) -> None:
    found = in_order(lambda number: 6 // (2 - number), range(5), concurrency)
    assert [next(found), next(found)] == [3, 6]
    with pytest.raises(ZeroDivisionError):
        next(found)
