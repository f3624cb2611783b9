"""The proxy between a real client and a real upstream: a safe answer is the upstream's to the byte, an unsafe one
never leaves."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gelert.guard.policy import OnFailure, Policy, Rule
from gelert.serve.proxy.events import events
from gelert.serve.proxy.upstream import Bounds
from tests.serve.proxy.wire import PATHS, SSE, STREAMS, Scripted, asks, proxied, recorded
from tests.serve.scripted_guard import MARK, Mood, ResumableGuard, ScriptedGuard

NAMES = sorted(path.stem for path in STREAMS.glob("*.sse"))


def unsafe(raw: bytes) -> bytes:
    """The same stream with the mark in its call or reply, in two deltas."""
    assert b"tidy" in raw
    return raw.replace(b"tidy", b"UNSAFE").replace(b"-notes", b"-MARK")


def text_of(dialect: str, stream: bytes) -> str:
    """What a client of the dialect shows of a stream."""
    found = events(stream)
    match dialect:
        case "chat":
            assert stream.endswith(b"data: [DONE]\n\n")
            return "".join(c["delta"].get("content", "") for e in found for c in as_any(e["choices"]))
        case "responses":
            assert found[-1]["type"] == "response.completed"
            return said_in(dialect, as_any(found[-1]["response"]))
        case _:
            assert found[-1]["type"] == "message_stop"
            return "".join(as_any(e["delta"]).get("text", "") for e in found if e["type"] == "content_block_delta")


def said_in(dialect: str, answer: Any) -> str:
    """What a client of the dialect shows of an answer that came at once."""
    match dialect:
        case "chat":
            return answer["choices"][0]["message"]["content"]
        case "responses":
            return "".join(part["text"] for item in answer["output"] for part in item["content"])
        case _:
            return "".join(block["text"] for block in answer["content"])


def as_any(value: object) -> Any:
    return value


def chat_whole(word: str) -> dict[str, Any]:
    called = {"name": "exec", "arguments": json.dumps({"command": word})}
    calls = [{"id": "call_a1", "type": "function", "function": called}]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    return {"id": "c-1", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}


def responses_whole(word: str) -> dict[str, Any]:
    call = {"type": "function_call", "call_id": "call_a1", "name": "exec", "arguments": json.dumps({"cmd": word})}
    return {"id": "resp_1", "object": "response", "status": "completed", "output": [call]}


def messages_whole(word: str) -> dict[str, Any]:
    call = {"type": "tool_use", "id": "toolu_01A", "name": "exec", "input": {"command": word}}
    return {"id": "msg_1", "type": "message", "role": "assistant", "content": [call], "stop_reason": "tool_use"}


WHOLE: dict[str, Callable[[str], dict[str, Any]]] = {
    "chat": chat_whole,
    "responses": responses_whole,
    "messages": messages_whole,
}


def pieces(raw: bytes, size: int = 41) -> list[bytes]:
    return [raw[n : n + size] for n in range(0, len(raw), size)]


def dialect_of(name: str) -> str:
    return name.partition("_")[0]


def test_there_are_streams_of_every_kind_for_every_dialect() -> None:
    kinds = {"reply", "calls", "reasoning", "error", "cancelled"}
    assert {f"{dialect}_{kind}" for dialect in PATHS for kind in kinds} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_safe_stream_is_the_upstreams_to_the_byte(tmp_path: Path, name: str) -> None:
    raw = recorded(name)
    with proxied(tmp_path, Scripted(pieces(raw)), ScriptedGuard()) as client:
        got = client.post(PATHS[dialect_of(name)], asks(dialect_of(name)))
    assert got.status == 200
    assert got.headers["x-gelert-decision"] == "allow"
    assert got.body == raw


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(("_calls", "_reply"))])
def test_an_unsafe_answer_never_reaches_the_client(tmp_path: Path, name: str) -> None:
    raw = unsafe(recorded(name))
    dialect = dialect_of(name)
    with proxied(tmp_path, Scripted(pieces(raw)), ScriptedGuard()) as client:
        got = client.post(PATHS[dialect], asks(dialect))
    assert got.headers["x-gelert-decision"] == "block"
    for secret in (b"call_a1", b"toolu_01A", b"UNSAFE", b"MARK", b"The folder", b"I look"):
        assert secret not in got.raw
    said = text_of(dialect, got.body)
    assert said.startswith("gelert: the call of `" if name.endswith("_calls") else "gelert: the reply was withheld")
    assert "risk 0.99" in said


@pytest.mark.parametrize("dialect", PATHS)
@pytest.mark.parametrize("mark", ["", MARK])
def test_an_answer_without_streaming_is_held_as_well(tmp_path: Path, dialect: str, mark: str) -> None:
    raw = json.dumps({**WHOLE[dialect](mark), "a field": [1.50, "\u00e9"]}, indent=1).encode()
    with proxied(tmp_path, Scripted(pieces(raw), kind="application/json"), ScriptedGuard()) as client:
        got = client.post(PATHS[dialect], asks(dialect, stream=False))
    if mark:
        assert mark.encode() not in got.raw
        assert "gelert: the call of `exec` was refused" in said_in(dialect, json.loads(got.body))
    else:
        assert got.body == raw


@pytest.mark.parametrize("dialect", PATHS)
@pytest.mark.parametrize("mood", [Mood.RAISES, Mood.UNREADABLE])
def test_without_a_verdict_nothing_is_released_and_the_client_sees_why(
    tmp_path: Path, dialect: str, mood: Mood
) -> None:
    upstream = Scripted(pieces(recorded(f"{dialect}_reply")))
    with proxied(tmp_path, upstream, ScriptedGuard(mood)) as client:
        got = client.post(PATHS[dialect], asks(dialect))
    assert b"The folder" not in got.raw
    assert got.headers["x-gelert-degraded"] == "true"
    assert "degraded" in text_of(dialect, got.body)


def test_a_policy_that_lets_failures_pass_marks_what_it_released(tmp_path: Path) -> None:
    raw = recorded("chat_reply")
    policy = Policy(reply=Rule(on_failure=OnFailure.ALLOW))
    with proxied(tmp_path, Scripted([raw]), ScriptedGuard(Mood.RAISES), policy=policy) as client:
        got = client.post(PATHS["chat"], asks("chat"))
    assert got.body == raw
    assert got.headers["x-gelert-degraded"] == "true"


def test_what_must_be_asked_of_a_person_is_not_released(tmp_path: Path) -> None:
    policy = Policy(reply=Rule(ask_at=0.0))
    with proxied(tmp_path, Scripted([recorded("chat_reply")]), ScriptedGuard(), policy=policy) as client:
        got = client.post(PATHS["chat"], asks("chat"))
    assert b"The folder" not in got.raw
    assert "until a person approves it" in text_of("chat", got.body)


def test_every_alternative_answer_is_judged(tmp_path: Path) -> None:
    answer = chat_whole("ls")
    answer["choices"] += [chat_whole(MARK)["choices"][0] | {"index": 1}]
    upstream = Scripted([json.dumps(answer).encode()], kind="application/json")
    with proxied(tmp_path, upstream, ScriptedGuard()) as client:
        got = client.post(PATHS["chat"], asks("chat", stream=False) | {"n": 2})
    assert MARK.encode() not in got.raw


def test_the_request_goes_upstream_as_it_came(tmp_path: Path) -> None:
    upstream = Scripted([recorded("messages_reply")])
    body = json.dumps(asks("messages") | {"a field": [1.50, {"x": None}]}, indent=3).encode()
    with proxied(tmp_path, upstream, ScriptedGuard()) as client:
        client.post(
            "v1/messages?beta=true", body, x_api_key="sk-1", anthropic_version="2023-06-01", x_gelert_token="t" * 32
        )
    address, headers, sent = upstream.asked[0]
    assert (address, sent) == ("/v1/messages?beta=true", body)
    assert (headers["x-api-key"], headers["anthropic-version"]) == ("sk-1", "2023-06-01")
    assert headers["accept-encoding"] == "identity"
    assert "x-gelert-token" not in headers


def test_the_answers_headers_come_along(tmp_path: Path) -> None:
    given = [("x-request-id", "req_7"), ("set-cookie", "a=1"), ("set-cookie", "b=2")]
    upstream = Scripted([recorded("chat_reply")], headers=given)
    with proxied(tmp_path, upstream, ScriptedGuard()) as client:
        got = client.post(PATHS["chat"], asks("chat"))
    assert got.headers["x-request-id"] == "req_7"
    assert got.headers["content-type"] == SSE
    assert "set-cookie: a=1\r\n" in got.head
    assert "set-cookie: b=2" in got.head


@pytest.mark.parametrize("status", [400, 401, 429, 500, 529])
def test_an_upstreams_error_passes_as_it_came(tmp_path: Path, status: int) -> None:
    raw = b'{"type": "error",  "error": {"type": "overloaded_error", "message": "no"}}'
    upstream = Scripted([raw], kind="application/json", status=status, headers=[("retry-after", "7")])
    with proxied(tmp_path, upstream, ScriptedGuard(Mood.RAISES)) as client:
        got = client.post(PATHS["messages"], asks("messages"))
    assert (got.status, got.body, got.headers["retry-after"]) == (status, raw, "7")


@pytest.mark.parametrize("dialect", PATHS)
def test_a_stream_that_breaks_off_is_an_error_and_releases_nothing(tmp_path: Path, dialect: str) -> None:
    upstream = Scripted([recorded(f"{dialect}_reply")], breaks=True)
    with proxied(tmp_path, upstream, ScriptedGuard()) as client:
        got = client.post(PATHS[dialect], asks(dialect))
        assert client.post("v1/none", {}).status == 404
    assert got.status == 502
    assert b"The folder" not in got.raw
    assert json.loads(got.body)["error"]["message"].startswith("expected a whole answer")


def test_a_redirection_is_not_followed(tmp_path: Path) -> None:
    upstream = Scripted([b""], status=307, headers=[("location", "http://169.254.169.254/")])
    with proxied(tmp_path, upstream, ScriptedGuard()) as client:
        got = client.post(PATHS["chat"], asks("chat"))
    assert got.status == 502
    assert len(upstream.asked) == 1


def test_an_answer_that_takes_too_long_is_not_waited_for(tmp_path: Path) -> None:
    upstream = Scripted(pieces(recorded("chat_reply"), 4), drip_seconds=0.05)
    with proxied(tmp_path, upstream, ScriptedGuard(), bounds=Bounds(answer_seconds=0.3)) as client:
        got = client.post(PATHS["chat"], asks("chat"))
    assert got.status == 504


def test_an_answer_that_is_too_long_is_not_held(tmp_path: Path) -> None:
    upstream = Scripted(pieces(recorded("chat_reply")))
    with proxied(tmp_path, upstream, ScriptedGuard(), bounds=Bounds(answer_bytes=200)) as client:
        got = client.post(PATHS["chat"], asks("chat"))
    assert got.status == 502
    assert b"The folder" not in got.raw


def test_what_is_held_at_once_is_bounded_and_given_back(tmp_path: Path) -> None:
    raw = recorded("chat_reply")
    body = json.dumps(asks("chat")).encode()
    bounds = Bounds(held_bytes=len(raw) + len(body))
    with proxied(tmp_path, Scripted(pieces(raw)), ScriptedGuard(), bounds=bounds) as client:
        for _ in range(3):
            assert client.post(PATHS["chat"], body).body == raw
        assert client.post(PATHS["chat"], body + b" ").status == 503


def test_a_client_that_leaves_is_not_waited_for_upstream(tmp_path: Path) -> None:
    upstream = Scripted(pieces(recorded("chat_reply"), 8), drip_seconds=0.1)
    with proxied(tmp_path, upstream, ScriptedGuard()) as client:
        with client.opened(PATHS["chat"], asks("chat")):
            assert upstream.begun.wait(5.0)
        assert upstream.gone.wait(5.0)


def test_models_are_listed_and_other_paths_are_not_passed_on(tmp_path: Path) -> None:
    upstream = Scripted([b'{"input_tokens":10}'], kind="application/json")
    with proxied(tmp_path, upstream, ScriptedGuard(Mood.RAISES)) as client:
        assert client.post("v1/messages/count_tokens", asks("messages")).body == b'{"input_tokens":10}'
        for path in ("v1/responses/resp_1", "v1/../chat/completions", "v1/v1/messages", "", "%2e%2e/v1/messages"):
            assert client.post(path, {}).status == 404
    assert len(upstream.asked) == 1


@pytest.mark.parametrize("dialect", PATHS)
def test_a_growing_run_keeps_its_session(tmp_path: Path, dialect: str) -> None:
    guard = ResumableGuard()
    with proxied(tmp_path, Scripted([recorded(f"{dialect}_calls")]), guard) as client:
        client.post(PATHS[dialect], asks(dialect))
        begun = guard.read
        client.post(PATHS[dialect], going_on(dialect))
    whole = guard.judged[-1]
    assert whole > begun
    assert guard.read == whole


def going_on(dialect: str) -> dict[str, Any]:
    """The request after the recorded calls were made, as a runtime sends it."""
    request = asks(dialect)
    match dialect:
        case "chat":
            arguments = ['{"command": "tidy-notes"}', '{"path": "notes.txt"}']
            functions = [{"name": n, "arguments": a} for n, a in zip(["exec", "read"], arguments, strict=True)]
            ids = ["call_a1", "call_b2"]
            calls = [{"id": i, "type": "function", "function": f} for i, f in zip(ids, functions, strict=True)]
            request["messages"] += [{"role": "assistant", "content": None, "tool_calls": calls}]
            request["messages"] += [{"role": "tool", "tool_call_id": i, "content": "ok"} for i in ids]
        case "responses":
            arguments = '{"cmd": "tidy-notes"}'
            call = {"type": "function_call", "call_id": "call_a1", "name": "exec_command", "arguments": arguments}
            result = {"type": "function_call_output", "call_id": "call_a1", "output": "ok"}
            request["input"] += [call, result]
        case _:
            call = {"type": "tool_use", "id": "toolu_01A", "name": "Bash", "input": {"command": "tidy-notes"}}
            result = {"type": "tool_result", "tool_use_id": "toolu_01A", "content": "ok"}
            words = {"type": "text", "text": "I look first."}
            request["messages"] += [{"role": "assistant", "content": [words, call]}]
            request["messages"] += [{"role": "user", "content": [result]}]
    return request
