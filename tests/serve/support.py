"""A whole service in one process, and the few words that tests need to speak to it."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from gelert.core.trajectory import Role, Step, ToolCall, Trajectory
from gelert.guard.guard import Guard
from gelert.guard.policy import Policy
from gelert.serve.app import build
from gelert.serve.audit import Audit, key_path, read_key
from gelert.serve.audit_check import Checked, check
from gelert.serve.engine import Engine, Limits, PolicySource
from gelert.serve.gate import Settings
from tests.serve.scripted_guard import MARK, ScriptedGuard

TOKEN = "t" * 32

CALM = [{"role": "user", "content": "tidy up"}, {"role": "assistant", "content": "done"}]
MARKED = [{"role": "user", "content": "tidy up"}, {"role": "assistant", "content": f"here: {MARK}"}]


@dataclass
class Service:
    """A client that has the token, and what is behind it."""

    client: TestClient
    engine: Engine
    path: Path

    def judge(self, run: object, **query: Any) -> dict[str, Any]:
        body = run if isinstance(run, bytes) else json.dumps(run).encode()
        return self.client.post("/v1/judge", content=body, params=query).json()

    def checked(self) -> Checked:
        return checked(self.path)


@contextmanager
def service(
    folder: Path,
    guard: Guard | None = None,
    policy: PolicySource | Policy | None = None,
    limits: Limits = Limits(deadline_seconds=5.0),  # noqa: B008 - frozen
) -> Generator[Service]:
    """A service for as long as the block lasts."""
    path = folder / "audit.db"
    engine = Engine(guard or ScriptedGuard(), policy or Policy(), Audit(path), limits)
    client = TestClient(build(engine, Settings(TOKEN)), base_url="http://127.0.0.1:8787")
    client.headers["authorization"] = f"Bearer {TOKEN}"
    with client:
        yield Service(client, engine, path)


def checked(path: Path) -> Checked:
    return check(path, read_key(key_path(path)))


def said(text: str = "done", *, calls: tuple[ToolCall, ...] = ()) -> Trajectory:
    """A user asks, the agent answers or calls."""
    return Trajectory((Step(Role.USER, "tidy up"), Step(Role.AGENT, text, calls=calls)))
