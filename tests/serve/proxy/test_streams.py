"""Streams that break off, drip, fail half-way or are given up: all of a safe one or nothing of an unsafe one."""

import itertools
import json
import socket
import time
from pathlib import Path

import pytest

from gelert.serve.proxy.events import events, frame
from gelert.serve.proxy.upstream import Bounds
from tests.serve.proxy.wire import PATHS, Answer, Scripted, asks, proxied, recorded
from tests.serve.scripted_guard import MARK, ScriptedGuard

KEPT_ALIVE = {
    "chat": b": keep-alive\n\n",
    "responses": b": keep-alive\n\n",
    "messages": b'event: ping\ndata: {"type": "ping"}\n\n',
}
"""What each API sends while its model thinks."""

FAILS = {
    "chat": frame({"error": {"message": "overloaded", "type": "server_error", "code": None}}),
    "responses": frame({"type": "error", "message": "overloaded", "code": "server_error"}, "error"),
    "messages": frame({"type": "error", "error": {"type": "overloaded_error", "message": "no"}}, "error"),
}
"""How each API says in the middle of a stream that it can not go on."""

SECRETS = (b"UNSAFE", b"MARK", b"The folder", b"I look", b"call_a1", b"toolu_01A")
"""Of the recorded streams; nothing of them may be seen of one that is refused."""


def parts(raw: bytes) -> list[bytes]:
    """The events of a stream, each with its end."""
    return [part + b"\n\n" for part in raw.split(b"\n\n") if part]


def unsafe(name: str) -> bytes:
    return recorded(name).replace(b"tidy", b"UNSAFE").replace(b"-notes", b"-MARK")


def is_fault(dialect: str, got: Answer) -> bool:
    """Whether a client of the dialect reads an error."""
    body = json.loads(got.body)
    return bool(body["error"]["message"]) and (dialect != "messages" or body["type"] == "error")


@pytest.mark.parametrize("dialect", PATHS)
@pytest.mark.parametrize("kind", ["calls", "reply", "reasoning"])
def test_a_stream_that_breaks_off_anywhere_is_an_error_of_the_dialect(tmp_path: Path, dialect: str, kind: str) -> None:
    whole = parts(unsafe(f"{dialect}_{kind}"))
    upstream = Scripted(breaks=True)
    with proxied(tmp_path, upstream, ScriptedGuard()) as client:
        for count in range(0, len(whole) + 1, 3):
            upstream.chunks = whole[:count]
            got = client.post(PATHS[dialect], asks(dialect))
            assert (got.status, is_fault(dialect, got)) == (502, True)
            assert not [secret for secret in SECRETS if secret in got.raw]


@pytest.mark.parametrize("dialect", PATHS)
@pytest.mark.parametrize("kind", ["calls", "reply"])
def test_a_stream_that_ends_too_soon_is_judged_as_far_as_it_came(tmp_path: Path, dialect: str, kind: str) -> None:
    upstream = Scripted()
    with proxied(tmp_path, upstream, ScriptedGuard()) as client:
        for raw in (recorded(f"{dialect}_{kind}"), unsafe(f"{dialect}_{kind}")):
            decisions: list[str] = []
            for count in range(1, len(parts(raw)) + 1):
                upstream.chunks = parts(raw)[:count]
                got = client.post(PATHS[dialect], asks(dialect))
                decisions.append(got.headers["x-gelert-decision"])
                assert (got.body == b"".join(upstream.chunks)) == (decisions[-1] == "allow")
                assert MARK.encode() not in got.raw
            turns = [key for key, _ in itertools.groupby(decisions)]
            assert turns == (["allow", "block"] if b"UNSAFE" in raw else ["allow"])


@pytest.mark.parametrize("dialect", PATHS)
def test_an_error_in_the_middle_passes_with_what_is_safe_and_saves_nothing_that_is_not(
    tmp_path: Path, dialect: str
) -> None:
    upstream = Scripted()
    with proxied(tmp_path, upstream, ScriptedGuard()) as client:
        upstream.chunks = [*parts(recorded(f"{dialect}_calls"))[:-2], FAILS[dialect]]
        safe = client.post(PATHS[dialect], asks(dialect))
        upstream.chunks = [*parts(unsafe(f"{dialect}_calls"))[:-2], FAILS[dialect]]
        blocked = client.post(PATHS[dialect], asks(dialect))
    assert safe.body.endswith(FAILS[dialect])
    assert safe.headers["x-gelert-decision"] == "allow"
    assert blocked.headers["x-gelert-decision"] == "block"
    assert not [secret for secret in SECRETS if secret in blocked.raw]
    assert events(blocked.body)


