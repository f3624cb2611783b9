"""Many jobs done here or by several processes: the same results in the same order, drawn as they are needed."""

import multiprocessing
import os
import pickle
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from gelert.core.errors import GelertError, InputError, WorkerError
from gelert.spread.workers import HERE, Sent, Workers, reachable
from tests.spread.contract import SpreadContract
from tests.spread.jobs import doubling, dying, threads

TWO = Workers(2)


class TestHere(SpreadContract):
    PROCESSES = 1
    DRAWN = 4

    @pytest.fixture
    def workers(self) -> Workers:
        return HERE

    def test_no_other_process_works(self, workers: Workers) -> None:
        assert {process for _, process in workers.in_order(doubling, range(4))} == {os.getpid()}


class TestTwo(SpreadContract):
    PROCESSES = 2

    @pytest.fixture
    def workers(self) -> Workers:
        return TWO

    def test_only_other_processes_work(self, workers: Workers) -> None:
        assert os.getpid() not in {process for _, process in workers.in_order(doubling, range(4))}

    def test_leaving_early_ends_every_process(self, workers: Workers) -> None:
        others = set(multiprocessing.active_children())
        found = workers.in_order(doubling, range(1000))
        next(found)
        found.close()  # pyright: ignore[reportAttributeAccessIssue]  # it is a generator
        assert not set(multiprocessing.active_children()) - others


def test_a_killed_process_ends_the_work_with_a_word_and_what_came_before_it_is_there(tmp_path: Path) -> None:
    found: list[int] = []
    with pytest.raises(WorkerError, match="killed, perhaps for want of memory"):
        found.extend(TWO.in_order(partial(dying, tmp_path, 1, 60), range(100)))
    assert found == list(range(len(found)))


def test_the_processes_of_one_that_was_killed_end_too() -> None:
    code = (
        "from functools import partial; from gelert.spread.workers import Workers\n"
        "from tests.spread.jobs import doubling\n"
        "for _ in Workers(2).in_order(partial(doubling, 600.0), range(600, 1200)): print(flush=True)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        family = psutil.Process(parent.pid).children(recursive=True)
        parent.kill()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert len(family) >= 2
    assert alive == []


def test_processes_share_the_cores_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    own = max(1, len(os.sched_getaffinity(0)) // 2)
    assert set(TWO.in_order(threads, range(4))) == {str(own)}
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert set(TWO.in_order(threads, range(4))) == {"7"}


def test_a_make_of_another_version_is_refused() -> None:
    other = Sent[int, tuple[int, int]]("0.0.0", pickle.dumps(doubling))
    with pytest.raises(WorkerError, match=r"expected gelert 0\.0\.0 on every worker"):
        other.do(1)


def test_paths_are_taken_from_the_root_and_other_names_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "card").mkdir()
    monkeypatch.chdir(tmp_path)
    assert reachable("card") == str(tmp_path / "card")
    assert [reachable(name) for name in ("smollm2-135m", "")] == ["smollm2-135m", ""]


def test_processes_and_a_cluster_at_once_are_refused() -> None:
    with pytest.raises(InputError, match="expected processes of this machine or a Ray cluster"):
        Workers(2, "local")


def test_a_cluster_without_ray_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "sys.argv = ['gelert', 'data', 'synthesise', '--n', '2', '--world', 'mail', '--out', 'x', '--ray', 'local']\n"
        "from gelert.cli.main import main; main()"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert out.returncode == 2
    assert out.stderr == "gelert: --ray needs the extra 'ray'; install it with: pip install 'gelert[ray]'\n"


@pytest.mark.cluster
@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}", "auto", "nonsense", "host:99999999"])
def test_an_address_where_nobody_answers_is_told_in_bounded_time(address: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(GelertError, match=r"expected (a Ray cluster at|--ray local)"):
        list(Workers(ray=address.format(port=port)).in_order(doubling, range(3)))
    assert time.monotonic() - started < 30
