"""The real service with the scripted guard, listening as it does for agents: on a Unix socket and on a port."""

import asyncio
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from gelert.guard.guard import Guard
from gelert.guard.policy import Policy, Rule
from gelert.serve import listen
from gelert.serve.app import build
from gelert.serve.audit import Audit
from gelert.serve.audit_check import export
from gelert.serve.engine import Engine, Limits
from gelert.serve.gate import Settings
from tests.serve.scripted_guard import ScriptedGuard

TOKEN = "t" * 32

ASKING = Policy(tool_call=Rule(block_at=0.995, ask_at=0.9))
"""Asks a person about what the scripted guard calls unsafe."""


@dataclass(frozen=True)
class Listening:
    """Where the service is, and what it has decided."""

    url: str
    engine: Engine

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(row) for row in export(self.engine.audit.path)]

    def decided(self) -> list[tuple[str, str]]:
        """Surface and kind of each decision."""
        return [(row["surface"], row["decision"]) for row in self.rows()]


@contextmanager
def listening(socket: Path, guard: Guard | None = None, policy: Policy | None = None) -> Generator[Listening]:
    """A service for as long as the block lasts; its audit is beside the socket."""
    bounds = Limits(deadline_seconds=5.0)
    engine = Engine(guard or ScriptedGuard(), policy or Policy(), Audit(socket.parent / "audit.db"), bounds)
    doors = [listen.unix(socket), listen.tcp("127.0.0.1", 0)]
    for door in doors:
        door.listen()  # who asks before the server is up waits for it
    config = uvicorn.Config(build(engine, Settings(TOKEN)), log_level="warning", timeout_graceful_shutdown=8)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(doors)))
    thread.start()
    try:
        yield Listening(f"http://127.0.0.1:{doors[1].getsockname()[1]}", engine)
    finally:
        server.should_exit = True
        thread.join()
