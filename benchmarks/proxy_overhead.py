"""What the proxy's hold costs a client: time to the first byte and to the last one, beside the bare upstream.

An upstream on loopback sends the recorded stream of each dialect event by event, ``--drip`` seconds apart. A client
asks it directly and through the proxy, in turn. The guard costs nothing, so what is measured is the hold itself: the
first byte comes when the last one has come upstream and the decision is on disk. All three share the cores.

    python benchmarks/proxy_overhead.py [--requests 200] [--drip 0.0 0.005] [--json OUT]
"""

import argparse
import json
import socket
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.serve.proxy.wire import PATHS, Client, Scripted, asks, listening, proxied, recorded  # noqa: E402
from tests.serve.scripted_guard import ScriptedGuard  # noqa: E402


@dataclass(frozen=True)
class Times:
    """Milliseconds."""

    first_median: float
    first_p99: float
    last_median: float
    last_p99: float


@dataclass(frozen=True)
class Row:
    """One dialect at one pace."""

    dialect: str
    drip_seconds: float
    events: int
    requests: int
    bare: Times
    held: Times

    @property
    def added(self) -> float:
        """To the last byte, on the median."""
        return self.held.last_median - self.bare.last_median


def timed(door: socket.socket, started: float) -> tuple[float, float]:
    """Milliseconds to the first byte of the answer's body and to its last."""
    came, first = b"", 0.0
    with door:
        while part := door.recv(1 << 16):
            came += part
            if not first and came.partition(b"\r\n\r\n")[2]:
                first = time.perf_counter() - started
    return 1000 * first, 1000 * (time.perf_counter() - started)


def times(found: list[tuple[float, float]]) -> Times:
    first, last = np.array(found).T
    return Times(*(float(np.percentile(of, part)) for of in (first, last) for part in (50, 99)))


def bare(port: int, path: str, body: bytes) -> socket.socket:
    """The same request to the upstream itself."""
    head = f"POST /{path} HTTP/1.1\r\nhost: up\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    door = socket.create_connection(("127.0.0.1", port), timeout=30)
    door.sendall(head.encode() + body)
    return door


def measured(client: Client, port: int, upstream: Scripted, dialect: str, requests: int) -> Row:
    upstream.chunks = [part + b"\n\n" for part in recorded(f"{dialect}_calls").split(b"\n\n") if part]
    body = json.dumps(asks(dialect)).encode()
    direct: list[tuple[float, float]] = []
    held: list[tuple[float, float]] = []
    for number in range(requests + 5):
        started = time.perf_counter()
        one = timed(bare(port, PATHS[dialect], body), started)
        started = time.perf_counter()
        other = timed(client.opened(PATHS[dialect], body), started)
        if number >= 5:
            direct.append(one)
            held.append(other)
    return Row(dialect, upstream.drip_seconds, len(upstream.chunks), requests, times(direct), times(held))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--drip", type=float, nargs="+", default=[0.0, 0.005])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[Row] = []
    for drip in options.drip:
        upstream = Scripted(drip_seconds=drip)
        folder = tempfile.TemporaryDirectory()
        with folder, proxied(Path(folder.name), upstream, ScriptedGuard()) as client, listening(upstream) as port:
            for dialect in PATHS:
                rows.append(row := measured(client, port, upstream, dialect, options.requests))
                print(f"{dialect}: {row.events} events, {1000 * drip:g} ms apart, added {row.added:.1f} ms")
                for name, took in (("bare", row.bare), ("held", row.held)):
                    first, last = f"{took.first_median:.1f}", f"{took.last_median:.1f}"
                    print(
                        f"  {name}  first byte {first} ms (p99 {took.first_p99:.1f}), last {last} ({took.last_p99:.1f})"
                    )
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2))


if __name__ == "__main__":
    main()
