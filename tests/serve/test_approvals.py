"""What a person answers about a call: it holds for that call alone, never against a Block, and is on record."""

import asyncio
import json
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from gelert.core.decision import Allow, Ask, Block, Decision, strictest
from gelert.core.errors import InputError
from gelert.core.trajectory import Role, Step, ToolCall, Trajectory
from gelert.core.verdict import Reading, Safe
from gelert.guard.policy import OnFailure, Policy, Rule, Surface
from gelert.serve.app import build
from gelert.serve.approvals import KEPT_SECONDS, MOST_REMEMBERED, MOST_WAITING, Applied, Approvals
from gelert.serve.approvals_file import Answer, Said, approvals_path, write
from gelert.serve.asked import Asked
from gelert.serve.audit import Audit
from gelert.serve.audit_check import export
from gelert.serve.engine import Engine, Limits
from gelert.serve.gate import Settings
from gelert.serve.hooks.app import router as hooks
from gelert.serve.same_call import SHOWN_CHARACTERS, key_of
from tests.serve.hooks.support import payload
from tests.serve.scripted_guard import MARK, Mood, ScriptedGuard
from tests.serve.support import checked

ASKS = Policy(tool_call=Rule(block_at=0.999, ask_at=0.5, on_failure=OnFailure.ASK))
"""The scripted guard's risk of a mark is 0.99: a person is asked about it."""

SAFE = Safe(0.6, Reading(2, 2))


def call(arguments: str = '{"command": "ls"}', tool: str = "exec") -> ToolCall:
    return ToolCall(tool, arguments)


def question(*calls: ToolCall, project: str = "/w", surface: Surface = Surface.TOOL_CALL) -> Asked:
    run = Trajectory((Step(Role.USER, "go"), Step(Role.AGENT, calls=calls or (call(),))))
    return Asked(surface, run, "s1", "api", project=project)


def answered(kept: Approvals, said: Said, *, remember: bool = False) -> Answer:
    """A person's answer about the call that was asked about last."""
    key, waits = list(kept.waiting.items())[-1]
    found = Answer(waits.id, said, waits.project, waits.tool, time.time())
    asyncio.run(kept.answer(key, found, remember=remember))
    return found


def asks(kept: Approvals, asked: Asked) -> Decision:
    return kept.applied(asked, SAFE, Ask("risk 0.60")).decision


@pytest.mark.parametrize("remember", [False, True])
def test_an_allowed_call_passes_once_or_each_time_if_that_is_remembered(*, remember: bool) -> None:
    kept = Approvals()
    assert asks(kept, question()) == Ask("risk 0.60")
    answered(kept, "allow", remember=remember)
    passed = [asks(kept, question()) for _ in range(3)]
    assert passed == ([Allow()] * 3 if remember else [Allow(), Ask("risk 0.60"), Ask("risk 0.60")])


@pytest.mark.parametrize("remember", [False, True])
def test_a_blocked_call_stays_blocked_and_says_why(*, remember: bool) -> None:
    kept = Approvals()
    asks(kept, question())
    answered(kept, "block", remember=remember)
    assert [asks(kept, question()) for _ in range(2)] == [Block("a person said no (risk 0.60)")] * 2


@pytest.mark.parametrize(
    "other",
    [
        question(call('{"command": "rm"}')),
        question(call(tool="bash")),
        question(call(), call()),
        question(project="/w/more"),
        question(call('{"command": "rm", "command": "ls"}')),
        question(call('{"command": ["ls"]}')),
    ],
    ids=["arguments", "tool", "two calls", "project", "key twice", "list"],
)
def test_an_answer_holds_for_the_same_call_alone(other: Asked) -> None:
    kept = Approvals()
    asks(kept, question())
    answered(kept, "allow", remember=True)
    assert asks(kept, other) == Ask("risk 0.60")
    assert asks(kept, question(call('{"command" : "ls"}'))) == Allow()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
ARGUMENTS = st.dictionaries(st.text(max_size=3), JSON, max_size=3)


@given(ARGUMENTS, st.integers(0, 4))
def test_the_same_arguments_are_the_same_call_however_they_are_written(value: dict[str, Any], indent: int) -> None:
    finite = "NaN" not in json.dumps(value) and "Infinity" not in json.dumps(value)
    turned = dict(reversed(value.items()))
    first, second = (question(call(text)) for text in (json.dumps(value), json.dumps(turned, indent=indent)))
    assert (key_of(first) == key_of(second)) or not finite


