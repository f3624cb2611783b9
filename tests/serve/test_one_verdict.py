"""One verdict, whichever door asks: command line, service, proxy and hooks decide alike on the same log.

Each recorded log is asked about as a live service would be: at every step of the agent and every tool result. What
``gelert policy test`` says of it is compared with what stands in the audit of a service after the other doors asked. A
scripted guard that takes its risk from a digest of all that it is shown makes any difference in that show.

A proxy never sees a tool result as a question (it comes with the next request), so it is compared at the agent's steps.
"""

import hashlib
import json
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fastapi.testclient import TestClient

from gelert.cli import judge, judging, policy
from gelert.core.example import Example
from gelert.core.trajectory import Role, Step, ToolSpec, Trajectory
from gelert.core.verdict import Reading, Safe, Unsafe, Verdict
from gelert.guard.card import default_card
from gelert.guard.formats import read
from gelert.guard.guard import Guard, HeadGuard
from gelert.guard.policy_file import PolicyFile
from gelert.serve.app import build
from gelert.serve.audit import Audit
from gelert.serve.audit_check import export
from gelert.serve.engine import Engine, Limits
from gelert.serve.gate import Settings
from gelert.serve.hooks.app import router as hooks
from gelert.serve.hooks.transcript import Homes
from gelert.serve.proxy.app import PREFIX
from gelert.serve.proxy.app import router as proxy
from gelert.serve.proxy.upstream import Upstream
from tests.serve.hooks.support import payload
from tests.serve.proxy.wire import PATHS, Scripted, listening

LOGS = sorted((Path(__file__).parents[2] / "examples/logs").glob("*.jsonl"))
POLICY = "[tool_call]\nask_at = 0.3\nblock_at = 0.6\n[tool_result]\nask_at = 0.4\n"


@dataclass(frozen=True)
class DigestGuard:
    """Its risk is a digest of everything that a guard is shown of a run."""

    name: str = "digest"
    concurrency: int = 1

    def judge(self, trajectory: Trajectory) -> Verdict:
        seen = [
            (step.role, step.text, step.thought, [(call.name, call.arguments) for call in step.calls], step.is_error)
            for step in trajectory.steps
        ]
        digest = hashlib.sha256(json.dumps(seen).encode()).digest()
        risk = int.from_bytes(digest[:4]) / 2**32
        reading = Reading(len(seen), len(seen))
        return Unsafe(risk, reading) if risk >= 0.5 else Safe(risk, reading)


@dataclass(frozen=True)
class Asked:
    """One question and what was decided."""

    steps: int
    surface: str
    decision: str
    risk: object
    """A number, or one that is near it."""


@dataclass
class Doors:
    """A service with every door, and what is needed to knock at each."""

    client: TestClient
    upstream: Scripted
    homes: Homes
    audit: Path
    policy: Path
    guard: Guard
    rounding: float
    """How far two risks of the same run may lie apart: numbers are rounded differently in longer stretches of text."""

    def decided(self, ask: Callable[[], object]) -> Asked:
        """What stands in the audit after one question."""
        ask()
        row = json.loads(list(export(self.audit))[-1])
        assert row["degraded"] is False, row
        return Asked(row["steps"], row["surface"], row["decision"], pytest.approx(row["risk"], abs=self.rounding))


