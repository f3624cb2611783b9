"""What one more step costs behind the service with the default guard, by the length of the run.

The real command is started, and the time until it can decide is told. A run that grows out of recorded ones is sent to
it step by step (what a person says goes with the answer), and, at some lengths, as a whole that it has not seen: what a
guard without sessions would pay for every step.

    python benchmarks/serve_steps.py [--logs examples/logs] [--steps 160] [--every 20]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import httpx
import numpy as np

from gelert.core.example import Example
from gelert.core.trajectory import Role, Step
from gelert.guard.formats import read

BOUNDS = (0, 10, 20, 40, 80, 160, 320)
DEADLINE_SECONDS = 600


def grown(logs: Path, steps: int) -> list[Step]:
    """The steps of the recorded runs, one run after the other, until there are enough."""
    found = [one.trajectory for one in read(logs) if isinstance(one, Example)]
    every = [step for run in found for step in run.steps]
    return [every[at % len(every)] for at in range(steps)]


def body(steps: Sequence[Step]) -> bytes:
    return json.dumps([message(step) for step in steps]).encode()


def message(step: Step) -> dict[str, object]:
    match step.role:
        case Role.AGENT:
            calls = [{"id": c.call_id, "function": {"name": c.name, "arguments": c.arguments}} for c in step.calls]
            return {"role": "assistant", "content": step.text, **({"tool_calls": calls} if calls else {})}
        case Role.TOOL:
            return {"role": "tool", "tool_call_id": step.call_id, "content": step.text}
        case _:
            return {"role": "user", "content": step.text}


def started(folder: Path) -> tuple[subprocess.Popen[bytes], httpx.Client, float]:
    """The service, a client of it, and the seconds until it could decide."""
    socket, before = folder / "socket", time.perf_counter()
    words = ["serve", "--port", "0", "--socket", socket, "--audit", folder / "audit.db"]
    deadline = ["--deadline", str(DEADLINE_SECONDS)]
    process = subprocess.Popen(
        [sys.executable, "-m", "gelert.cli.main", *map(str, words), *deadline], stdout=subprocess.DEVNULL
    )
    door = httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://localhost", timeout=None)
    while process.poll() is None:
        try:
            if door.get("/readyz").is_success:
                return process, door, time.perf_counter() - before
        except httpx.TransportError:
            time.sleep(0.02)
    raise RuntimeError("expected a service, got one that ended at once")


def timed(door: httpx.Client, target: str, content: bytes) -> float:
    before = time.perf_counter()
    answer = door.post(target, content=content)
    seconds = time.perf_counter() - before
    assert answer.is_success, answer.text
    assert not answer.json()["degraded"], answer.text
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=Path, default=Path("examples/logs"))
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--every", type=int, default=20, help="the whole run is judged anew at every so many steps")
    options = parser.parse_args()
    steps = grown(options.logs, options.steps)
    with tempfile.TemporaryDirectory() as folder:
        process, door, ready = started(Path(folder))
        print(f"ready after {ready:.1f} s")
        appended: list[tuple[int, float]] = []
        whole: list[tuple[int, float]] = []
        sent, due = 0, options.every
        for end, step in enumerate(steps, start=1):
            if step.role not in (Role.AGENT, Role.TOOL):
                continue
            target = f"/v1/sessions/run/steps?format=openai&after={sent}"
            appended.append((sent, timed(door, target, body(steps[sent:end]))))
            sent = end
            if sent >= due:
                whole.append((sent, timed(door, "/v1/judge?format=openai", body(steps[:sent]))))
                due += options.every
        process.terminate()
        assert process.wait() == 0
    print("| steps before | one more step, ms: median | 90 % | most | whole run anew, ms: median | times |")
    print("|---" * 6 + "|")
    for low, high in pairwise(BOUNDS):
        own = np.array([seconds for length, seconds in appended if low <= length < high]) * 1000
        if len(own):
            anew = [seconds for length, seconds in whole if low < length <= high]
            told = f"{np.median(anew) * 1000:.0f} | {np.median(anew) * 1000 / np.median(own):.0f}" if anew else " | "
            figures = f"{np.median(own):.0f} | {np.percentile(own, 90):.0f} | {own.max():.0f}"
            print(f"| {low} to {high - 1} | {figures} | {told} |")


if __name__ == "__main__":
    main()
