"""What two workers of a Ray cluster bring: the same command by one process, by two, and on the cluster.

All have one thread a process and write the same bytes, which is checked. The cluster has two machines of one core
each, both on this machine, and stands before the clock starts; joining it, and loading the guard or the worlds in each
worker, is in the time.

    python benchmarks/ray_speedup.py judge --runs examples/logs
    python benchmarks/ray_speedup.py synthesise --n 2000
    python benchmarks/ray_speedup.py gradients --n 8
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]  # an extra

Work = Callable[[Path, Sequence[str]], bytes]
"""Runs a command with a new folder and further options; gives what it made."""


def gelert(*words: str | Path) -> bytes:
    """What the command printed."""
    command = [sys.executable, "-m", "gelert.cli.main", *map(str, words)]
    return subprocess.run(command, capture_output=True, check=True).stdout


def judge(runs: Sequence[Path]) -> Work:
    return lambda _folder, more: gelert("judge", *runs, "--json", "--quiet", *more)


def synthesise(n: int) -> Work:
    def work(folder: Path, more: Sequence[str]) -> bytes:
        gelert("data", "synthesise", "--n", str(n), "--seed", "1", "--out", folder / "made", *more)
        return (folder / "made" / "records.jsonl").read_bytes()

    return work


def gradients(n: int, made: Path) -> Work:
    """Of synthesised runs, half of them as targets; what was read of them is not kept between two runs."""
    for name, seed in (("pool", "1"), ("targets", "2")):
        gelert("data", "synthesise", "--n", str(n), "--seed", seed, "--out", made / name)

    def work(folder: Path, more: Sequence[str]) -> bytes:
        kept = folder / "features"
        words = ["data", "purify", made / "pool", "--targets", made / "targets", "--gradients", "adapter"]
        gelert(*words, "--features", kept, "--budget", "2", "--out", folder / "chosen.jsonl", *more)
        return b"".join(path.read_bytes() for path in sorted(kept.rglob("*")) if path.is_file())

    return work


def timed(work: Work, more: Sequence[str]) -> tuple[float, str]:
    """Seconds, and the hash of what was made."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        made = work(Path(folder), more)
        return time.perf_counter() - started, hashlib.sha256(made).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["judge", "synthesise", "gradients"])
    parser.add_argument("--runs", type=Path, nargs="+", default=[Path("examples/logs")])
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    nice = {"worker_niceness": 0}  # as the other ways are: by itself Ray lets whatever runs beside it come first
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": nice}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(num_cpus=1)
    ways = {"one process": [], "two processes": ["--workers", "2"], "Ray, two workers": ["--ray", str(cluster.address)]}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    hashes: set[str] = set()
    try:
        with tempfile.TemporaryDirectory() as made:
            works: dict[str, Callable[[], Work]] = {
                "judge": lambda: judge(options.runs),
                "synthesise": lambda: synthesise(options.n),
                "gradients": lambda: gradients(options.n, Path(made)),
            }
            work = works[options.what]()
            for _ in range(options.repeats):
                for way, more in ways.items():  # in turn, so that a drifting machine hits them alike
                    taken, digest = timed(work, more)
                    seconds[way].append(taken)
                    hashes.add(digest)
                    print(f"{way:18} {taken:7.2f} s", flush=True)
    finally:
        cluster.shutdown()
    if len(hashes) != 1:
        sys.exit(f"expected the same bytes each time, got {len(hashes)} kinds")
    medians = {way: statistics.median(taken) for way, taken in seconds.items()}
    for way, median in medians.items():
        print(f"{options.what}: {way:18} {median:7.2f} s, {medians['one process'] / median:.2f} times as fast")
    if options.json:
        options.json.write_text(json.dumps({"seconds": seconds, "medians": medians, "sha256": hashes.pop()}, indent=2))


if __name__ == "__main__":
    main()
