"""Judging many runs through a vLLM server: runs a second by how many are asked about at once, and what its cache held.

Without an address, a scripted server stands in for vLLM: it answers after a fixed time however many ask, so the figures
are the most that asking at once can gain, and what the client costs. On a machine with a GPU, ``--serve`` starts vLLM.

    python benchmarks/judge_batch.py [--seconds 0.2] [--at-once 1 8 32 128] [--runs 256]
    python benchmarks/judge_batch.py --serve AI45Research/AgentDoG1.5-4B --contract agentdog-1.5-coarse --data logs/
    python benchmarks/judge_batch.py --serve Qwen/Qwen3-4B --adapter my-guard=adapters/my-guard --data logs/
    python benchmarks/judge_batch.py --url http://host:8000/v1 --model AgentDoG1.5-4B --data logs/
"""

import argparse
import importlib.util
import multiprocessing
import os
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path

from gelert.backends.base import Answer, Reply, Request, in_order
from gelert.backends.http import Endpoint, HttpBackend
from gelert.backends.served import load, served
from gelert.core.errors import BackendError, GelertError
from gelert.core.example import Example
from gelert.core.trajectory import Trajectory
from gelert.core.verdict import Unreadable, Verdict
from gelert.guard.endpoint import EndpointGuard
from gelert.guard.formats import read

ROOT = Path(__file__).parents[1]
START_SECONDS = 900
"""A server that is started may load a model of some gigabytes."""


@dataclass
class Counted:
    """A backend that counts the tokens of the prompts and of the cache."""

    backend: HttpBackend
    prompt_tokens: int = 0
    cached_tokens: int = 0
    tells: bool = False
    """Whether the server says what its cache held."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def name(self) -> str:
        """That of the backend."""
        return self.backend.name

    @property
    def concurrency(self) -> int:
        """That of the backend."""
        return self.backend.concurrency

    def ask(self, request: Request) -> Reply:
        """The backend's reply."""
        reply = self.backend.ask(request)
        if isinstance(reply, Answer):
            with self._lock:
                self.tells |= reply.cached_tokens is not None
                self.prompt_tokens += reply.prompt_tokens or 0
                self.cached_tokens += reply.cached_tokens or 0
        return reply


def salted(runs: Sequence[Trajectory], count: int, salt: int) -> Iterator[Trajectory]:
    """So many runs; each begins with a word of its own, so that no cache holds more of them than what all share."""
    for number in range(count):
        run = runs[number % len(runs)]
        first = replace(run.steps[0], text=f"[{salt}.{number}] {run.steps[0].text}")
        yield replace(run, steps=(first, *run.steps[1:]))


def measure(options: argparse.Namespace, url: str, runs: Sequence[Trajectory], at_once: int) -> str:
    """A row of the table."""
    waits: list[float] = []

    def judge(run: Trajectory) -> Verdict:
        since = time.perf_counter()
        verdict = guard.judge(run)
        waits.append(time.perf_counter() - since)
        return verdict

    endpoint = Endpoint(url, options.model, max_concurrency=at_once, read_seconds=600, deadline_seconds=600)
    with HttpBackend(endpoint) as http:
        counted = Counted(http)
        guard = EndpointGuard(counted, options.contract)
        started = time.perf_counter()
        verdicts = list(in_order(judge, salted(runs, options.runs, at_once), at_once))
        seconds = time.perf_counter() - started
    unreadable = [v.reason for v in verdicts if isinstance(v, Unreadable)]
    if len(unreadable) == len(verdicts):
        raise BackendError(f"expected verdicts, got none; the first says: {unreadable[0]}")
    cached = f"{counted.cached_tokens / counted.prompt_tokens:8.1%}" if counted.tells else "unknown"
    median = statistics.median(waits)
    return f"{at_once:7}  {len(verdicts) / seconds:8.2f}  {median:12.3f}  {cached:>8}  {len(unreadable):10}"


@contextmanager
def existing(options: argparse.Namespace) -> Generator[str]:
    yield options.url


@contextmanager
def scripted(options: argparse.Namespace) -> Generator[str]:
    """The address of a scripted server in a process of its own."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve_scripted, args=(there, options.seconds), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}/v1"
    finally:
        process.terminate()
        process.join()


def serve_scripted(pipe: Connection, seconds: float) -> None:
    import uvicorn

    sys.path.insert(0, str(ROOT))
    from tests.scripted_vllm import ScriptedVllm

    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(ScriptedVllm(seconds=seconds).app(), log_level="warning"))
    pipe.send(listening.getsockname()[1])
    server.run(sockets=[listening])


@contextmanager
def vllm(options: argparse.Namespace) -> Generator[str]:
    """The address of a vLLM that is started for as long as the block lasts."""
    if importlib.util.find_spec("vllm") is None or shutil.which("vllm") is None:
        raise SystemExit(
            "expected vLLM beside Gelert, found none; on a machine with a GPU: pip install vllm, in an environment of"
            " its own if it wants another torch, and then --url http://host:8000/v1 --model NAME"
        )
    command = ["vllm", "serve", options.serve, "--port", str(options.port), "--enable-prefix-caching"]
    command += ["--enable-prompt-tokens-details", "--max-model-len", str(options.context)]
    if options.adapter:
        command += ["--enable-lora", "--max-lora-rank", str(options.rank)]
    process = subprocess.Popen(command, env=os.environ | {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"})
    try:
        url = f"http://127.0.0.1:{options.port}/v1"
        wait(process, url)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def wait(process: "subprocess.Popen[bytes]", url: str) -> None:
    """Until the server lists its models."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise SystemExit(f"expected vLLM to start, it ended with {process.returncode}; its words stand above")
        try:
            served(url)
        except BackendError:
            time.sleep(2)
        else:
            return
    raise SystemExit(f"expected vLLM to be ready within {START_SECONDS} s, it was not")


def trajectories(paths: Sequence[Path]) -> list[Trajectory]:
    found = [one.trajectory for path in paths for one in read(path) if isinstance(one, Example)]
    runs = [run for run in found if run.steps]
    if not runs:
        raise SystemExit(f"expected agent logs in {[str(p) for p in paths]}, found none")
    return runs


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--url", help="a server that runs already, up to and with /v1")
    where.add_argument("--serve", metavar="MODEL", help="start vLLM with this model, a hub id or a folder")
    parser.add_argument("--model", help="its name on the server; default: that of --serve, or the adapter's")
    parser.add_argument("--adapter", metavar="NAME=FOLDER", help="loaded by name and asked instead of the model")
    parser.add_argument("--rank", type=int, default=64, help="largest rank of an adapter")
    parser.add_argument("--context", type=int, default=16_384)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--contract", default="agentdog-1.0-coarse")
    parser.add_argument("--data", type=Path, nargs="+", default=[ROOT / "examples" / "logs"])
    parser.add_argument("--runs", type=int, default=256, help="of each measurement; the logs are repeated")
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--seconds", type=float, default=0.2, help="of an answer of the scripted server")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    runs = trajectories(options.data)
    name, _, folder = (options.adapter or "").partition("=")
    options.model = options.model or name or options.serve or "base"
    server = existing if options.url else vllm if options.serve else scripted
    with server(options) as url:
        if folder:
            load(url, name, folder)
        print(f"{options.contract} on {options.model}, {options.runs} runs out of {len(runs)} logs")
        print("at once    runs/s  median s/run    cached  unreadable")
        for at_once in options.at_once:
            print(measure(options, url, runs, at_once), flush=True)


if __name__ == "__main__":
    try:
        main()
    except GelertError as fault:
        sys.exit(str(fault))
