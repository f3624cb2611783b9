"""The HTTP backend against a real server that does everything wrong that a server can do wrong."""

import gzip
import json
import socket
import threading
import time
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gelert.backends.base import Answer, Failure, FailureKind, Message, Request
from gelert.backends.completion import decode, label_logprobs
from gelert.backends.http import Endpoint, HttpBackend
from gelert.core.errors import InputError
from tests.loopback import Behaviour, Door, Loopback, completion, says, sends

KEY = "sk-test-not-a-real-key"
QUESTION = Request(
    (Message("system", "Judge."), Message("user", "prompt-words")), max_tokens=5, labels=("safe", "unsafe")
)


def asked(
    server: Loopback, *behaviours: Behaviour, pauses: list[float] | None = None, **options: Any
) -> Answer | Failure:
    server.script = list(behaviours)
    noted = pauses if pauses is not None else []
    with HttpBackend(
        Endpoint(server.url, "dog", **options), api_key=KEY, pause=noted.append, jitter=lambda: 1
    ) as backend:
        return backend.ask(QUESTION)


def failed(reply: Answer | Failure, kind: FailureKind) -> Failure:
    assert isinstance(reply, Failure)
    assert reply.kind == kind
    assert KEY not in reply.reason
    assert "prompt-words" not in reply.reason
    return reply


def test_the_request_is_a_chat_completion_with_logprobs_when_labels_are_given(loopback: Loopback) -> None:
    reply = asked(loopback, says("safe"), extra_body={"chat_template_kwargs": {"enable_thinking": False}})
    assert isinstance(reply, Answer)
    assert (reply.text, reply.finish_reason, reply.prompt_tokens, reply.completion_tokens) == ("safe", "stop", 7, 2)
    assert loopback.paths == ["/v1/chat/completions"]
    assert loopback.headers[0]["authorization"] == f"Bearer {KEY}"
    assert loopback.bodies == [
        {
            "model": "dog",
            "messages": [{"role": "system", "content": "Judge."}, {"role": "user", "content": "prompt-words"}],
            "max_tokens": 5,
            "temperature": 0.0,
            "stream": False,
            "logprobs": True,
            "top_logprobs": 20,
            "chat_template_kwargs": {"enable_thinking": False},
        }
    ]