@given(ARGUMENTS, ARGUMENTS)
def test_other_arguments_are_another_call(one: dict[str, Any], other: dict[str, Any]) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (key_of(question(call(json.dumps(one)))) == key_of(question(call(json.dumps(other))))) is same


@given(st.text(), st.text())
def test_arguments_that_are_no_json_are_the_same_to_the_letter(one: str, other: str) -> None:
    first, second = f"<{one}", f"<{other}"
    assert (key_of(question(call(first))) == key_of(question(call(second)))) is (first == second)


DECISIONS = st.one_of(
    st.booleans().map(Allow),
    st.builds(Ask, st.text(max_size=5), st.booleans()),
    st.builds(Block, st.text(max_size=5), st.booleans()),
)


@given(
    decision=DECISIONS,
    said=st.sampled_from(["allow", "block"]),
    remember=st.booleans(),
    surface=st.sampled_from(list(Surface)),
)
def test_an_answer_turns_a_sound_ask_only_and_weakens_nothing_else(
    *, decision: Decision, said: Said, remember: bool, surface: Surface
) -> None:
    kept = Approvals()
    asks(kept, question())
    given_answer = answered(kept, said, remember=remember)
    found = kept.applied(question(surface=surface), SAFE, decision)
    if isinstance(decision, Ask) and surface is Surface.TOOL_CALL:
        assert isinstance(found.decision, Block) or (
            said == "allow" and (found.decision == Allow()) != decision.degraded
        )
        assert found.decision.degraded == decision.degraded
        assert found.approval == ("" if decision.degraded and said == "allow" else given_answer.id)
    else:
        assert found == Applied(decision)
    if said == "block" or decision.degraded or not isinstance(decision, Ask):
        assert strictest(decision, found.decision) == found.decision


def test_what_waits_is_what_a_person_may_see() -> None:
    kept = Approvals()
    secret, hidden = "sk-" + "a1" * 12, "ls\u202e\x1b[2K\n" + "x" * 5_000
    asked = question(
        call(json.dumps({"command": hidden, "key": secret, "more": "y" * 5_000} | {str(n): n for n in range(99)}))
    )
    kept.applied(asked, SAFE, Ask(f"it holds {secret}"))
    (waits,) = kept.waiting.values()
    assert (waits.surface, waits.runtime, waits.project, waits.session) == ("tool_call", "api", "/w", "s1")
    assert (waits.tool, waits.risk, waits.reason) == ("exec", 0.6, "it holds [redacted]")
    assert waits.arguments.startswith(r"command: ls\u202e\x1b[2K\nxxx")
    assert all(line.isprintable() for line in waits.arguments.split("\n"))
    assert secret not in waits.arguments
    assert waits.arguments.endswith("…")
    assert len(waits.arguments) <= SHOWN_CHARACTERS


def test_a_person_sees_the_end_of_a_long_command() -> None:
    kept = Approvals()
    command = "echo " + "x" * 1_500 + "; rm -rf ~"
    kept.applied(question(call(json.dumps({"command": command}))), SAFE, Ask("it is long"))
    (waits,) = kept.waiting.values()
    assert waits.arguments == f"command: {command}"


def test_ten_thousand_questions_leave_the_last_ones_waiting_and_no_more() -> None:
    kept = Approvals()
    for number in range(10_000):
        asks(kept, question(call(json.dumps({"command": str(number)}))))
        if number % 2 and number < 2_000:
            answered(kept, "block")
    assert len(kept.waiting) == MOST_WAITING
    assert [waits.arguments for waits in kept.waiting.values()][-1] == "command: 9999"
    assert isinstance(asks(kept, question(call('{"command": "1"}'))), Ask)
    assert isinstance(asks(kept, question(call('{"command": "1999"}'))), Block)


def test_a_call_that_is_asked_about_again_waits_once_and_under_one_id() -> None:
    kept = Approvals()
    ids: list[str] = []
    for _ in range(3):
        asks(kept, question())
        ids += [waits.id for waits in kept.waiting.values()]
    assert len(ids) == 3
    assert len(set(ids)) == 1


