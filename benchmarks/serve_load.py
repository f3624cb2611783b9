"""The service under load: what it adds to a decision, its memory over time, and whether the audit lost anything.

A server of its own process judges with a guard that costs nothing; clients in this process hold one growing session
each and ask at a fixed pace, whether or not the answers come (open loop). Half-way the server is killed (SIGKILL) and
started again on the same audit. Server and clients share the cores; time is taken inside the server, from the last
byte of the request to the last byte of the answer, and at the clients beside it.

    python benchmarks/serve_load.py [--sessions 200] [--seconds 300] [--rate 0.5] [--out DIR]

The exit code is 1 when a record is missing or the chain is not whole.
"""

import argparse
import asyncio
import json
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from array import array
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gelert.core.trajectory import Role, Trajectory
from gelert.core.verdict import Reading, Safe, Unsafe, Verdict
from gelert.guard.policy import Policy
from gelert.serve import listen
from gelert.serve.app import build
from gelert.serve.audit import Audit, key_path, read_key
from gelert.serve.audit_check import check
from gelert.serve.engine import Engine, Limits
from gelert.serve.gate import Settings

LIMITS = Limits()
TOKEN = "benchmark-benchmark-benchmark"
MOST_STEPS = 60
"""A session begins anew after so many."""
TEXT = "The build passed and the report is written. " * 8


@dataclass(frozen=True)
class FreeGuard:
    """Costs next to nothing, so that all that is measured is the service."""

    name: str = "free"
    concurrency: int = 1

    def judge(self, trajectory: Trajectory) -> Verdict:
        """Unsafe if the agent's last words say so."""
        last = trajectory.steps[-1]
        reading = Reading(len(trajectory.steps), len(trajectory.steps))
        return Unsafe(0.9, reading) if last.role is Role.AGENT and "UNSAFE" in last.text else Safe(0.1, reading)


class Clock:
    """Notes how long the application below it takes, from the last byte of a request to the last of its answer.

    ``/measured`` gives what was noted since it was asked last.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._milliseconds = array("d")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http" and scope["path"] == "/measured":
            noted, self._milliseconds = list(self._milliseconds), array("d")
            await Response(json.dumps(noted))(scope, receive, send)
            return
        whole = time.perf_counter()

        async def received() -> Message:
            nonlocal whole
            message = await receive()
            whole = time.perf_counter()
            return message

        await self._app(scope, received, send)
        if scope["type"] == "http" and scope["path"].endswith("/steps"):
            self._milliseconds.append((time.perf_counter() - whole) * 1000)


def server(folder: Path) -> None:
    engine = Engine(FreeGuard(), Policy(), Audit(folder / "audit.db"), LIMITS)
    app = build(engine, Settings(TOKEN))
    app.add_middleware(Clock)
    listen.serve(app, [listen.unix(folder / "socket")], LIMITS)


@dataclass
class Seen:
    """What the clients saw."""

    acknowledged: list[int] = field(default_factory=list[int])
    """Numbers of the records that were said to be written."""
    unanswered: int = 0
    """Requests that were cut off, or could not be made, while the server was down."""
    milliseconds: "array[float]" = field(default_factory=lambda: array("d"))
    """From when a request was due to its answer."""
    inside: "array[float]" = field(default_factory=lambda: array("d"))
    """From the last byte of a request to the last of its answer, inside the server."""
    rss: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    """(seconds, MiB)"""


class Door:
    """One connection, as cheap for the cores it shares as can be."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, target: str, body: bytes = b"", verb: str = "POST") -> tuple[int, Any]:
        """Status and JSON of the answer."""
        if self._streams is None:
            self._streams = await asyncio.open_unix_connection(str(self._path))
        reader, writer = self._streams
        try:
            head = f"{verb} {target} HTTP/1.1\r\nhost: benchmark\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
            length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
            return int(lines[0].split()[1]), json.loads(await reader.readexactly(length))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


