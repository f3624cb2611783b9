"""An event in, what the hook shall do out: every runtime, every event, every decision."""

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from gelert.guard.policy import OnFailure, Policy, Rule
from gelert.serve.app import build
from gelert.serve.audit import Audit
from gelert.serve.audit_check import export
from gelert.serve.engine import Engine, Limits
from gelert.serve.gate import Settings
from gelert.serve.hooks.app import router
from gelert.serve.hooks.transcript import Homes
from tests.serve.hooks.support import payload
from tests.serve.scripted_guard import MARK, Mood, ScriptedGuard

LOGS = Path(__file__).resolve().parents[3] / "examples" / "logs"
CALLS = {"command": f"echo {MARK}"}


class Door:
    """The hooks' door of a service, and its guard."""

    def __init__(self, client: TestClient, guard: ScriptedGuard) -> None:
        self.client, self.guard = client, guard

    def ask(self, runtime: str, told: Any) -> dict[str, Any]:
        raw = told if isinstance(told, bytes) else json.dumps(told).encode()
        came = self.client.post(f"/v1/hooks/{runtime}", content=raw)
        assert came.status_code == 200, came.text
        return came.json()


@contextmanager
def opened(folder: Path, guard: ScriptedGuard, policy: Policy) -> Generator[Door]:
    engine = Engine(guard, policy, Audit(folder / "audit.db"), Limits(deadline_seconds=5.0))
    homes = Homes(folder / "codex", folder / "claude")
    app = build(engine, Settings("t" * 32), router(engine, homes))
    with TestClient(app, base_url="http://127.0.0.1:1", headers={"authorization": f"Bearer {'t' * 32}"}) as client:
        yield Door(client, guard)


@pytest.fixture
def guard() -> ScriptedGuard:
    return ScriptedGuard()


@pytest.fixture
def door(tmp_path: Path, guard: ScriptedGuard) -> Iterator[Door]:
    with opened(tmp_path, guard, Policy()) as found:
        yield found


@pytest.mark.parametrize("runtime", ["codex", "claude-code"])
@pytest.mark.parametrize("event", ["PreToolUse", "PostToolUse", "Stop"])
def test_what_is_safe_goes_on_as_it_would_without_a_guard(door: Door, runtime: str, event: str) -> None:
    assert door.ask(runtime, payload(event)) == {"exit": 0, "stdout": "", "stderr": ""}


@pytest.mark.parametrize("runtime", ["codex", "claude-code"])
def test_an_unsafe_call_and_an_unsafe_reply_are_blocked_with_a_reason(door: Door, runtime: str) -> None:
    for told in (payload("PreToolUse", tool_input=CALLS), payload("Stop", last_assistant_message=MARK)):
        did = door.ask(runtime, told)
        assert (did["exit"], did["stdout"]) == (2, "")
        assert did["stderr"].startswith("gelert: blocked: risk 0.99")


def test_a_message_is_judged_whole_however_it_is_cut(door: Door) -> None:
    first = door.ask("claude-code", payload("MessageDisplay", delta=MARK[:5], final=False))
    assert first["stdout"] == ""
    second = door.ask("claude-code", payload("MessageDisplay", delta=MARK[5:], index=1))
    assert "[withheld]" in json.loads(second["stdout"])["hookSpecificOutput"]["displayContent"]


def test_a_withheld_result_keeps_its_form_and_none_of_its_words(tmp_path: Path) -> None:
    guard = ScriptedGuard(mood=Mood.UNREADABLE)
    with opened(tmp_path, guard, Policy()) as door:
        did = door.ask("claude-code", payload("PostToolUse"))
        result = json.loads(did["stdout"])["hookSpecificOutput"]["updatedToolOutput"]
        assert set(result) == {"stdout", "stderr", "interrupted"}
        assert "a file" not in did["stdout"]
        assert "degraded" in did["stderr"]
        assert door.ask("codex", payload("PostToolUse"))["exit"] == 2


def test_a_person_is_asked_where_the_runtime_can_ask_and_codex_is_blocked(tmp_path: Path) -> None:
    policy = Policy(tool_call=Rule(on_failure=OnFailure.ASK))
    with opened(tmp_path, ScriptedGuard(mood=Mood.RAISES), policy) as door:
        asks = json.loads(door.ask("claude-code", payload("PreToolUse"))["stdout"])["hookSpecificOutput"]
        assert asks["permissionDecision"] == "ask"
        assert door.ask("codex", payload("PreToolUse"))["exit"] == 2
        assert door.ask("openclaw", claw("before_tool_call"))["decision"] == "ask"