@pytest.mark.parametrize("dialect", PATHS)
def test_a_dripping_stream_is_released_to_the_byte_and_not_before_its_end(tmp_path: Path, dialect: str) -> None:
    chunks = [piece for part in parts(recorded(f"{dialect}_reasoning"))[:12] for piece in (KEPT_ALIVE[dialect], part)]
    upstream = Scripted(chunks, drip_seconds=0.02)
    with proxied(tmp_path, upstream, ScriptedGuard()) as client, client.opened(PATHS[dialect], asks(dialect)) as door:
        assert upstream.begun.wait(5.0)
        started = time.monotonic()
        came = door.recv(1 << 16)
        assert time.monotonic() - started > 0.02 * (len(chunks) - 2)
        while more := door.recv(1 << 16):
            came += more
    assert Answer(came).body == b"".join(chunks)


@pytest.mark.parametrize("dialect", PATHS)
def test_a_drip_without_end_is_given_up_in_the_dialects_words(tmp_path: Path, dialect: str) -> None:
    upstream = Scripted([KEPT_ALIVE[dialect]] * 1_000, drip_seconds=0.02)
    with proxied(tmp_path, upstream, ScriptedGuard(), bounds=Bounds(answer_seconds=0.3)) as client:
        got = client.post(PATHS[dialect], asks(dialect))
        assert upstream.gone.wait(5.0)
    assert (got.status, is_fault(dialect, got)) == (504, True)


@pytest.mark.parametrize("dialect", PATHS)
@pytest.mark.parametrize("how", ["close", "reset", "half"])
def test_a_client_that_cancels_closes_the_upstream(tmp_path: Path, dialect: str, how: str) -> None:
    guard = ScriptedGuard()
    upstream = Scripted(parts(unsafe(f"{dialect}_calls")) * 40, drip_seconds=0.05)
    with proxied(tmp_path, upstream, guard) as client:
        door = client.opened(PATHS[dialect], asks(dialect))
        assert upstream.begun.wait(5.0)
        if how == "reset":
            door.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        if how == "half":
            door.shutdown(socket.SHUT_RDWR)
        door.close()
        assert upstream.gone.wait(5.0)
        assert client.post(PATHS[dialect], b"{").status == 400
    assert guard.judged == []


@pytest.mark.parametrize("dialect", PATHS)
def test_one_unsafe_call_among_many_holds_all_of_them_back(tmp_path: Path, dialect: str) -> None:
    """Calls side by side, their pieces in turn."""
    mark = [MARK[:4], MARK[4:]]
    upstream = Scripted(SIDE_BY_SIDE[dialect](mark))
    with proxied(tmp_path, upstream, ScriptedGuard()) as client:
        blocked = client.post(PATHS[dialect], asks(dialect))
        upstream.chunks = SIDE_BY_SIDE[dialect](["li", "st"])
        safe = client.post(PATHS[dialect], asks(dialect))
    assert blocked.headers["x-gelert-decision"] == "block"
    assert b"first" not in blocked.body
    assert safe.body == b"".join(upstream.chunks)


def chat(halves: list[str]) -> list[bytes]:
    def delta(index: int, **function: str) -> bytes:
        call = {"index": index, "function": function} | ({"id": f"call_{index}"} if "name" in function else {})
        return frame({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})

    begun = [delta(0, name="exec", arguments='{"c": "'), delta(1, name="exec", arguments='{"c": "')]
    middle = [delta(0, arguments="first"), delta(1, arguments=halves[0]), delta(0, arguments='"}')]
    return [*begun, *middle, delta(1, arguments=halves[1]), delta(1, arguments='"}'), b"data: [DONE]\n\n"]


def responses(halves: list[str]) -> list[bytes]:
    def item(index: int) -> bytes:
        call = {"type": "function_call", "call_id": f"call_{index}", "name": "exec", "arguments": ""}
        return frame({"type": "response.output_item.added", "output_index": index, "item": call})

    def delta(index: int, text: str) -> bytes:
        return frame({"type": "response.function_call_arguments.delta", "output_index": index, "delta": text})

    return [item(0), item(1), delta(0, "first"), delta(1, halves[0]), delta(0, "!"), delta(1, halves[1])]


def messages(halves: list[str]) -> list[bytes]:
    def block(index: int) -> bytes:
        use = {"type": "tool_use", "id": f"toolu_{index}", "name": "Bash", "input": {}}
        return frame({"type": "content_block_start", "index": index, "content_block": use}, "content_block_start")

    def delta(index: int, text: str) -> bytes:
        piece = {"type": "input_json_delta", "partial_json": text}
        return frame({"type": "content_block_delta", "index": index, "delta": piece}, "content_block_delta")

    start = frame({"type": "message_start", "message": {"id": "msg_1", "content": []}}, "message_start")
    begun = [start, block(0), block(1), delta(0, '{"c": "first"}'), KEPT_ALIVE["messages"]]
    return [*begun, delta(1, f'{{"c": "{halves[0]}'), delta(1, f'{halves[1]}"}}')]


SIDE_BY_SIDE = {"chat": chat, "responses": responses, "messages": messages}
