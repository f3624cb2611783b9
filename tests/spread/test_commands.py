"""Commands on a Ray cluster: the bytes that one process gives, though workers and the command itself are killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from gelert.evals.benches import RECORDS
from gelert.forge.twins import twins
from gelert.guard.card import default_card
from gelert.lm.model import tiny
from tests.forge.test_influence_cli import record
from tests.spread.cluster import two_machines, working

pytestmark = pytest.mark.cluster
LOGS = Path(__file__).parents[2] / "examples" / "logs"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    pytest.importorskip("ray")
    with two_machines() as found:
        yield found.address


def started(*words: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "gelert.cli.main", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def done(running: subprocess.Popen[str]) -> str:
    """What the command printed; it must have ended well and have nothing to complain of."""
    out, said = running.communicate(timeout=300)
    assert (running.returncode, said) == (0, "")
    return out


def wait_for(size: int, path: Path, running: subprocess.Popen[str]) -> None:
    """Until a file is so large, while the command runs."""
    end = time.monotonic() + 120
    while time.monotonic() < end and not (path.exists() and path.stat().st_size >= size):
        assert running.poll() is None, running.communicate()
        time.sleep(0.02)


def kill_workers() -> None:
    """All that are at a job; at least one."""
    end = time.monotonic() + 60
    while not (found := list(working())):
        assert time.monotonic() < end
    for process in found:
        process.send_signal(signal.SIGKILL)


def test_synthesis_gives_the_same_bytes_though_workers_and_then_the_command_are_killed(
    tmp_path: Path, address: str
) -> None:
    words = ["data", "synthesise", "--n", "1500", "--seed", "5", "--world", "mail", "--out"]
    done(started(*words, tmp_path / "here"))
    whole, file = (tmp_path / "here" / RECORDS).read_bytes(), tmp_path / "cluster" / RECORDS
    running = started(*words, tmp_path / "cluster", "--ray", address)
    wait_for(len(whole) // 10, file, running)
    kill_workers()
    wait_for(len(whole) // 3, file, running)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    kept = file.read_bytes()
    assert len(whole) // 3 <= len(kept) < len(whole)
    assert whole.startswith(kept[: kept.rfind(b"\n") + 1])
    told = done(started(*words, tmp_path / "cluster", "--ray", address))
    assert f"{kept.count(10)} were there" in told
    assert file.read_bytes() == whole


@pytest.mark.parametrize("how", ["--ray", "--workers"])
def test_verdicts_are_the_same_lines_though_a_worker_is_killed(
    tmp_path: Path, address: str, real_model: str, how: str
) -> None:
    del real_model
    shutil.copytree(default_card(), tmp_path / "mine")
    words = ["judge", LOGS, "--json", "--guard", os.path.relpath(tmp_path / "mine")]
    whole = done(started(*words))
    running = started(*words, how, address if how == "--ray" else "2")
    if how == "--ray":
        assert running.stdout is not None
        first = running.stdout.readline()
        kill_workers()
        assert first + done(running) == whole
    else:
        assert done(running) == whole
    assert whole.count("\n") == len(list(LOGS.iterdir()))


@pytest.mark.parametrize("how", [["--ray", "local"], ["--workers", "2"]], ids=["ray", "workers"])
def test_a_guard_that_is_not_on_the_workers_is_refused(tmp_path: Path, how: list[str]) -> None:
    cascade = tmp_path / "cascade.toml"
    cascade.write_text(
        'kind = "cascade"\nname = "both"\nsecond = "agentdog-1.0-coarse@recorded:x"\nlow = 0.3\nhigh = 0.7\n'
    )
    for name, word in (
        ("agentdog-1.0-coarse@http://127.0.0.1:1/v1#it", "give --at-once alone"),
        (str(cascade), "no recorded answers"),
        ("nowhere", "does not exist"),
    ):
        running = started("judge", LOGS, "--guard", name, *how)
        _, said = running.communicate(timeout=60)
        assert running.returncode == 2
        assert word in said


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled runs, targets, and a model with as many blocks as the default design reads."""
    path = tmp_path_factory.mktemp("runs")
    rows = [record(item) for item in twins(2)]
    for name, part in (("pool", [*rows[:30], rows[0]]), ("targets", rows[30:34])):
        (path / name).mkdir()
        (path / name / "runs.jsonl").write_text("\n".join(map(json.dumps, part)))
    model = tiny(layers=14, width=16, dtype="float32")
    model.net.save_pretrained(path / "model")
    model.tokenizer.save_pretrained(path / "model")
    return path


def purifying(runs: Path, cache: Path, *more: str) -> subprocess.Popen[str]:
    fixed = ["data", "purify", runs / "pool", "--targets", runs / "targets", "--model", runs / "model"]
    out = ["--budget", "4", "--gradients", "adapter", "--features", cache, "--out", cache.with_suffix(".jsonl")]
    return started(*fixed, *out, *more)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("how", ["--ray", "--workers"])
def test_gradients_are_the_same_bytes_though_workers_and_then_the_command_are_killed(
    tmp_path: Path, runs: Path, address: str, how: str
) -> None:
    done(purifying(runs, tmp_path / "here"))
    whole = content(tmp_path / "here")
    (index,) = (name for name in whole if name.endswith("index.jsonl"))
    more = ["--ray", address] if how == "--ray" else ["--workers", "2"]
    running = purifying(runs, tmp_path / "spread", *more)
    wait_for(1, tmp_path / "spread" / index, running)
    if how == "--ray":
        kill_workers()
    wait_for(len(whole[index]) // 4, tmp_path / "spread" / index, running)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert 0 < len(content(tmp_path / "spread")[index]) < len(whole[index])
    done(purifying(runs, tmp_path / "spread", *more))
    assert content(tmp_path / "spread") == whole
    assert (tmp_path / "spread.jsonl").read_bytes() == (tmp_path / "here.jsonl").read_bytes()


def test_influence_of_the_head_needs_no_folder_and_scores_the_same(runs: Path, address: str) -> None:
    fixed = ["data", "influence", runs / "pool", "--targets", runs / "targets", "--model", runs / "model", "--json"]
    assert done(started(*fixed, "--ray", address)) == done(started(*fixed))


def test_stopping_by_hand_keeps_what_is_there_and_ends_at_once(tmp_path: Path, address: str) -> None:
    words = ["data", "synthesise", "--n", "20000", "--world", "mail", "--out", tmp_path, "--ray", address]
    running = started(*words)
    wait_for(100_000, tmp_path / RECORDS, running)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=30)
    assert (running.returncode, said.strip()) == (130, "gelert: stopped; finished records are kept")
    assert (tmp_path / RECORDS).read_bytes().endswith(b"\n")


def test_a_cluster_of_this_machine_ends_with_the_command_even_if_it_is_killed(tmp_path: Path) -> None:
    words = ["data", "synthesise", "--n", "20000", "--world", "mail", "--out", tmp_path, "--ray", "local"]
    running = started(*words)
    wait_for(100_000, tmp_path / RECORDS, running)
    agents = (["ray::DashboardAgent"], ["ray::RuntimeEnvAgent"])  # Ray's own: they end about a minute later
    family = [p for p in psutil.Process(running.pid).children(recursive=True) if p.cmdline()[:1] not in agents]
    assert any("raylet" in " ".join(process.cmdline()) for process in family)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
