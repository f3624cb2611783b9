"""What writing a decision down costs: in a file, in PostgreSQL, and in a file with a span of each decision sent beside.

Askers ask an engine whose guard costs nothing, each as soon as it has its answer (closed loop): one alone, and many at
once. The database must have the tables (gelert audit schema); a fresh chain is begun in it. Spans go to where the
OTEL_* variables say, a dead collector by default.

    python benchmarks/serve_audit.py [--url postgresql://...] [--askers 200] [--decisions 20000]
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from gelert.core.trajectory import Role, Step, Trajectory
from gelert.core.verdict import Reading, Safe, Verdict
from gelert.guard.policy import Policy, Surface
from gelert.serve import telemetry
from gelert.serve.asked import Asked
from gelert.serve.audit import Audit
from gelert.serve.audit_postgres import PostgresStore
from gelert.serve.engine import Engine

ASKED = Asked(Surface.REPLY, Trajectory((Step(Role.USER, "tidy up"), Step(Role.AGENT, "The build passed. " * 20))))


Beside = Callable[[Engine], AbstractContextManager[object]]
Kind = tuple[Callable[[Path], Audit], Beside]
"""Opens an audit, and what else is done meanwhile."""


@dataclass(frozen=True)
class FreeGuard:
    """Costs next to nothing, so that all that is measured is the service."""

    name: str = "free"
    concurrency: int = 1

    def judge(self, trajectory: Trajectory) -> Verdict:
        """Safe."""
        return Safe(0.1, Reading(len(trajectory.steps), len(trajectory.steps)))


async def measured(audit: Audit, askers: int, decisions: int, beside: Beside) -> tuple[float, list[float]]:
    """Decisions a second, and the milliseconds of each."""
    engine, taken = Engine(FreeGuard(), Policy(), audit), list[float]()

    async def ask(count: int) -> None:
        for _ in range(count):
            answered = await engine.decide(ASKED)
            assert answered.number, "expected every decision on record"
            taken.append(answered.milliseconds)

    with beside(engine):
        start = time.perf_counter()
        await asyncio.gather(*(ask(decisions // askers) for _ in range(askers)))
        took = time.perf_counter() - start
    await engine.close()
    return len(taken) / took, taken


def in_database(url: str, path: Path) -> Audit:
    """A fresh chain."""
    return Audit(path, store=partial(PostgresStore, url, f"benchmark-{time.time_ns()}"))


def main() -> None:
    """Measure each in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="of a database; without it PostgreSQL is left out")
    parser.add_argument("--askers", type=int, default=200)
    parser.add_argument("--decisions", type=int, default=20_000)
    given = parser.parse_args()
    kinds: dict[str, Kind] = {
        "file": (Audit, nullcontext),
        "file, power-safe": (partial(Audit, power_safe=True), nullcontext),
        "file, spans": (Audit, telemetry.exported),
    }
    if given.url:
        kinds["PostgreSQL"] = (partial(in_database, given.url), nullcontext)
    print("| audit | askers | decisions/s | p50 ms | p99 ms |\n|---|---|---|---|---|")
    for name, (opened, beside) in kinds.items():
        for askers, decisions in ((1, given.decisions // 20), (given.askers, given.decisions)):
            with tempfile.TemporaryDirectory() as folder:
                rate, taken = asyncio.run(measured(opened(Path(folder) / "audit.db"), askers, decisions, beside))
            p50, p99 = np.percentile(taken, [50, 99])
            print(f"| {name} | {askers} | {rate:,.0f} | {p50:.1f} | {p99:.1f} |", flush=True)


if __name__ == "__main__":
    main()
