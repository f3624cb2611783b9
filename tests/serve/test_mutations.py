"""Real events and requests with something wrong in them: an answer in time and in bounded memory, and no way past.

Every example bears a mark that the guard blocks; whatever else is wrong with it, what bears the mark does not pass.
"""

import json
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from gelert.guard.policy import Policy
from gelert.serve.app import build
from gelert.serve.audit import Audit
from gelert.serve.engine import Engine, Limits
from gelert.serve.gate import Settings
from gelert.serve.hooks import shim
from gelert.serve.hooks.app import router
from gelert.serve.hooks.event import EVENTS, Runtime
from gelert.serve.hooks.transcript import Homes
from gelert.serve.proxy.events import events, frame
from tests.serve.hooks.support import hook, payload
from tests.serve.mutations import mutated
from tests.serve.proxy.test_proxy import WHOLE, going_on
from tests.serve.proxy.wire import PATHS, SSE, Client, Scripted, proxied, recorded
from tests.serve.scripted_guard import MARK, ScriptedGuard

DEADLINE_SECONDS = 5.0
MOST_BYTES = 96 << 20
"""Allocated at once while one request is answered; the largest request has a few hundred kilobytes."""

FUZZ = settings(max_examples=40, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TOLD: list[tuple[str, dict[str, Any]]] = [
    *(("codex", payload(event)) for event in EVENTS[Runtime.CODEX]),
    *(("claude-code", payload(event)) for event in EVENTS[Runtime.CLAUDE_CODE]),
    ("openclaw", payload("PreToolUse") | {"hook_event_name": "before_tool_call"}),
    ("openclaw", payload("Stop") | {"hook_event_name": "message_sending"}),
]


def bounded(work: Callable[[], Any]) -> Any:
    """What ``work`` gives, in time and in bounded memory."""
    started = time.monotonic()
    tracemalloc.start()
    try:
        found = work()
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()
    assert time.monotonic() - started < 2 * DEADLINE_SECONDS
    return found


@pytest.fixture(scope="module")
def hooks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("hooks")
    engine = Engine(ScriptedGuard(), Policy(), Audit(folder / "audit.db"), Limits(deadline_seconds=DEADLINE_SECONDS))
    app = build(engine, Settings("t" * 32), router(engine, Homes(folder, folder)))
    with TestClient(app, base_url="http://127.0.0.1:1", headers={"authorization": f"Bearer {'t' * 32}"}) as client:
        yield client


@pytest.fixture(scope="module")
def upstream() -> Scripted:
    return Scripted()


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory, upstream: Scripted) -> Iterator[Client]:
    with proxied(tmp_path_factory.mktemp("proxy"), upstream, ScriptedGuard()) as found:
        yield found


def marked(told: dict[str, Any]) -> dict[str, Any]:
    """The event with the mark where the agent's doing is told."""
    return told | {"tool_input": {"command": MARK}, "last_assistant_message": MARK, "delta": MARK}


@seed(6)
@FUZZ
@given(data=st.data())
def test_a_mutated_event_is_answered_and_its_mark_does_not_pass(hooks: TestClient, data: st.DataObject) -> None:
    runtime, told = data.draw(st.sampled_from(TOLD))
    found = data.draw(mutated(marked(told)))
    came = bounded(lambda: hooks.post(f"/v1/hooks/{runtime}", content=json.dumps(found).encode()))
    assert came.status_code == 200
    said = came.json()
    assert said.keys() >= ({"decision", "reason"} if runtime == "openclaw" else {"exit", "stdout", "stderr"})
    if found.get("hook_event_name") in ("PreToolUse", "before_tool_call") and MARK in json.dumps(
        found.get("tool_input")
    ):
        assert said.get("exit") == 2 or said.get("decision") == "block"


@seed(6)
@FUZZ
@given(data=st.data())
def test_what_a_hook_says_without_an_answer_is_a_block_whatever_it_was_told(data: st.DataObject) -> None:
    runtime, told = data.draw(st.sampled_from(TOLD[:7]))
    raw = json.dumps(data.draw(mutated(told))).encode()
    code, out, said = bounded(lambda: shim.faulted(runtime, told["hook_event_name"], raw, "no service"))
    assert code == shim.BLOCK or json.loads(out)
    assert "degraded" in said


@seed(6)
@FUZZ
@given(body=mutated({"exit": 0, "stdout": '{"a": 1}', "stderr": "said"}).map(json.dumps) | st.text())
def test_a_mutated_answer_is_sound_or_a_fault(body: str) -> None:
    try:
        code, out, _ = bounded(lambda: shim.given(body.encode("utf-8", "surrogatepass")))
    except (shim.Fault, ValueError, RecursionError):
        return
    assert code in (0, shim.BLOCK)
    assert not out or isinstance(json.loads(out), dict)


@pytest.mark.parametrize("levels", [90, 300, 600, 900, 50_000])
def test_a_deep_result_is_withheld_by_the_command_itself(tmp_path: Path, levels: int) -> None:
    told = json.dumps(payload("PostToolUse")).replace('"a file"', "[" * levels + "]" * levels).encode()
    done = hook("claude-code", told, tmp_path / "none", event="PostToolUse")
    assert done.code == 2 or done.output["decision"] == "block"


@pytest.mark.parametrize("dialect", PATHS)
@seed(6)
@FUZZ
@given(data=st.data())
def test_a_mutated_request_is_answered_and_nothing_marked_is_released(
    proxy: Client, upstream: Scripted, dialect: str, data: st.DataObject
) -> None:
    body = data.draw(mutated(going_on(dialect)))
    streamed = isinstance(body, dict) and body.get("stream") is True
    upstream.chunks, upstream.kind = [answer(dialect, streamed=streamed)], SSE if streamed else "application/json"
    got = bounded(lambda: proxy.post(PATHS[dialect], json.dumps(body).encode()))
    assert got.status in (200, 400)
    assert MARK.encode() not in got.raw
    assert got.status == 400 or got.headers["x-gelert-decision"] == "block"


def answer(dialect: str, *, streamed: bool) -> bytes:
    """A call that bears the mark."""
    if streamed:
        return recorded(f"{dialect}_calls").replace(b"tidy", b"UNSAFE").replace(b"-notes", b"-MARK")
    return json.dumps(WHOLE[dialect](MARK)).encode()


@pytest.mark.parametrize("dialect", PATHS)
@seed(6)
@FUZZ
@given(data=st.data())
def test_a_mutated_stream_is_decided_and_a_call_of_the_mark_is_not_released(
    proxy: Client, upstream: Scripted, dialect: str, data: st.DataObject
) -> None:
    found = data.draw(mutated(events(answer(dialect, streamed=True))))
    upstream.chunks, upstream.kind = [b"".join(map(frame, found))], SSE
    got = bounded(lambda: proxy.post(PATHS[dialect], going_on(dialect)))
    assert got.status == 200
    assert got.headers["x-gelert-decision"] in ("allow", "block")
    assert got.headers["x-gelert-decision"] == "block" or MARK.encode() not in got.body
