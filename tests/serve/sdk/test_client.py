"""The adapters' way to the service: the service's own decision, or a block that says what was the matter."""

import asyncio
import logging
import socket as sockets
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gelert.core.decision import Allow, Ask, Block
from gelert.guard.formats.untrusted import Object
from gelert.guard.policy import OnFailure, Policy, Rule, Surface
from gelert.serve.sdk.client import MOST_ANSWER_BYTES, REASON_CHARACTERS, Client, Question, refusal
from tests.serve.hooks.support import impostor
from tests.serve.scripted_guard import Mood, ResumableGuard, ScriptedGuard
from tests.serve.sdk.support import ASKING, TOKEN, listening
from tests.serve.support import CALM, MARKED


def question(messages: object = CALM, surface: Surface = Surface.REPLY) -> Question:
    return Question(surface, {"messages": messages}, "openai", "test", session="s1")


def test_the_service_decides_over_its_socket_and_over_its_address(socket: Path) -> None:
    with listening(socket) as service:
        for client in (Client(), Client(service.url, TOKEN), Client(f"{service.url}/", TOKEN)):
            assert client.ask_blocking(question()) == Allow()
            assert client.ask_blocking(question(MARKED)) == Block("risk 0.99 on reply")


def test_the_token_that_the_service_keeps_here_is_found(socket: Path, tmp_path: Path) -> None:
    (tmp_path / "token").touch(0o600)
    (tmp_path / "token").write_text(TOKEN)
    with listening(socket) as service:
        assert Client(service.url).ask_blocking(question()) == Allow()


def test_a_wrong_token_is_a_block_that_says_so(socket: Path) -> None:
    with listening(socket) as service:
        found = Client(service.url, "wrong").ask_blocking(question())
    assert isinstance(found, Block)
    assert found.degraded
    assert "401: expected the API token" in found.reason


def test_no_fault_tells_the_token() -> None:
    client = Client("http://127.0.0.1:1", "se\ncret")
    assert "cret" not in f"{client} {client.ask_blocking(question())}"


def test_the_audit_says_who_asked_about_what_and_where(socket: Path) -> None:
    with listening(socket) as service:
        Client(project="/w").ask_blocking(question(surface=Surface.TOOL_RESULT))
        (row,) = service.rows()
    assert (row["surface"], row["runtime"], row["project"]) == ("tool_result", "test", "/w")


def test_a_growing_run_is_read_on_and_not_mixed_with_another(socket: Path) -> None:
    guard = ResumableGuard()
    with listening(socket, guard):
        for session, run in (("s1", CALM), ("s2", MARKED), ("s1", CALM * 2), ("s1", CALM * 3)):
            Client().ask_blocking(replace(question(run), session=session))
    assert guard.read == 2 + 2 + 2 + 2


def test_it_may_be_asked_from_a_thread_whose_loop_runs(socket: Path) -> None:
    async def inside() -> object:
        return Client().ask_blocking(question(MARKED))

    with listening(socket):
        assert asyncio.run(inside()) == Block("risk 0.99 on reply")


