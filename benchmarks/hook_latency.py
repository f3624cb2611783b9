"""What a hook costs a runtime at each event: wall time from the start of its command to its end, by the log's length.

The command line is the one that ``gelert install`` writes, shell and all. It asks a real service whose guard costs
nothing, so what is measured is the hook itself: its start, the way to the service, the reading of the runtime's log and
the record of the decision. Between two events the log grows by a line, as it does under a runtime. ``first`` is the
event at which the service sees the log for the first time.

    python benchmarks/hook_latency.py [--starts 50] [--sizes 0 0.1 1 5] [--json OUT]
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain, cycle
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.runtimes.guarded import Place, service  # noqa: E402
from tests.serve.hooks.support import payload  # noqa: E402

from gelert.serve import install  # noqa: E402
from gelert.serve.hooks.event import Runtime  # noqa: E402

EVENT = "PreToolUse"
ANSWER = b'HTTP/1.1 200 OK\r\nContent-Length: 35\r\n\r\n{"exit":0,"stdout":"","stderr":""} '


@dataclass(frozen=True)
class Row:
    """One runtime with a log of one length; times in milliseconds."""

    runtime: str
    megabytes: float
    starts: int
    first: float
    median: float
    p95: float


def hooked(runtime: Runtime, told: bytes, place: Place) -> float:
    """Milliseconds that one event took."""
    words = ["/bin/sh", "-c", install.command_line(runtime, EVENT)]
    variables = {"PATH": os.environ["PATH"], "GELERT_SOCKET": str(place.socket)}
    started = time.perf_counter()
    done = subprocess.run(words, input=told, env=variables, capture_output=True, check=False)
    took = time.perf_counter() - started
    assert done.returncode == 0, done.stderr
    return 1000 * took


def lines_of(runtime: Runtime) -> Iterator[bytes]:
    """The lines of a recorded log, then its latter half again and again, each line with an id of its own."""
    log = sorted((ROOT / "examples" / "logs").glob(f"{runtime.value.removesuffix('-code')}-*"))[0]
    lines: list[dict[str, Any]] = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    for number, line in enumerate(chain(lines, cycle(lines[len(lines) // 2 :]))):
        yield json.dumps(line | ({"uuid": str(number)} if "uuid" in line else {})).encode() + b"\n"


def measured(place: Place, megabytes: float, starts: int) -> Row:
    lines = lines_of(place.runtime)
    log = place.home / f"{megabytes:g}.jsonl"
    told = payload(EVENT, transcript_path=str(log), session_id=log.name)
    times: list[float] = []
    with log.open("wb", buffering=0) as stream:
        while stream.tell() < megabytes * 1e6:
            stream.write(next(lines))
        for _ in range(starts + 1):
            times.append(hooked(place.runtime, json.dumps(told).encode(), place))
            stream.write(next(lines) if megabytes else b"")
    median, p95 = np.percentile(times[1:], [50, 95])
    return Row(place.runtime.value, log.stat().st_size / 1e6, starts, times[0], float(median), float(p95))


def start_up(runtime: Runtime, folder: Path, starts: int) -> tuple[float, float]:
    """Milliseconds from the start of the command until it has asked, median and 95th percentile."""
    words = ["/bin/sh", "-c", install.command_line(runtime, EVENT)]
    variables = {"PATH": os.environ["PATH"], "GELERT_SOCKET": str(folder / "d")}
    times: list[float] = []
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(folder / "d"))
        door.listen()
        for _ in range(starts):
            started = time.perf_counter()
            with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables) as process:
                assert process.stdin
                process.stdin.write(json.dumps(payload(EVENT)).encode())
                process.stdin.close()
                with door.accept()[0] as connection:
                    connection.recv(1 << 16)
                    times.append(1000 * (time.perf_counter() - started))
                    connection.sendall(ANSWER)
            assert process.returncode == 0
    median, p95 = np.percentile(times, [50, 95])
    return float(median), float(p95)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=50)
    parser.add_argument("--sizes", type=float, nargs="+", default=[0.0, 0.1, 1.0, 5.0], help="Megabytes of the log")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[Row] = []
    for runtime in (Runtime.CODEX, Runtime.CLAUDE_CODE):
        with tempfile.TemporaryDirectory() as folder:
            place = Place(runtime, Path(sys.executable), Path(folder))
            place.home.mkdir()
            median, p95 = start_up(runtime, place.root, options.starts)
            print(f"{runtime.value}: asks {median:.1f} ms after its start (p95 {p95:.1f})")
            with service(place):
                for megabytes in options.sizes:
                    rows.append(row := measured(place, megabytes, options.starts))
                    took = f"median {row.median:.1f} ms, p95 {row.p95:.1f}, first {row.first:.1f}"
                    print(f"  {row.megabytes:6.2f} MB  {took}")
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2))


if __name__ == "__main__":
    main()
