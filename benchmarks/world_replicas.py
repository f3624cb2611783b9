"""Worlds behind one port: calls a second by how many replicas share it, and how evenly.

Clients are processes that write requests and read answers on kept connections, and nothing else, so that on a small
machine most of it is left to the servers. Each episode is begun on one connection and called on another, at random. The
servers' own time a call says what they would do on cores of their own.

    python benchmarks/world_replicas.py [--replicas 1 2 4] [--clients 2] [--connections 32] [--calls 20000]
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

TASK = "mail/answer_mail/0/clean"
CALL = {"tool_name": "read_mail", "arguments": {"mail": "m1"}}
MOST_CALLS = 40
"""Of an episode; more are refused."""


class Line:
    """A kept connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def post(self, path: str, body: bytes) -> bytes:
        """The body of the answer, whose status must be 200."""
        head = f"POST {path} HTTP/1.1\r\nhost: worlds\r\ncontent-length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        told = await self._reader.readuntil(b"\r\n\r\n")
        length = int(told.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        data = await self._reader.readexactly(length)
        if not told.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(data.decode())
        return data


async def load(port: int, connections: int, calls: int, seed: int) -> tuple[float, float, list[float], list[str]]:
    """When the calls began and ended, how long each took, and the replicas that the episodes were on."""
    lines = [Line(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(connections)]
    start = json.dumps({"task_id": TASK}).encode()
    begun = [await lines[n % connections].post("/episodes/start", start) for n in range(-(-calls // MOST_CALLS))]
    keys = [json.loads(one)["episode_id"] for one in begun]
    work = [key for key in keys for _ in range(MOST_CALLS)][:calls]
    random.Random(seed).shuffle(work)
    body, waits, left = json.dumps(CALL).encode(), list[float](), iter(work)

    async def worker(line: Line) -> None:
        for key in left:
            since = time.perf_counter()
            await line.post(f"/episodes/{key}/tool-call", body)
            waits.append(time.perf_counter() - since)

    began = time.time()
    await asyncio.gather(*map(worker, lines))
    return began, time.time(), waits, [key.split(".")[0] if "." in key else "0" for key in keys]


def client(told: tuple[int, int, int, int]) -> tuple[float, float, list[float], list[str]]:
    return asyncio.run(load(*told))


@contextmanager
def served(replicas: int, port: int) -> Generator[list[int]]:
    """The processes of so many replicas behind the port."""
    command = [sys.executable, "-m", "gelert.cli.main", "worlds", "serve", "mail", "--port", str(port)]
    process = subprocess.Popen([*command, "--replicas", str(replicas)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    process.stderr.readline()
    until = time.monotonic() + 60
    while time.monotonic() < until and not ready(port):
        time.sleep(0.1)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as told:
            rows = json.load(told).get("replicas", [{"process": process.pid}])
        yield [row["process"] for row in rows]
    finally:
        process.terminate()
        process.wait()


def cpu_seconds(processes: Sequence[int]) -> float:
    """Of processor time that these have used."""
    ticks = 0
    for process in processes:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def ready(port: int) -> bool:
    try:
        asyncio.run(load(port, 1, 1, 0))
    except OSError:
        return False
    return True


def measure(replicas: int, options: argparse.Namespace) -> str:
    """A row of the table."""
    port, each = options.port, options.connections // options.clients
    with served(replicas, port) as processes, multiprocessing.get_context("spawn").Pool(options.clients) as pool:
        told = [(port, each, options.calls // options.clients, seed) for seed in range(options.clients)]
        pool.map(client, [(port, each, 200, seed) for seed in range(options.clients)])  # warm
        used = cpu_seconds(processes)
        found = pool.map(client, told)
        used = cpu_seconds(processes) - used
    seconds = max(end for _, end, _, _ in found) - min(began for began, _, _, _ in found)
    waits = sorted(wait for _, _, part, _ in found for wait in part)
    homes = Counter(home for _, _, _, part in found for home in part)
    spread = ", ".join(f"{homes[str(n)]}" for n in range(replicas))
    p50, p99 = statistics.median(waits), waits[int(0.99 * len(waits))]
    rate, own = len(waits) / seconds, 1e3 * used / len(waits)
    return f"{replicas:8}  {rate:7,.0f}  {1e3 * p50:6.2f}  {1e3 * p99:6.2f}  {own:14.3f}  {spread}"


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--clients", type=int, default=1, help="processes")
    parser.add_argument("--connections", type=int, default=32, help="of all clients together")
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--port", type=int, default=18_085)
    options = parser.parse_args(words)
    print("replicas  calls/s  p50 ms  p99 ms  server ms/call  episodes on each")
    for replicas in options.replicas:
        print(measure(replicas, options), flush=True)


if __name__ == "__main__":
    main()