def test_what_waits_and_what_holds_once_is_forgotten_after_its_time() -> None:
    kept = Approvals(kept_seconds=0.2)
    asks(kept, question(call("a")))
    answered(kept, "block")
    asks(kept, question(call("b")))
    assert isinstance(asks(kept, question(call("a"))), Block)
    time.sleep(0.3)
    assert not kept.waiting
    assert isinstance(asks(kept, question(call("a"))), Ask)
    assert KEPT_SECONDS > 60


def test_answers_on_disk_are_their_owners_and_a_file_that_is_not_refuses_to_start(tmp_path: Path) -> None:
    path = tmp_path / "audit.db.approvals"
    kept = Approvals(path)
    asks(kept, question())
    answered(kept, "block", remember=True)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    path.chmod(0o640)
    with pytest.raises(InputError, match="chmod 600"):
        Approvals(path)
    path.chmod(0o600)
    path.write_text(path.read_text().replace("block", "allow"))
    with pytest.raises(InputError, match="move the file"):
        Approvals(path)
    write(path, {"k": Answer("i", "perhaps", "/w", "exec", 0.0)})  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="another form"):
        Approvals(path)


@dataclass
class Service:
    """The real service: a client that has the token, and the guard behind it."""

    client: TestClient
    guard: ScriptedGuard
    engine: Engine

    def judge(self, command: str = MARK, project: str = "/w") -> dict[str, Any]:
        called = {"id": "c1", "function": {"name": "exec", "arguments": json.dumps({"command": command})}}
        run = [{"role": "user", "content": "go"}, {"role": "assistant", "content": "", "tool_calls": [called]}]
        return self.client.post("/v1/judge", json=run, params={"project": project}).json()

    def listed(self) -> dict[str, Any]:
        return self.client.get("/v1/approvals").json()

    def answer(self, said: str, *, remember: bool = False) -> str:
        """Answer about the call that was asked about last; gives the id."""
        name = self.listed()["waiting"][-1]["id"]
        came = self.client.post(f"/v1/approvals/{name}", json={"answer": said, "remember": remember})
        assert came.json() == {"answered": True}
        return name

    def hook(self, runtime: str, command: str = MARK) -> dict[str, Any]:
        told = payload("PreToolUse", tool_input={"command": command})
        return self.client.post(f"/v1/hooks/{runtime}", json=told).json()


@contextmanager
def service(folder: Path, policy: Policy = ASKS) -> Generator[Service]:
    guard = ScriptedGuard()
    approvals = Approvals(approvals_path(folder / "audit.db"))
    engine = Engine(guard, policy, Audit(folder / "audit.db"), Limits(deadline_seconds=5.0), approvals)
    app = build(engine, Settings("t" * 32), hooks(engine))
    with TestClient(app, base_url="http://127.0.0.1:1", headers={"authorization": f"Bearer {'t' * 32}"}) as client:
        yield Service(client, guard, engine)


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(row) for row in export(folder / "audit.db")]


def test_a_person_allows_a_call_over_http_and_all_of_it_is_on_record(tmp_path: Path) -> None:
    with service(tmp_path) as found:
        assert found.judge()["decision"] == "ask"
        (waits,) = found.listed()["waiting"]
        assert {key: waits[key] for key in ("tool", "arguments", "project", "risk")} == {
            "tool": "exec", "arguments": f"command: {MARK}", "project": "/w", "risk": 0.99,
        }  # fmt: skip
        name = found.answer("allow")
        assert found.listed() == {"waiting": [], "remembered": []}
        assert [found.judge()["decision"] for _ in range(2)] == ["allow", "ask"]
    first, answer, changed, last = rows(tmp_path)
    assert "who" not in first | last
    assert (answer["who"], answer["approval"], answer["answer"], answer["holds"]) == ("person", name, "allow", "once")
    assert (changed["who"], changed["approval"], changed["decision"]) == ("person", name, "allow")
    assert checked(tmp_path / "audit.db").faults == ()


