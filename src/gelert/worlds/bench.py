"""How many environments a process holds, and how fast they answer: in process and over HTTP, against load."""

import asyncio
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gelert.worlds.agents import follow
from gelert.worlds.catalogue import catalogue
from gelert.worlds.episode import Episode
from gelert.worlds.episodes import Episodes, Fault, settle_collector

Calls = Sequence[tuple[str, str]]
"""Tool and JSON text of the arguments."""


@dataclass(frozen=True)
class Load:
    """What was measured at one load."""

    loaded: int
    """Environments, each of its own task and with its own state."""
    active: int
    """Of these, under way at once, round after round until each has been."""
    concurrent: int
    """Calls asked for at once."""
    load_seconds: float
    fork_microseconds: float
    """To fork a state, the mean of many."""
    calls: int
    calls_a_second: float
    """On one core, JSON text in and out, one after another."""
    p50_microseconds: float
    """From a call's being asked for to its answer, among ``concurrent`` others."""
    p99_microseconds: float
    resident_mib: float
    """Of the process at the end, with the history of every call."""
    peak_mib: float


@dataclass(frozen=True)
class Served:
    """What was measured over HTTP at one number of calls at once."""

    loaded: int
    concurrent: int
    calls: int
    calls_a_second: float
    p50_milliseconds: float
    p99_milliseconds: float
    resident_mib: float
    """Of the server's process."""


def scripts(names: Sequence[str], episodes: Episodes) -> dict[str, Calls]:
    """What the oracle or the victim calls in each of some tasks."""
    found: dict[str, Calls] = {}
    for name in dict.fromkeys(names):
        begun = episodes.start(name)
        assert not isinstance(begun, Fault)
        key, episode = begun
        risk = episode.beginning.task.risk
        follow(risk.victim if risk else episode.beginning.task.family.oracle)(episode)
        found[name] = [(one.tool, one.arguments) for one in episode.calls]
        episodes.drop(key)
    return found


def measure(loaded: int, active: int, concurrent: int, worlds: Sequence[str] = (), seed: int = 0) -> Load:
    """Load environments and play each to its end, ``active`` of them at a time.

    Args:
        loaded: environments.
        active: at most ``loaded``.
        concurrent: calls asked for at once, at most ``active``.
        worlds: of the catalogue; all where there are none.
        seed: of the choice of tasks.
    """
    episodes = Episodes(catalogue(worlds), most=loaded + 1, seed=seed)
    names = _draw(episodes, loaded)
    told = scripts(names, episodes)
    started = time.perf_counter()
    live = [_begun(episodes, name) for name in names]
    load_seconds = time.perf_counter() - started
    settle_collector()
    asked = [(episode, told[name]) for episode, name in zip(live, names, strict=True)]
    half = len(asked) // 2 or 1
    calls, seconds = 0, 0.0
    for first in range(0, half, active):
        done, took = _one_after_another(asked[first : min(first + active, half)])
        calls, seconds = calls + done, seconds + took
    waits: list[float] = []
    for first in range(half, len(asked), active):
        waits += asyncio.run(_at_once(asked[first : first + active], concurrent))
    waits.sort()
    return Load(
        loaded, active, concurrent, load_seconds, _fork_microseconds(live[0]), calls + len(waits), calls / seconds,
        1e6 * _quantile(waits, 0.5), 1e6 * _quantile(waits, 0.99), resident_mib("self"), peak_mib(),
    )  # fmt: skip


def served(
    loaded: int, concurrent: Sequence[int], calls: int, worlds: Sequence[str] = (), seed: int = 0
) -> list[Served]:
    """The same through a server in a process of its own, on the loopback interface.

    Args:
        loaded: episodes begun before anything is measured.
        concurrent: numbers of calls at once, one measurement each.
        calls: of each measurement.
        worlds: of the catalogue; all where there are none.
        seed: of the choice of tasks.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, tuple(worlds), loaded), daemon=True)
    process.start()
    port: int = here.recv()
    try:
        return asyncio.run(_ask(port, loaded, concurrent, calls, worlds, seed, process.pid or 0))
    finally:
        process.terminate()
        process.join()


def resident_mib(process: int | str) -> float:
    """Memory of a process that is in the machine's, MiB; 0.0 where the system does not tell."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
        return pages * resource.getpagesize() / 2**20
    except OSError:
        return 0.0


