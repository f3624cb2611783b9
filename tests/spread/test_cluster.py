"""Jobs on a Ray cluster of two machines: what one process gives, though workers and machines are killed."""

import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gelert.core.errors import WorkerError
from gelert.spread.cluster import as_done, joined
from gelert.spread.workers import Workers
from tests.spread.cluster import two_machines, working
from tests.spread.contract import SpreadContract
from tests.spread.jobs import doubling, dying

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    pytest.importorskip("ray")
    with two_machines() as found:
        yield found


@pytest.fixture
def workers(cluster: Any) -> Iterator[Workers]:
    found = Workers(ray=cluster.address)
    with found.ready():
        yield found


class TestCluster(SpreadContract):
    PROCESSES = 4  # Ray may start a process more than there are cores


def test_both_machines_work(workers: Workers) -> None:
    found = list(workers.in_order(partial(doubling, 0.3), range(40)))
    assert len({process for _, process in found} - {os.getpid()}) >= 2


def test_as_done_gives_each_number_once_with_its_result(cluster: Any) -> None:
    found = list(as_done(partial(doubling, 0.3), range(40), cluster.address, cores=1))
    assert sorted((number, result) for number, (result, _) in found) == [(n, 2 * n) for n in range(40)]
    assert [number for number, _ in found] != sorted(number for number, _ in found)


def test_a_job_whose_worker_dies_is_done_again_and_one_that_always_kills_is_given_up(
    workers: Workers, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    assert list(workers.in_order(partial(dying, tmp_path / "a", 2, 7), range(60))) == list(range(60))
    assert len(list((tmp_path / "a").iterdir())) == 2
    (tmp_path / "b").mkdir()
    found: list[int] = []
    with pytest.raises(WorkerError, match="expected a worker to end its job, got 4 that died with it"):
        found.extend(workers.in_order(partial(dying, tmp_path / "b", 100, 7), range(60)))
    assert found == list(range(7))


def test_workers_killed_from_outside_lose_nothing_and_nothing_is_printed(
    workers: Workers, capfd: pytest.CaptureFixture[str]
) -> None:
    killed, found = 0, list[int]()
    for result, _ in workers.in_order(partial(doubling, 3.0), range(80)):
        found.append(result)
        if len(found) in (1, 20):
            for process in working():
                process.send_signal(signal.SIGKILL)
                killed += 1
    assert killed >= 2
    assert found == list(range(0, 160, 2))
    assert capfd.readouterr().out == ""


def test_a_machine_that_goes_away_loses_nothing(cluster: Any) -> None:
    extra = cluster.add_node(num_cpus=1)
    found: list[int] = []
    for result, _ in Workers(ray=cluster.address).in_order(partial(doubling, 3.0), range(80)):
        found.append(result)
        if len(found) == 10:
            cluster.remove_node(extra, allow_graceful=False)
    assert found == list(range(0, 160, 2))


def test_a_cluster_is_left_when_the_work_is_done(cluster: Any) -> None:
    import ray  # pyright: ignore[reportMissingImports]  # an extra

    started = time.monotonic()
    list(Workers(ray=cluster.address).in_order(doubling, range(3)))
    assert not ray.is_initialized()
    with joined(cluster.address):
        assert ray.is_initialized()
        list(Workers(ray=cluster.address).in_order(doubling, range(3)))
        assert ray.is_initialized()
    assert time.monotonic() - started < 60