@contextmanager
def opened(folder: Path, guard: Guard, rounding: float) -> Generator[Doors]:
    upstream, homes = Scripted(kind="application/json"), Homes(folder / "codex", folder / "claude")
    for home in (homes.codex, homes.claude):
        home.mkdir()
    path = folder / "policy.toml"
    path.write_text(POLICY)
    engine = Engine(guard, PolicyFile(path), Audit(folder / "audit.db"), Limits(deadline_seconds=120.0))
    with listening(upstream) as port:
        routers = hooks(engine, homes), proxy(engine, [Upstream("up", f"http://127.0.0.1:{port}")])
        app = build(engine, Settings("t" * 32), *routers)
        headers = {"authorization": f"Bearer {'t' * 32}"}
        with TestClient(app, base_url="http://127.0.0.1:1", headers=headers) as client:
            yield Doors(client, upstream, homes, folder / "audit.db", path, guard, rounding)


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    with opened(tmp_path_factory.mktemp("scripted"), DigestGuard(), 1e-6) as found:
        yield found


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory, real_model: str) -> Iterator[Doors]:
    del real_model
    with opened(tmp_path_factory.mktemp("default"), HeadGuard.load(default_card()), 3e-3) as found:
        yield found


def message(step: Step) -> dict[str, Any]:
    """A step as a message of a chat. No chat has a runtime's role; one that is not known is read as that."""
    told: dict[str, Any] = {"role": step.role.value, "content": step.text or None}
    match step.role:
        case Role.AGENT:
            functions = [{"name": call.name, "arguments": call.arguments} for call in step.calls]
            pairs = zip(step.calls, functions, strict=True)
            told["role"] = "assistant"
            told["reasoning_content"] = step.thought or None
            told["tool_calls"] = [{"id": c.call_id, "type": "function", "function": f} for c, f in pairs]
        case Role.TOOL:
            told |= {"tool_call_id": step.call_id, "name": step.tool_name, "is_error": step.is_error}
        case _:
            pass
    return told


def tools(specs: tuple[ToolSpec, ...]) -> list[dict[str, Any]]:
    functions = [{"name": s.name, "description": s.description, "parameters": s.parameters} for s in specs]
    return [{"type": "function", "function": one} for one in functions]


def log(path: Path) -> Trajectory:
    (example,) = read(path)
    assert isinstance(example, Example)
    return example.trajectory


def said_by_the_command_line(doors: Doors, path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Asked]:
    """What ``gelert policy test`` says; ``gelert judge`` must agree with its last word."""
    for command in (policy, judging):
        monkeypatch.setattr(command, "open_guard", lambda *_: doors.guard)
    tried = CliRunner().invoke(policy.command, ["test", str(doors.policy), str(path), "--json"])
    rows = [json.loads(line) for line in tried.output.splitlines()]
    assert tried.exit_code == 0
    judged = CliRunner().invoke(judge.command, [str(path), "--json", "--fail-on", "unsafe"])
    whole = json.loads(judged.output)
    assert rows[-1]["step"] == len(log(path).steps) - 1
    assert (whole["verdict"], whole["risk"]) == (rows[-1]["verdict"], pytest.approx(rows[-1]["risk"], abs=1e-3))
    assert judged.exit_code == (1 if rows[-1]["verdict"] == "unsafe" else 0)
    return [Asked(row["step"] + 1, row["surface"], row["decision"], row["risk"]) for row in rows]


def through_the_service(doors: Doors, run: Trajectory, key: str, expected: list[Asked]) -> list[Asked]:
    """A session that grows step by step, asked about where the command line was."""
    found: list[Asked] = []
    for number, step in enumerate(run.steps):
        address = f"/v1/sessions/{key}/steps?after={number}&format=openai"
        body = {"messages": [message(step)], "tools": tools(run.tools)}
        if number + 1 in {one.steps for one in expected}:
            found.append(doors.decided(lambda address=address, body=body: doors.client.post(address, json=body)))
        else:
            doors.client.post(address, json=body)
    return found