async def session(name: str, folder: Path, every: float, until: float, seen: Seen) -> None:
    door, after, due, run = Door(folder / "socket"), 0, time.monotonic() + random.random() * every, 0
    while due < until:
        await asyncio.sleep(max(due - time.monotonic(), 0))
        call = {"id": f"c{after}", "function": {"name": "shell", "arguments": json.dumps({"command": TEXT})}}
        body = [{"role": "assistant", "content": TEXT, "tool_calls": [call]}]
        body += [{"role": "tool", "tool_call_id": f"c{after}", "content": TEXT}] if after % 2 else []
        try:
            status, answer = await door.ask(
                f"/v1/sessions/{name}-{run}/steps?format=openai&after={after}", json.dumps(body).encode()
            )
        except (OSError, EOFError):
            seen.unanswered += 1
            after, run, due = 0, run + 1, max(due + every, time.monotonic())
            continue
        assert status == HTTPStatus.OK, answer
        seen.milliseconds.append((time.monotonic() - due) * 1000)
        seen.acknowledged.append(answer["number"])
        after, due = answer["steps"], due + every
        if after >= MOST_STEPS:
            await door.ask(f"/v1/sessions/{name}-{run}", verb="DELETE")
            after, run = 0, run + 1
    door.close()


def started(folder: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, __file__, "--serve", str(folder)])
    while process.poll() is None:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(folder / "socket")) == 0:
                return process
        time.sleep(0.05)
    raise RuntimeError("expected a server, got one that ended at once")


async def watch(folder: Path, process: subprocess.Popen[bytes], until: float, seen: Seen, start: float) -> None:
    """Once a second, what the server noted and how large it is."""
    door = Door(folder / "socket")
    while time.monotonic() < until:
        await asyncio.sleep(min(1.0, max(until - time.monotonic(), 0.01)))
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        kib = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
        seen.rss.append((time.monotonic() - start, kib / 1024))
        seen.inside.extend((await door.ask("/measured"))[1])
    door.close()


async def load(folder: Path, sessions: int, seconds: float, rate: float) -> Seen:
    process = started(folder)
    seen, start = Seen(), time.monotonic()
    half, end = start + seconds / 2, start + seconds
    clients = [asyncio.create_task(session(f"s{n}", folder, 1 / rate, end, seen)) for n in range(sessions)]
    await watch(folder, process, half, seen, start)
    process.send_signal(signal.SIGKILL)
    await asyncio.to_thread(process.wait)
    process = await asyncio.to_thread(started, folder)
    await watch(folder, process, end, seen, start)
    await asyncio.gather(*clients)
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait) == 0
    return seen


def report(folder: Path, seen: Seen, options: argparse.Namespace) -> bool:
    """Print the figures; gives whether nothing was lost."""
    path = folder / "audit.db"
    found = check(path, read_key(key_path(path)))
    lost = len(set(seen.acknowledged) - set(range(1, found.records + 1)))
    twice = len(seen.acknowledged) - len(set(seen.acknowledged))
    beyond = found.records - len(seen.acknowledged)
    rows = {
        "sessions": options.sessions,
        "decisions_a_second": round(len(seen.acknowledged) / options.seconds, 1),
        **{f"inside_p{q}_ms": round(float(np.percentile(seen.inside, q)), 2) for q in (50, 99)},
        **{f"client_p{q}_ms": round(float(np.percentile(seen.milliseconds, q)), 2) for q in (50, 99)},
        "rss_mib": [round(mib, 1) for _, mib in seen.rss[:: max(len(seen.rss) // 12, 1)]],
        "acknowledged": len(seen.acknowledged),
        "records": found.records,
        "unanswered_at_the_kill": seen.unanswered,
        "lost": lost,
        "faults": list(found.faults),
    }
    for name, value in rows.items():
        print(f"{name:24} {value}", flush=True)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "serve_load.json").write_text(json.dumps({**rows, "rss": seen.rss}), encoding="utf-8")
    return not (lost or twice or found.faults or not 0 <= beyond <= seen.unanswered)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--rate", type=float, default=0.5, help="decisions a second of each session")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        server(options.serve)
        return
    with tempfile.TemporaryDirectory() as folder:
        seen = asyncio.run(load(Path(folder), options.sessions, options.seconds, options.rate))
        sys.exit(0 if report(Path(folder), seen, options) else 1)


if __name__ == "__main__":
    main()