def peak_mib() -> float:
    """The most memory that this process has had, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _draw(episodes: Episodes, count: int) -> list[str]:
    names: list[str] = []
    while len(names) < count:
        drawn = episodes.sample(min(1000, count - len(names)))
        assert not isinstance(drawn, Fault)
        names += [task.name for task in drawn]
    return names


def _begun(episodes: Episodes, name: str) -> Episode:
    begun = episodes.start(name)
    assert not isinstance(begun, Fault)
    return begun[1]


Asked = Sequence[tuple[Episode, Calls]]


def _rounds(asked: Asked) -> list[list[tuple[Episode, str, str]]]:
    """First calls of all, second calls of all, and so on."""
    longest = max((len(calls) for _, calls in asked), default=0)
    return [[(one, *calls[at]) for one, calls in asked if at < len(calls)] for at in range(longest)]


def _one_after_another(asked: Asked) -> tuple[int, float]:
    rounds = _rounds(asked)
    started = time.perf_counter()
    for calls in rounds:
        for episode, tool, arguments in calls:
            episode.call(tool, arguments)
    return sum(map(len, rounds)), time.perf_counter() - started


async def _at_once(asked: Asked, concurrent: int) -> list[float]:
    waits: list[float] = []

    async def one(episode: Episode, tool: str, arguments: str, since: float) -> None:
        episode.call(tool, arguments)
        waits.append(time.perf_counter() - since)

    for calls in _rounds(asked):
        for first in range(0, len(calls), concurrent):
            since = time.perf_counter()
            await asyncio.gather(*(one(*call, since) for call in calls[first : first + concurrent]))
    return waits


def _fork_microseconds(episode: Episode, times: int = 200_000) -> float:
    state = episode.beginning.state
    started = time.perf_counter()
    for _ in range(times):
        state.fork()
    return 1e6 * (time.perf_counter() - started) / times


def _quantile(values: Sequence[float], share: float) -> float:
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def _serve(pipe: object, worlds: Sequence[str], most: int) -> None:
    import socket
    from multiprocessing.connection import Connection

    import uvicorn

    from gelert.worlds.server import app

    assert isinstance(pipe, Connection)
    # The protocol is named, for asyncio turns Nagle's algorithm off on such sockets only.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app(Episodes(catalogue(worlds), most=most)), log_level="warning"))
    settle_collector()
    pipe.send(listening.getsockname()[1])
    server.run(sockets=[listening])


async def _ask(
    port: int, loaded: int, concurrent: Sequence[int], calls: int, worlds: Sequence[str], seed: int, process: int
) -> list[Served]:
    import httpx

    episodes = Episodes(catalogue(worlds), most=loaded + 1, seed=seed)
    names = _draw(episodes, loaded)
    told = scripts(names, episodes)
    limits = httpx.Limits(max_connections=max(concurrent), max_keepalive_connections=max(concurrent))
    base = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=base, limits=limits, timeout=120, trust_env=False) as client:
        keys: list[str] = []
        for name in names:
            keys.append((await client.post("/episodes/start", json={"task_id": name})).json()["episode_id"])  # noqa: PERF401
        work = [(key, *call) for key, name in zip(keys, names, strict=True) for call in told[name]]
        found: list[Served] = []
        for number, many in enumerate(concurrent):
            part = [work[(number * calls + at) % len(work)] for at in range(calls)]
            waits, seconds = await _through(client.post, part, many)
            found.append(
                Served(
                    loaded, many, len(waits), len(waits) / seconds,
                    1e3 * _quantile(waits, 0.5), 1e3 * _quantile(waits, 0.99), resident_mib(process),
                )
            )  # fmt: skip
    return found


async def _through(
    post: Callable[..., object], work: Sequence[tuple[str, str, str]], many: int
) -> tuple[list[float], float]:
    waits: list[float] = []
    left = iter(work)

    async def worker() -> None:
        for key, tool, arguments in left:
            since = time.perf_counter()
            body: Mapping[str, object] = {"tool_name": tool, "arguments": json.loads(arguments)}
            response = await post(f"/episodes/{key}/tool-call", json=body)  # pyright: ignore[reportGeneralTypeIssues]
            response.raise_for_status()
            waits.append(time.perf_counter() - since)

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(many)))
    return sorted(waits), time.perf_counter() - started