def test_the_key_comes_from_the_environment_and_shows_nowhere(
    loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOG_KEY", KEY)
    loopback.script = [says("x")]
    with HttpBackend(Endpoint(loopback.url, "dog", api_key_env="DOG_KEY")) as backend:
        assert isinstance(backend.ask(QUESTION), Answer)
        assert KEY not in f"{backend!r} {backend.name} {backend.endpoint!r}"
    assert loopback.headers[0]["authorization"] == f"Bearer {KEY}"


def test_a_proxy_in_the_environment_is_not_used(loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert isinstance(asked(loopback, says("x")), Answer)


@pytest.mark.parametrize(
    "url", ["ftp://h/v1", "127.0.0.1:8000", "http://user:pass@h/v1", "http://", "http://h:port/v1"]
)
def test_a_wrong_address_is_an_error_at_the_door(url: str) -> None:
    with pytest.raises(InputError, match="address"):
        Endpoint(url, "dog")


def test_a_key_with_a_newline_is_an_error_that_does_not_show_it() -> None:
    with pytest.raises(InputError) as caught:
        HttpBackend(Endpoint("http://127.0.0.1:9/v1", "dog"), api_key=KEY + "\n")
    assert KEY not in str(caught.value)


def test_a_refused_connection_fails_after_its_retries() -> None:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        pauses: list[float] = []
        with HttpBackend(Endpoint(url, "dog", retries=2), pause=pauses.append, jitter=lambda: 1) as backend:
            failure = failed(backend.ask(QUESTION), FailureKind.UNREACHABLE)
    assert failure.retryable
    assert pauses == [0.5, 1.0]


def silence(door: Door) -> None:
    door.server.stopping.wait(2)


def test_silence_is_a_timeout_and_is_not_retried(loopback: Loopback) -> None:
    reply = asked(loopback, silence, read_seconds=0.1)
    assert failed(reply, FailureKind.TIMEOUT).retryable
    assert len(loopback.bodies) == 1


def drip_body(door: Door) -> None:
    data = json.dumps(completion("safe")).encode()
    door.send_response(200)
    door.send_header("content-length", str(len(data)))
    door.end_headers()
    for byte in data:
        door.wfile.write(bytes([byte]))
        if door.server.stopping.wait(0.05):
            return


def drip_headers(door: Door) -> None:
    door.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(200):
        door.wfile.write(f"x-{number}: 1\r\n".encode())
        if door.server.stopping.wait(0.05):
            return


@pytest.mark.parametrize("drip", [drip_body, drip_headers])
def test_a_slow_drip_ends_at_the_deadline(drip: Behaviour, loopback: Loopback) -> None:
    started = time.monotonic()
    failed(asked(loopback, drip, deadline_seconds=0.4, read_seconds=5), FailureKind.TIMEOUT)
    assert time.monotonic() - started < 1.0


def test_waiting_for_a_free_slot_counts_towards_the_deadline(loopback: Loopback) -> None:
    loopback.script = [silence]
    endpoint = Endpoint(loopback.url, "dog", deadline_seconds=0.3, max_concurrency=1)
    with HttpBackend(endpoint, api_key="") as backend:
        replies: list[Answer | Failure] = []
        threads = [threading.Thread(target=lambda: replies.append(backend.ask(QUESTION))) for _ in range(3)]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert time.monotonic() - started < 1.0
    assert [failed(reply, FailureKind.TIMEOUT).kind for reply in replies] == [FailureKind.TIMEOUT] * 3


def half_closed(door: Door) -> None:
    door.send_response(200)
    door.send_header("content-length", "1000")
    door.end_headers()
    door.wfile.write(b'{"choices": [')
    door.close_connection = True


def test_a_body_that_breaks_off_is_retried(loopback: Loopback) -> None:
    assert isinstance(asked(loopback, half_closed, says("safe")), Answer)
    failed(asked(loopback, half_closed, retries=1), FailureKind.UNREACHABLE)


def test_a_connection_that_closes_without_a_word_is_retried(loopback: Loopback) -> None:
    def hang_up(door: Door) -> None:
        door.close_connection = True

    assert isinstance(asked(loopback, hang_up, says("safe")), Answer)


def test_too_many_requests_are_waited_for_as_long_as_the_server_says(loopback: Loopback) -> None:
    pauses: list[float] = []
    reply = asked(loopback, sends({}, 429, {"retry-after": "7"}), says("safe"), pauses=pauses)
    assert isinstance(reply, Answer)
    assert pauses == [7.0]


@pytest.mark.parametrize("after", ["3600", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_server_that_asks_for_too_long_a_wait_is_not_waited_for(after: str, loopback: Loopback) -> None:
    pauses: list[float] = []
    busy = sends({}, 429, {"retry-after": after})
    reply = asked(loopback, busy, says("safe"), pauses=pauses, deadline_seconds=1e6)
    assert failed(reply, FailureKind.STATUS).retryable
    assert pauses == []


@pytest.mark.parametrize("after", ["soon", "-1", "nan", "1e9", "", "Fri, 31 Dec 1999 23:59:59 GMT"])
def test_an_odd_retry_after_does_no_harm(after: str, loopback: Loopback) -> None:
    pauses: list[float] = []
    assert isinstance(asked(loopback, sends({}, 503, {"retry-after": after}), says("safe"), pauses=pauses), Answer)
    assert 0 <= pauses[0] <= 0.5


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504])
def test_a_server_in_trouble_is_asked_again_with_growing_waits(status: int, loopback: Loopback) -> None:
    pauses: list[float] = []
    failure = failed(asked(loopback, sends({}, status), pauses=pauses), FailureKind.STATUS)
    assert str(status) in failure.reason
    assert failure.retryable
    assert pauses == [0.5, 1.0, 2.0]
    assert len(loopback.bodies) == 4


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 422])
def test_a_refusal_is_final_and_a_redirect_is_not_followed(status: int, loopback: Loopback) -> None:
    reply = asked(loopback, sends({}, status, {"location": loopback.url + "/elsewhere"}), says("safe"))
    assert not failed(reply, FailureKind.STATUS).retryable
    assert loopback.paths == ["/v1/chat/completions"]


def test_a_refusal_says_the_server_s_word_but_neither_its_prose_nor_the_key(loopback: Loopback) -> None:
    error = {"error": {"message": "no prompt-words for " + KEY, "code": "model_not_found"}}
    assert "model_not_found" in failed(asked(loopback, sends(error, 404)), FailureKind.STATUS).reason
    failed(asked(loopback, sends({"error": {"code": KEY}}, 401)), FailureKind.STATUS)


@pytest.mark.parametrize("status", [413, 400])
def test_a_request_that_is_longer_than_the_context_is_told_apart(status: int, loopback: Loopback) -> None:
    error = {"error": {"message": "maximum context length is 16384", "code": "context_length_exceeded"}}
    failed(asked(loopback, sends(error, status)), FailureKind.TOO_LONG)