def test_a_remembered_answer_outlives_the_service_until_it_is_forgotten(tmp_path: Path) -> None:
    with service(tmp_path) as found:
        found.judge()
        name = found.answer("allow", remember=True)
        found.judge("other " + MARK)
        found.answer("block")
    with service(tmp_path) as found:
        assert found.judge()["decision"] == "allow"
        assert found.judge("other " + MARK)["decision"] == "ask"
        (kept,) = found.listed()["remembered"]
        assert {key: kept[key] for key in ("id", "answer", "project", "tool")} == {
            "id": name, "answer": "allow", "project": "/w", "tool": "exec",
        }  # fmt: skip
        assert found.client.delete(f"/v1/approvals/{name}").json() == {"forgotten": True}
        assert found.judge()["decision"] == "ask"
    with service(tmp_path) as found:
        assert found.listed()["remembered"] == []
    assert [row["holds"] for row in rows(tmp_path) if "holds" in row] == ["always", "once", "no longer"]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"answer": "ask"}', b'{"answer": "allow", "remember": 1}', b'"allow"'])
def test_an_answer_that_is_none_changes_nothing(tmp_path: Path, body: bytes) -> None:
    with service(tmp_path) as found:
        found.judge()
        name = found.listed()["waiting"][0]["id"]
        assert found.client.post(f"/v1/approvals/{name}", content=body).status_code == 422
        assert found.client.post(f"/v1/approvals/{name}x", json={"answer": "allow"}).status_code == 404
        assert found.client.delete(f"/v1/approvals/{name}").status_code == 404
        assert found.judge()["decision"] == "ask"
        assert len(found.listed()["waiting"]) == 1
    assert all("who" not in row for row in rows(tmp_path))


def test_nobody_answers_without_the_token_or_from_another_site(tmp_path: Path) -> None:
    with service(tmp_path) as found:
        found.judge()
        path = f"/v1/approvals/{found.listed()['waiting'][0]['id']}"
        for headers, status in (({"authorization": ""}, 401), ({"origin": "http://evil.example"}, 403)):
            assert found.client.post(path, json={"answer": "allow"}, headers=headers).status_code == status
        assert found.judge()["decision"] == "ask"


def test_no_answer_stands_in_for_a_verdict_and_none_moves_a_block(tmp_path: Path) -> None:
    with service(tmp_path) as found:
        found.judge()
        found.answer("allow", remember=True)
        found.guard.mood = Mood.UNREADABLE
        came = found.judge()
        assert (came["decision"], came["degraded"]) == ("ask", True)
        assert found.listed()["waiting"] == []
    with service(tmp_path, replace(ASKS, tool_call=Rule())) as found:
        assert found.judge()["decision"] == "block"


def test_an_answer_that_cannot_be_kept_does_not_hold(tmp_path: Path) -> None:
    with service(tmp_path) as found:
        found.judge()
        name = found.listed()["waiting"][0]["id"]
        (tmp_path / "audit.db.approvals.partial").mkdir()  # as on a disk that takes no more files
        came = found.client.post(f"/v1/approvals/{name}", json={"answer": "allow", "remember": True})
        assert came.status_code == 503
        assert found.judge()["decision"] == "ask"
    assert [row["holds"] for row in rows(tmp_path) if "holds" in row] == ["always", "as before"]


def test_one_answer_more_than_are_remembered_is_refused(tmp_path: Path) -> None:
    known = {str(n): Answer(str(n), "allow", "/w", "exec", 0.0) for n in range(MOST_REMEMBERED)}
    write(approvals_path(tmp_path / "audit.db"), known)
    with service(tmp_path) as found:
        found.judge()
        name = found.listed()["waiting"][0]["id"]
        path = f"/v1/approvals/{name}"
        assert found.client.post(path, json={"answer": "allow", "remember": True}).status_code == 409
        assert found.client.post(path, json={"answer": "allow"}).status_code == 200


def test_codex_is_told_how_a_person_can_allow_the_call_and_claude_code_asks_its_own(tmp_path: Path) -> None:
    with service(tmp_path) as found:
        refused = found.hook("codex")
        assert refused["exit"] == 2
        assert "gelert approvals" in refused["stderr"]
        found.answer("allow")
        assert [found.hook("codex")["exit"] for _ in range(2)] == [0, 2]

        def native() -> dict[str, Any]:
            return json.loads(found.hook("claude-code", "x " + MARK)["stdout"] or "{}")

        assert native()["hookSpecificOutput"]["permissionDecision"] == "ask"
        assert "gelert approvals" not in json.dumps(native())
        found.answer("allow")
        assert native() == {}
        native()
        found.answer("block", remember=True)
        assert found.hook("claude-code", "x " + MARK)["exit"] == 2
        found.guard.mood = Mood.UNREADABLE
        assert "gelert approvals" not in found.hook("codex")["stderr"]