def test_no_service_is_a_block_that_says_how_to_start_one(socket: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = Client().ask_blocking(question())
    assert isinstance(found, Block)
    assert found.degraded
    assert f"is 'gelert serve' running? ({socket})" in found.reason
    assert "degraded decision on a reply" in caplog.text


@pytest.mark.parametrize("mood", [Mood.RAISES, Mood.UNREADABLE])
def test_a_guard_that_fails_blocks(socket: Path, mood: Mood) -> None:
    with listening(socket, ScriptedGuard(mood)):
        found = Client().ask_blocking(question())
    assert isinstance(found, Block)
    assert found.degraded


def test_what_the_operator_lets_pass_without_a_verdict_passes_and_is_said(
    socket: Path, caplog: pytest.LogCaptureFixture
) -> None:
    policy = Policy(reply=Rule(on_failure=OnFailure.ALLOW))
    with listening(socket, ScriptedGuard(Mood.RAISES), policy), caplog.at_level(logging.WARNING):
        assert Client().ask_blocking(question()) == Allow(degraded=True)
    assert "degraded decision" in caplog.text


@pytest.mark.parametrize(
    "run",
    [{"messages": [object()]}, {"messages": []}, {"messages": [{"no": "role"}]}, {}],
    ids=["no JSON", "no message", "no role", "nothing"],
)
def test_a_run_that_cannot_be_told_or_read_is_a_block(socket: Path, run: Object) -> None:
    with listening(socket):
        found = Client().ask_blocking(Question(Surface.REPLY, run, "openai", "test"))
    assert isinstance(found, Block)
    assert found.degraded


def answers(status: str, body: bytes, length: int | None = None) -> Callable[[sockets.socket], None]:
    """Something that answers every request alike."""
    head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body) if length is None else length}\r\n\r\n"

    def behave(connection: sockets.socket) -> None:
        connection.recv(1 << 16)
        connection.sendall(head.encode() + body)

    return behave


def drips(connection: sockets.socket) -> None:
    connection.recv(1 << 16)
    for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n" + b" " * 900:
        connection.sendall(bytes([byte]))
        time.sleep(0.02)


ALLOWS = b'{"decision": "allow", "degraded": false}'


@pytest.mark.parametrize(
    "behaviour",
    [
        answers("200 OK", b""),
        answers("200 OK", b"yes"),
        answers("200 OK", b"[" * 50_000),
        answers("200 OK", b"[]"),
        answers("200 OK", b'{"decision": "maybe", "degraded": false}'),
        answers("200 OK", b'{"decision": ["allow"]}'),
        answers("500 No", ALLOWS),
        answers("302 Found", ALLOWS),
        answers("200 OK", ALLOWS[:-5]),
        answers("200 OK", ALLOWS, length=len(ALLOWS) + 1),
        answers("200 OK", ALLOWS + b" " * MOST_ANSWER_BYTES),
        lambda _: None,
        drips,
    ],
    ids=[
        "nothing",
        "word",
        "deep",
        "list",
        "other",
        "nested",
        "failed",
        "moved",
        "cut",
        "short",
        "long",
        "silent",
        "drip",
    ],
)
def test_no_rubbish_is_an_allowance_and_nothing_outlives_the_deadline(
    socket: Path, behaviour: Callable[[sockets.socket], None]
) -> None:
    start = time.monotonic()
    with impostor(socket, behaviour):
        found = Client(deadline_seconds=1.0).ask_blocking(question())
    assert isinstance(found, Block)
    assert found.degraded
    assert time.monotonic() - start < 5


def test_the_same_impostor_is_believed_when_it_answers_well(socket: Path) -> None:
    with impostor(socket, answers("200 OK", ALLOWS)):
        assert Client().ask_blocking(question()) == Allow()


def test_a_service_that_does_not_answer_is_a_block_in_time(socket: Path) -> None:
    with impostor(socket, lambda _: time.sleep(3)):
        found = Client(deadline_seconds=0.3).ask_blocking(question())
    assert found == Block("expected a decision within 0.3 s, got none", degraded=True)


def test_a_question_for_a_person_says_how_to_answer_it(socket: Path) -> None:
    with listening(socket, policy=ASKING):
        found = Client().ask_blocking(question(MARKED, Surface.TOOL_CALL))
    assert isinstance(found, Ask)
    assert "gelert approvals" in refusal(found, Surface.TOOL_CALL)
    assert "gelert approvals" not in refusal(Ask("no verdict", degraded=True), Surface.TOOL_CALL)


@pytest.mark.parametrize("surface", Surface)
def test_a_refusal_is_short_and_says_whether_a_verdict_stands_behind_it(surface: Surface) -> None:
    said = refusal(Block("x" * 10_000, degraded=True), surface)
    assert said.startswith("gelert: degraded, blocked: x")
    assert len(said) == REASON_CHARACTERS