def test_a_huge_body_is_left_unread(loopback: Loopback) -> None:
    reply = asked(loopback, sends(b" " * 300_000 + b"{}"), max_body_bytes=100_000)
    failed(reply, FailureKind.TOO_LARGE)


def test_a_compressed_body_is_refused(loopback: Loopback) -> None:
    bomb = gzip.compress(b"0" * 1_000_000)
    failed(asked(loopback, sends(bomb, headers={"content-encoding": "gzip"})), FailureKind.MALFORMED)


SHAPES: list[object] = [
    b"",
    b"<html>busy</html>",
    b"\xff\xfe\x00",
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b'{"choices": ' + b"9" * 5_000 + b"}",
    None,
    [],
    "safe",
    {},
    {"choices": []},
    {"choices": {}},
    {"choices": [None]},
    {"choices": [{}]},
    {"choices": [{"message": []}]},
    completion(None),
    completion(3),
    completion([{"type": "text", "text": "safe"}]),
]


@pytest.mark.parametrize("body", SHAPES, ids=lambda b: str(b)[:24])
def test_a_body_of_the_wrong_shape_is_malformed(body: object, loopback: Loopback) -> None:
    assert not failed(asked(loopback, sends(body)), FailureKind.MALFORMED).retryable


def first_token(*rows: tuple[str, object]) -> dict[str, Any]:
    top = [{"token": token, "logprob": logprob} for token, logprob in rows]
    return {"content": [{**top[0], "top_logprobs": top}]}


@pytest.mark.parametrize(
    "odd", [None, 3, [], {}, {"content": None}, {"content": [3]}, {"content": [{}]}, first_token(("safe", None))]
)
def test_logprobs_of_an_odd_shape_are_none_and_the_answer_stands(odd: object, loopback: Loopback) -> None:
    reply = asked(loopback, says("safe", logprobs=odd))
    assert isinstance(reply, Answer)
    assert reply.label_logprobs is None


def test_the_probabilities_of_the_tokens_that_begin_a_label_are_added() -> None:
    found = label_logprobs(
        first_token((" safe", -1.0), ("Safe", -1.0), ("un", -2.0), ("The", -0.5)), ("safe", "unsafe")
    )
    assert found is not None
    assert dict(found) == pytest.approx({"safe": -1.0 + 0.6931472, "unsafe": -2.0})


@pytest.mark.parametrize("token", ["", " ", "safely", "The", "\u2581"])
def test_a_token_that_begins_no_label_speaks_for_none(token: str) -> None:
    assert label_logprobs(first_token((token, -0.1)), ("safe", "unsafe")) is None


def test_a_token_that_begins_two_labels_speaks_for_none() -> None:
    assert label_logprobs(first_token(("s", -0.1)), ("safe", "so-so")) is None


def test_a_label_that_was_not_seen_is_left_out() -> None:
    assert label_logprobs(first_token(("unsafe", -0.25)), ("safe", "unsafe")) == (("unsafe", pytest.approx(-0.25)),)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "content", "logprobs", "top_logprobs", "token", "logprob", "usage"]),
            inner,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_no_json_makes_the_reader_raise(body: object) -> None:
    assert isinstance(decode(json.dumps(body).encode(), ("safe", "unsafe")), Answer | Failure)
    label_logprobs(body, ("safe", "unsafe"))


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_raise(data: bytes) -> None:
    assert isinstance(decode(data), Failure)


def test_lone_surrogates_neither_break_the_request_nor_reach_the_caller(loopback: Loopback) -> None:
    loopback.script = [sends(b'{"choices": [{"message": {"content": "a\\ud800b"}}]}')]
    with HttpBackend(Endpoint(loopback.url, "dog"), api_key="") as backend:
        reply = backend.ask(Request((Message("user", "x\ud800y"),), max_tokens=1))
    assert isinstance(reply, Answer)
    assert reply.text == "a\ufffdb"
    assert loopback.bodies[0]["messages"][0]["content"] == "x\ufffdy"


def test_one_backend_serves_many_threads_and_keeps_its_connections(loopback: Loopback) -> None:
    loopback.script = [says("safe")]
    with HttpBackend(Endpoint(loopback.url, "dog", max_concurrency=3), api_key="") as backend:
        replies: list[Answer | Failure] = []

        def work() -> None:
            replies.extend(backend.ask(QUESTION) for _ in range(5))

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [type(reply) for reply in replies] == [Answer] * 30