def test_the_folder_that_the_runtime_names_is_on_record(tmp_path: Path, door: Door) -> None:
    for told in (payload("PreToolUse", cwd="/home/me/site"), payload("Stop", cwd=["/w"]), payload("Stop", cwd=None)):
        door.ask("claude-code", told)
    assert [json.loads(row)["project"] for row in export(tmp_path / "audit.db")] == ["/home/me/site", "", ""]


def test_what_is_allowed_without_a_verdict_is_said_aloud(tmp_path: Path) -> None:
    policy = Policy(tool_call=Rule(on_failure=OnFailure.ALLOW))
    with opened(tmp_path, ScriptedGuard(mood=Mood.RAISES), policy) as door:
        did = door.ask("codex", payload("PreToolUse"))
    assert did["exit"] == 0
    assert "degraded" in json.loads(did["stdout"])["systemMessage"]


@pytest.mark.parametrize(
    "told", [b"", b"{", b"[]", b"[" * 5_000, json.dumps({"hook_event_name": "Nothing"}).encode(), b'{"a":"\xff"}']
)
def test_what_is_no_event_is_blocked_and_on_record(door: Door, told: bytes) -> None:
    for runtime in ("codex", "claude-code"):
        did = door.ask(runtime, told)
        assert did["exit"] == 2
        assert "degraded" in did["stderr"]
    assert door.ask("openclaw", told)["decision"] == "block"


@pytest.mark.parametrize(("runtime", "log"), [("codex", "codex-*"), ("claude-code", "claude-*")])
def test_the_runtimes_own_log_is_read_and_the_call_in_question_stands_at_its_end(
    tmp_path: Path, door: Door, guard: ScriptedGuard, runtime: str, log: str
) -> None:
    home = tmp_path / runtime.removesuffix("-code")
    home.mkdir()
    counted = 0
    for source in sorted(LOGS.glob(log)):
        path = home / source.name
        path.write_bytes(source.read_bytes() + b'{"half": "a li')
        did = door.ask(runtime, payload("PreToolUse", transcript_path=str(path)))
        assert did["exit"] == 0, did
        assert guard.judged[-1] > 3
        counted += 1
    assert counted > 2


def test_a_transcript_elsewhere_or_with_a_bad_line_is_not_judged_but_blocked(tmp_path: Path, door: Door) -> None:
    outside = tmp_path / "secrets.jsonl"
    outside.write_text("{}\n")
    home = tmp_path / "codex"
    home.mkdir()
    link, bad, folder = home / "link.jsonl", home / "bad.jsonl", home / "folder"
    link.symlink_to(outside)
    bad.write_text('{"type":"session_meta","payload":{}}\n{"type":\n')
    folder.mkdir()
    for path in (outside, link, bad, folder, "relative"):
        did = door.ask("codex", payload("PreToolUse", transcript_path=str(path)))
        assert (did["exit"], "degraded" in did["stderr"]) == (2, True), path


