"""Several servers of worlds on one machine behind one port: started, watched, started anew, and ended together.

Each listens on the port itself, and the system spreads connections among them; see ``gelert.worlds.sharded`` for how a
call reaches the episode that it is about.
"""

import asyncio
import multiprocessing
import os
import socket
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING

from gelert.core.errors import InputError

if TYPE_CHECKING:
    import uvicorn

MOST_CONNECTIONS = 4096
"""To one replica."""
START_SECONDS = 120.0
STOP_SECONDS = 10.0
SOON_SECONDS = 10.0
"""A replica that ends sooner after its start is started anew after a pause, which doubles each time."""
LONGEST_PAUSE_SECONDS = 30.0


@dataclass(frozen=True)
class Plan:
    """What every replica is to serve, and where."""

    worlds: tuple[str, ...]
    """Of the catalogue; all where there are none."""
    host: str
    port: int
    count: int
    """Replicas."""
    most: int
    """Episodes at once, of all together."""
    seconds: float
    """That an episode lives after its last call."""
    seed: int
    """Of the sampler."""
    name: str = ""
    """Of this machine among several."""


@dataclass
class _Replica:
    """One place among the replicas, and the process that is in it now."""

    number: int
    generation: int = -1
    process: SpawnProcess | None = None
    pipe: Connection | None = None
    """The process ends when the other end of it is closed, so none outlives its parent."""
    started: float = 0.0
    pause: float = 0.0
    due: float = 0.0
    """When it is to be started anew, if it is not running."""


def serve(plan: Plan, ready: Callable[[str, int], None], tell: Callable[[str], None]) -> None:
    """Serve until an exception comes, such as that of a signal; then all replicas are ended.

    Args:
        plan: what is served.
        ready: called with address and port once all replicas listen.
        tell: called with a line for each replica that ended and was started anew.

    Raises:
        InputError: the port cannot be had, or a replica does not start.
    """
    with tempfile.TemporaryDirectory(prefix="gelert-worlds-") as folder, _reserved(plan.host, plan.port) as port:
        kept = replace(plan, port=port)
        replicas = [_Replica(number) for number in range(plan.count)]
        try:
            for one in replicas:
                _start(one, kept, Path(folder))
            for one in replicas:
                _await_ready(one)
            ready(plan.host, port)
            while True:
                _watch(replicas, kept, Path(folder), tell)
        finally:
            _end(replicas)


def _start(one: _Replica, plan: Plan, folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    one.pipe, theirs = context.Pipe()
    one.generation += 1
    one.started = time.monotonic()
    told = (plan, one.number, one.generation, str(folder), theirs)
    one.process = context.Process(target=_replica, args=told, name=f"gelert-worlds-{one.number}", daemon=True)
    one.process.start()
    theirs.close()


def _await_ready(one: _Replica) -> None:
    assert one.pipe is not None
    with suppress(EOFError, OSError):
        if one.pipe.poll(START_SECONDS):
            one.pipe.recv()
            return
    raise InputError(f"expected replica {one.number} to start, it did not; its own words stand above")


def _watch(replicas: Sequence[_Replica], plan: Plan, folder: Path, tell: Callable[[str], None]) -> None:
    """Wait until one ends or is due, and do what is to be done then."""
    now = time.monotonic()
    for one in replicas:
        if one.process is None and one.due <= now:
            _start(one, plan, folder)
    running = {one.process.sentinel: one for one in replicas if one.process is not None}
    due = [one.due for one in replicas if one.process is None]
    for sentinel in wait(list(running), max(0.0, min(due) - now) if due else None):
        assert isinstance(sentinel, int)
        _bury(running[sentinel], tell)


def _bury(one: _Replica, tell: Callable[[str], None]) -> None:
    assert one.process is not None
    assert one.pipe is not None
    one.process.join()
    now = time.monotonic()
    soon = now - one.started < SOON_SECONDS
    one.pause = min(max(0.5, 2 * one.pause), LONGEST_PAUSE_SECONDS) if soon else 0.0
    one.due = now + one.pause
    tell(
        f"replica {one.number} ended with {one.process.exitcode}; its episodes are lost, and it is started anew"
        + (f" in {one.pause:g} s" if one.pause else "")
    )
    one.pipe.close()
    one.process = one.pipe = None


def _end(replicas: Sequence[_Replica]) -> None:
    running = [one.process for one in replicas if one.process is not None]
    for process in running:
        process.terminate()
    until = time.monotonic() + STOP_SECONDS
    for process in running:
        process.join(max(0.0, until - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


@contextmanager
def _reserved(host: str, port: int) -> Generator[int]:
    """A port that the replicas share for as long as the block lasts; the socket that keeps it does not listen."""
    # Asked for alone first: others who share theirs would share this one, and take half of what comes.
    _bound(host, port, shared=False).close()
    with _bound(host, port) as kept:
        yield kept.getsockname()[1]


def _bound(host: str, port: int, *, shared: bool = True) -> socket.socket:
    # The protocol is named, for asyncio turns Nagle's algorithm off on such sockets only.
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        found.bind((host, port))
    except OSError as fault:
        found.close()
        raise InputError(f"expected a free port, got {fault.strerror} ({host}:{port}); pass --port") from None
    return found


def _replica(plan: Plan, number: int, generation: int, folder: str, pipe: Connection) -> None:
    """The whole of a replica's process."""
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(plan, number, generation, Path(folder), pipe))


async def _serve(plan: Plan, number: int, generation: int, folder: Path, pipe: Connection) -> None:
    import uvicorn

    from gelert.worlds.catalogue import catalogue
    from gelert.worlds.episodes import Episodes, settle_collector
    from gelert.worlds.peers import Peer, listen
    from gelert.worlds.server import app
    from gelert.worlds.sharded import Home, Sharded

    home, places = Home(number, generation, plan.name), [folder / f"{at}.sock" for at in range(plan.count)]
    most = -(-plan.most // plan.count)
    kept = Episodes(catalogue(plan.worlds), most=most, seconds=plan.seconds, seed=plan.seed, prefix=home.prefix)
    peers = [Peer(place) for place in places]
    sharded = Sharded(app(kept), home, peers)
    settle_collector()
    places[number].unlink(missing_ok=True)
    asked = await listen(places[number], sharded.answer)
    server = uvicorn.Server(
        uvicorn.Config(
            sharded,
            log_level="warning",
            lifespan="off",
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=int(STOP_SECONDS) // 2,
        )
    )
    telling = asyncio.create_task(_tell_when_ready(server, pipe))
    with _bound(plan.host, plan.port) as door:
        await server.serve([door])
    telling.cancel()
    asked.close()
    for peer in peers:
        await peer.close()


async def _tell_when_ready(server: "uvicorn.Server", pipe: Connection) -> None:
    def orphaned() -> None:
        server.should_exit = True
        loop.remove_reader(pipe.fileno())

    loop = asyncio.get_running_loop()
    loop.add_reader(pipe.fileno(), orphaned)  # nothing is ever sent: what comes is the end
    while not server.started:
        await asyncio.sleep(0.01)
    with suppress(OSError):
        pipe.send(os.getpid())
