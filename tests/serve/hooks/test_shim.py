"""Whatever goes wrong, the hook's command ends in the runtime's own "block", with a reason."""

import ast
import json
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gelert.serve.hooks import shim
from tests.serve.hooks.support import Behaviour, Hooked, hook, impostor, payload

SECONDS = 2.0


def sends(raw: bytes) -> Behaviour:
    def behave(door: socket.socket) -> None:
        door.recv(1 << 16)
        door.sendall(raw)

    return behave


def answers(value: Any) -> bytes:
    body = json.dumps(value).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def drips(door: socket.socket) -> None:
    for byte in answers({"exit": 0, "stdout": "", "stderr": ""}):
        door.sendall(bytes([byte]))
        time.sleep(0.2)


def floods(door: socket.socket) -> None:
    while True:
        door.sendall(b"x" * (1 << 16))


FAULTS: dict[str, Behaviour] = {
    "hang": lambda _: time.sleep(SECONDS * 3),
    "closed": lambda _: None,
    "garbage": sends(b"\x00\xff garbage"),
    "half": sends(answers({"exit": 0, "stdout": "", "stderr": ""})[:-4]),
    "drip": drips,
    "flood": floods,
    "error": sends(b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\n{}"),
    "not json": sends(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nyes!"),
    "no code": sends(answers({"stdout": "", "stderr": ""})),
    "code 1": sends(answers({"exit": 1, "stdout": "", "stderr": "no"})),
    "no reason": sends(answers({"exit": 2, "stdout": "", "stderr": " "})),
    "half output": sends(answers({"exit": 0, "stdout": '{"decision"', "stderr": ""})),
    "output no object": sends(answers({"exit": 0, "stdout": "[]", "stderr": ""})),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_service_blocks_the_tool_with_a_reason(fault: str, path: Path) -> None:
    with impostor(path, FAULTS[fault]):
        done = hook("codex", payload("PreToolUse"), path, SECONDS)
    assert (done.code, done.out) == (2, "")
    assert "degraded" in done.said


def test_without_a_service_the_tool_is_blocked_and_the_reason_says_where_it_was_looked_for(path: Path) -> None:
    done = hook("claude-code", payload("PreToolUse"), path)
    assert done.code == 2
    assert str(path) in done.said


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff" * 100, b"[" * 100_000], ids=["none", "half", "bytes", "deep"])
def test_input_that_is_no_event_is_handed_on_and_without_a_service_blocked(raw: bytes, path: Path) -> None:
    assert hook("codex", raw, path).code == 2


def test_input_that_never_ends_is_blocked_within_the_deadline(path: Path) -> None:
    words = [sys.executable, "-I", "-S", shim.__file__, "codex", "PreToolUse"]
    variables = {"GELERT_SOCKET": str(path), "GELERT_HOOK_SECONDS": "0.5"}
    with subprocess.Popen(words, env=variables, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.wait(30) == 2
        assert process.stderr is not None
        assert b"degraded" in process.stderr.read()
        assert process.stdin is not None
        process.stdin.close()


def test_an_answer_is_passed_on_as_it_came(path: Path) -> None:
    said = {"exit": 0, "stdout": '{"systemMessage": "hello"}', "stderr": ""}
    with impostor(path, sends(answers(said))):
        done = hook("codex", payload("PreToolUse"), path)
    assert (done.code, done.output) == (0, {"systemMessage": "hello"})


def test_where_only_words_are_heeded_a_fault_is_told_in_words(path: Path) -> None:
    shown = hook("claude-code", payload("MessageDisplay"), path)
    assert shown.code == 0
    assert shown.output["hookSpecificOutput"]["displayContent"].startswith("[withheld] gelert: degraded")
    result = hook("claude-code", payload("PostToolUse"), path).output["hookSpecificOutput"]["updatedToolOutput"]
    assert result["stdout"].startswith("[withheld]")
    assert result["interrupted"] is False


@pytest.mark.parametrize("event", ["Stop", "SubagentStop"])
def test_a_reply_is_sent_back_once_and_then_the_run_is_stopped(event: str, path: Path) -> None:
    assert hook("codex", payload(event), path).code == 2
    again = hook("codex", payload(event, stop_hook_active=True), path)
    assert (again.code, again.output["continue"]) == (0, False)


def test_the_users_own_words_are_not_asked_about_and_a_subagents_are(path: Path) -> None:
    spoken = payload("UserPromptSubmit", prompt="tidy up")
    assert hook("claude-code", spoken, path) == Hooked(0, "", "")
    for told in (payload("UserPromptSubmit"), payload("UserPromptSubmit", prompt=["tidy up"])):
        blocked = hook("claude-code", told, path)
        assert (blocked.code, blocked.output["decision"]) == (0, "block")
        assert "degraded" in blocked.output["reason"]


def test_the_deadline_can_be_made_shorter_and_not_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    for given, taken in (("1.5", 1.5), ("900", shim.DEADLINE_SECONDS), ("soon", shim.DEADLINE_SECONDS)):
        monkeypatch.setenv("GELERT_HOOK_SECONDS", given)
        assert shim.deadline_seconds() == taken


def test_the_command_knows_the_standard_library_only() -> None:
    tree = ast.parse(Path(shim.__file__).read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert names <= {"json", "os", "signal", "socket", "sys", "time"}


def test_the_command_starts_within_sixty_milliseconds_of_computing(path: Path) -> None:
    spent: list[float] = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        hook("codex", payload("PreToolUse"), path)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < 0.060