def test_a_call_that_the_log_tells_is_the_same_run_read_on(tmp_path: Path, door: Door, guard: ScriptedGuard) -> None:
    home = tmp_path / "codex"
    home.mkdir()
    path = home / "rollout.jsonl"
    lines = [
        {"type": "session_meta", "payload": {"id": "s1"}},
        {"type": "response_item", "payload": {"type": "message", "role": "user", "content": "go"}},
        {"type": "response_item", "payload": {"type": "function_call", "name": "exec_command", "call_id": "call_1"}
            | {"arguments": '{"cmd": "ls"}'}},
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    door.ask("codex", payload("PreToolUse", transcript_path=str(path)))
    assert guard.judged[-1] == 2
    # The log tells another command than the one that the runtime says it will run.
    did = door.ask("codex", payload("PreToolUse", transcript_path=str(path), tool_input=CALLS))
    assert guard.judged[-1] == 3
    assert did["exit"] == 2


def test_a_subagent_of_claude_code_is_judged_with_its_sessions_log_before_its_own(
    tmp_path: Path, door: Door, guard: ScriptedGuard
) -> None:
    session = tmp_path / "claude" / "p" / "s1.jsonl"
    own = session.with_suffix("") / "subagents" / "agent-a1.jsonl"
    own.parent.mkdir(parents=True)
    told = {"type": "user", "sessionId": "s1", "parentUuid": None}
    session.write_text(json.dumps(told | {"uuid": "1", "message": {"role": "user", "content": "go"}}) + "\n")
    task = {"uuid": "2", "isSidechain": True, "message": {"role": "user", "content": "delegated"}}
    own.write_text(json.dumps(told | task) + "\n")
    asked = payload("PreToolUse", transcript_path=str(session), agent_id="a1")
    assert door.ask("claude-code", asked)["exit"] == 0
    assert guard.judged[-1] == 3
    door.ask("claude-code", payload("PreToolUse", transcript_path=str(session)))
    assert guard.judged[-1] == 2


def test_a_subagent_of_codex_is_judged_by_its_own_log_at_its_end_too(
    tmp_path: Path, door: Door, guard: ScriptedGuard
) -> None:
    home = tmp_path / "codex"
    home.mkdir()
    item = {"type": "message", "role": "user", "content": "go"}
    lines = [{"type": "session_meta", "payload": {"id": "s1"}}, {"type": "response_item", "payload": item}]
    for name in ("session", "agent"):
        (home / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
        lines.append(lines[-1])
    paths = {"transcript_path": str(home / "session"), "agent_transcript_path": str(home / "agent")}
    assert door.ask("codex", payload("SubagentStop", **paths, last_assistant_message=MARK))["exit"] == 2
    assert guard.judged[-1] == 3


@pytest.mark.parametrize("name", ["../s2", "a/../../x", "a b"])
def test_a_name_that_leads_elsewhere_is_no_subagents(tmp_path: Path, door: Door, name: str) -> None:
    (tmp_path / "claude").mkdir()
    asked = payload("PreToolUse", transcript_path=str(tmp_path / "claude" / "s1.jsonl"), agent_id=name)
    did = door.ask("claude-code", asked)
    assert (did["exit"], "degraded" in did["stderr"]) == (2, True)


def test_an_unsafe_reply_of_a_subagent_is_kept_from_the_agent_that_waits_for_it(door: Door) -> None:
    assert door.ask("claude-code", payload("UserPromptSubmit"))["exit"] == 0
    notice = f"<task-notification><result>{MARK}</result></task-notification>"
    said = json.loads(door.ask("claude-code", payload("UserPromptSubmit", prompt=notice))["stdout"])
    assert said["decision"] == "block"
    assert said["hookSpecificOutput"]["suppressOriginalPrompt"] is True
    assert MARK not in json.dumps(said)


def claw(event: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "go"}]
    called = {"tool_name": "exec", "tool_use_id": "c1", "tool_input": {"command": "ls"}}
    return {"hook_event_name": event, "session_id": "main", "messages": messages} | called | more


def test_openclaw_is_told_the_decision_at_each_event(door: Door) -> None:
    for event in ("before_agent_run", "before_tool_call", "reply_payload_sending", "message_sending", "agent_end"):
        assert door.ask("openclaw", claw(event))["decision"] == "allow", event
    for unsafe in (claw("before_tool_call", tool_input=CALLS), claw("message_sending", last_assistant_message=MARK)):
        did = door.ask("openclaw", unsafe)
        assert (did["decision"], did["degraded"]) == ("block", False)


def test_a_mark_counts_as_unsafe_where_it_is_in_question_and_is_seen(door: Door) -> None:
    mark = door.client.post("/v1/hooks/canaries").json()["mark"]
    assert door.ask("codex", payload("PreToolUse", tool_input={"command": f"echo {mark}"}))["exit"] == 2
    assert door.ask("codex", payload("PreToolUse"))["exit"] == 0
    seen = door.client.get(f"/v1/hooks/canaries/{mark}").json()["seen"]
    assert [(one["event"], one["marked"]["decision"], one["judged"]["decision"]) for one in seen] == [
        ("PreToolUse", "block", "allow")
    ]
    assert door.client.get("/v1/hooks/canaries/none").status_code == 404


def test_a_policy_that_observes_is_seen_to_let_a_mark_pass(tmp_path: Path) -> None:
    policy = Policy(tool_call=Rule(block_at=1.1))
    with opened(tmp_path, ScriptedGuard(), policy) as door:
        mark = door.client.post("/v1/hooks/canaries").json()["mark"]
        assert door.ask("codex", payload("PreToolUse", tool_input={"command": mark}))["exit"] == 0
        assert door.client.get(f"/v1/hooks/canaries/{mark}").json()["seen"][0]["marked"]["decision"] == "allow"