def through_the_proxy(doors: Doors, run: Trajectory) -> list[Asked]:
    """Each step of the agent as the upstream's answer to what stands before it."""
    found: list[Asked] = []
    for number, step in enumerate(run.steps):
        if step.role is not Role.AGENT:
            continue
        choice = {"index": 0, "message": message(step), "finish_reason": "stop"}
        doors.upstream.chunks = [json.dumps({"id": "c", "choices": [choice]}).encode()]
        body = {"model": "m", "messages": [message(one) for one in run.steps[:number]], "tools": tools(run.tools)}
        came: list[Any] = []
        ask = f"{PREFIX}up/{PATHS['chat']}"
        one = doors.decided(lambda ask=ask, body=body, came=came: came.append(doors.client.post(ask, json=body)))
        assert came[0].headers["x-gelert-decision"] == one.decision
        assert (came[0].content == doors.upstream.chunks[0]) == (one.decision == "allow")
        found.append(one)
    return found


def through_the_hooks(doors: Doors, path: Path, run: Trajectory, expected: list[Asked]) -> list[Asked]:
    """Each question as an event, the runtime's log written up to there.

    A result is one line; a step of the agent may be several, so all is there up to the next step.
    """
    runtime = "codex" if path.stem.startswith("codex") else "claude-code"
    written = (doors.homes.codex if runtime == "codex" else doors.homes.claude) / path.name
    lines = path.read_bytes().splitlines(keepends=True)
    starts = [int(step.provenance.pointer.split("/")[1]) for step in run.steps]
    found: list[Asked] = []
    for one in expected:
        step = run.steps[one.steps - 1]
        end = starts[one.steps - 1] + 1 if step.role is Role.TOOL else min(starts[one.steps :], default=len(lines))
        written.write_bytes(b"".join(lines[:end]))
        told = event(step) | {"transcript_path": str(written), "session_id": path.stem}
        did: list[dict[str, Any]] = []
        asks = f"/v1/hooks/{runtime}"
        found.append(doors.decided(lambda asks=asks, t=told, d=did: d.append(doors.client.post(asks, json=t).json())))
        passes = did[0] == {"exit": 0, "stdout": "", "stderr": ""}
        assert passes == (found[-1].decision == "allow")
    return found


def event(step: Step) -> dict[str, Any]:
    """What a runtime tells of the step at which it asks."""
    if step.role is Role.TOOL:
        return payload("PostToolUse", tool_name=step.tool_name, tool_use_id=step.call_id, tool_response=step.text)
    if not step.calls:
        return payload("Stop", last_assistant_message=step.text)
    call = step.calls[-1]
    parsed = call.parsed()
    given = {"tool_name": call.name, "tool_use_id": call.call_id}
    return payload("PreToolUse", **given, tool_input=call.arguments if parsed is None else parsed)


def agree(doors: Doors, path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Asked]:
    run = log(path)
    expected = said_by_the_command_line(doors, path, monkeypatch)
    assert through_the_service(doors, run, path.stem, expected) == expected
    answers = [one for one in expected if run.steps[one.steps - 1].role is Role.AGENT]
    assert through_the_proxy(doors, run) == answers
    assert through_the_hooks(doors, path, run, expected) == expected
    whole = doors.decided(lambda: doors.client.post("/v1/judge", content=path.read_bytes()))
    assert whole == expected[-1]
    return expected


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_every_door_decides_alike_at_every_step(scripted: Doors, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = agree(scripted, path, monkeypatch)
    assert {"tool_call", "tool_result", "reply"} == {one.surface for one in asked}


def test_every_decision_was_compared(scripted: Doors) -> None:
    decisions = {json.loads(row)["decision"] for row in export(scripted.audit)}
    assert len(LOGS) >= 14
    assert decisions == {"allow", "ask", "block"}


def test_a_digest_of_another_run_is_another_risk(scripted: Doors) -> None:
    run = log(LOGS[0])
    other = replace(run, steps=(*run.steps[:-1], replace(run.steps[-1], text="done")))
    assert scripted.guard.judge(run) != scripted.guard.judge(other)


@pytest.mark.real_model
def test_every_door_decides_alike_with_the_default_guard(default: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    path = next(path for path in LOGS if path.stem == "codex-obeys-readme-injection")
    decisions = {one.decision for one in agree(default, path, monkeypatch)}
    assert "block" in decisions
