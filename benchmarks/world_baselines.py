"""The same 50-call episode in a container, in bare namespaces, in a plain process and in this process, in one run.

One environment is one episode of a task, played by the same Gelert code everywhere:

- ``container``: a process in a real container each, as peers have it (podman with runc and an image with a Python);
- ``namespaces``: a process each in namespaces of its own, without an image (``unshare``);
- ``process``: a process each;
- ``here``: objects in this process.

The first three answer over a pipe, one JSON line a call. For each way and each number of environments at once: seconds
from the start of one to its first answer, the memory of all processes that came with it (PSS, monitors included), and
the latency of a call, environments taking turns.

An image is any root file system with Python 3.11, imported once::

    debootstrap --variant=minbase --include=python3 bookworm ROOT
    tar c -C ROOT . | podman import - gelert-bench-python
    python benchmarks/world_baselines.py [--at-once 1 10 50] [--ways container ...] [--json OUT]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pydantic_core

import gelert
from gelert.worlds.agents import oracle
from gelert.worlds.catalogue import catalogue
from gelert.worlds.episode import Episode
from gelert.worlds.tasks import begin, task

TASK = "mail/answer_mail/0/clean"
CALLS = 50
IMAGE = "gelert-bench-python"
SOURCE = Path(gelert.__file__).parents[1]
SITE = Path(pydantic_core.__file__).parents[1]
PODMAN = ["podman", "--runtime", "runc", "run", "--rm", "-i", "--network=none"]
LIMITS = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"]


@dataclass(frozen=True)
class Found:
    """One way at one number of environments."""

    way: str
    at_once: int
    start_seconds: float
    """Of one environment, the median."""
    mib: float
    """Of one environment, the mean."""
    call_p50_microseconds: float
    call_p99_microseconds: float


def script() -> list[tuple[str, str]]:
    """Fifty calls: the oracle's, over and over."""
    episode = Episode(begin(task(catalogue(["mail"]), TASK)))
    oracle(episode.beginning)(episode)
    own = [(one.tool, one.arguments) for one in episode.calls]
    return [own[at % len(own)] for at in range(CALLS)]


def child() -> None:
    """An environment in a process of its own: says that it is ready, then answers line by line."""
    episode = Episode(begin(task(catalogue(["mail"]), TASK)))
    print("ready", flush=True)
    for line in sys.stdin:
        tool, arguments = json.loads(line)
        print(episode.call(tool, arguments), flush=True)


def command(way: str) -> list[str]:
    inner = ["-m", "world_baselines", "--child"]
    here = str(Path(__file__).parent)
    if way == "container":
        mounts = ["-v", f"{SOURCE}:/source:ro", "-v", f"{SITE}:/site:ro", "-v", f"{here}:/bench:ro"]
        return [*PODMAN, *LIMITS, *mounts, "-e", "PYTHONPATH=/source:/site:/bench", IMAGE, "python3", *inner]
    plain = ["env", f"PYTHONPATH={SOURCE}:{SITE}:{here}", sys.executable, *inner]
    return ["unshare", "-fpmnui", "--mount-proc", *plain] if way == "namespaces" else plain


def pss(processes: set[int]) -> float:
    """Memory of processes, shared pages divided among those that share them, MiB."""
    total = 0.0
    for process in processes:
        try:
            text = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
        except OSError:
            continue
        total += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 1024
    return total


def processes() -> set[int]:
    return {int(name) for name in os.listdir("/proc") if name.isdigit()}  # noqa: PTH208


def apart(way: str, at_once: int, calls: Sequence[tuple[str, str]]) -> Found:
    """Environments in processes of their own."""
    before, starts = processes(), list[float]()
    running: list[subprocess.Popen[str]] = []
    try:
        for _ in range(at_once):
            started = time.perf_counter()
            one = subprocess.Popen(command(way), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            running.append(one)
            assert one.stdout
            if one.stdout.readline() != "ready\n":
                raise SystemExit(f"{way}: the environment did not start")
            starts.append(time.perf_counter() - started)
        mib = pss(processes() - before) / at_once

        def ask(number: int, call: tuple[str, str]) -> None:
            one = running[number]
            assert one.stdin
            assert one.stdout
            one.stdin.write(json.dumps(call) + "\n")
            one.stdin.flush()
            one.stdout.readline()

        return Found(way, at_once, statistics.median(starts), mib, *latency(ask, at_once, calls))
    finally:
        for one in running:
            if one.stdin:
                one.stdin.close()
        for one in running:
            one.wait()


def here(at_once: int, calls: Sequence[tuple[str, str]], many: int = 10_000) -> Found:
    """Environments in this process; the memory of one from many of them, for one alone is too small to be seen."""
    beginning = begin(task(catalogue(["mail"]), TASK))
    starts: list[float] = []
    episodes: list[Episode] = []
    for _ in range(at_once):
        started = time.perf_counter()
        episodes.append(Episode(begin(beginning.task)))
        starts.append(time.perf_counter() - started)
    found = latency(lambda number, call: episodes[number].call(*call), at_once, calls)
    before, more = pss({os.getpid()}), list[Episode]()
    for _ in range(many):
        more.append(Episode(begin(beginning.task)))
        for call in calls:
            more[-1].call(*call)
    mib = (pss({os.getpid()}) - before) / many
    return Found("here", at_once, statistics.median(starts), mib, *found)


def latency(
    ask: Callable[[int, tuple[str, str]], object], at_once: int, calls: Sequence[tuple[str, str]]
) -> tuple[float, float]:
    """Median and 99th percentile of a call, microseconds."""
    waits: list[float] = []
    for call in calls:
        for number in range(at_once):
            started = time.perf_counter()
            ask(number, call)
            waits.append(time.perf_counter() - started)
    waits.sort()
    return 1e6 * waits[len(waits) // 2], 1e6 * waits[int(0.99 * len(waits))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 10, 50])
    parser.add_argument("--ways", nargs="+", default=["container", "namespaces", "process", "here"])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child()
        return
    calls, rows = script(), list[Found]()
    print(f"{'way':12} {'at once':>7} {'start s':>10} {'MiB each':>9} {'call p50 us':>11} {'p99 us':>9}")
    for way in options.ways:
        for at_once in options.at_once:
            one = here(at_once, calls) if way == "here" else apart(way, at_once, calls)
            rows.append(one)
            print(
                f"{way:12} {at_once:7} {one.start_seconds:10.6f} {one.mib:9.4f} {one.call_p50_microseconds:11.1f}"
                f" {one.call_p99_microseconds:9.1f}",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
