"""What every backend promises, asked of the scripted one and of the HTTP one with a real server behind it."""

from collections.abc import Callable, Iterator

import pytest

from gelert.backends.base import Answer, Backend, Failure, FailureKind, Message, Reply, Request, in_order
from gelert.backends.http import Endpoint, HttpBackend
from gelert.backends.scripted import ScriptedBackend
from tests.loopback import Door, Loopback, says, sends

Make = Callable[[Callable[[str], str | None]], Backend]
"""From a function of the question to a backend; None means that the model fails."""


def ask(text: str) -> Request:
    return Request((Message("user", text),), max_tokens=16)


@pytest.fixture(params=["scripted", "http"])
def make(request: pytest.FixtureRequest, loopback: Loopback) -> Iterator[Make]:
    opened: list[HttpBackend] = []

    def scripted(function: Callable[[str], str | None]) -> Backend:
        def reply(question: Request) -> Reply | str:
            return function(question.messages[-1].content) or Failure("as told", FailureKind.STATUS)

        return ScriptedBackend(reply)

    def http(function: Callable[[str], str | None]) -> Backend:
        def behave(door: Door) -> None:
            text = function(str(loopback.bodies[-1]["messages"][-1]["content"]))
            (says(text) if text else sends({}, 400))(door)

        loopback.script = [behave]
        opened.append(HttpBackend(Endpoint(loopback.url, "m", retries=0), api_key=""))
        return opened[-1]

    yield scripted if request.param == "scripted" else http
    for backend in opened:
        backend.close()


def test_a_backend_has_a_name_and_says_how_many_requests_it_takes_at_once(make: Make) -> None:
    backend = make(lambda _: "x")
    assert backend.name
    assert backend.concurrency >= 1


def test_an_answer_is_what_the_model_said(make: Make) -> None:
    reply = make(str.upper).ask(ask("hello"))
    assert isinstance(reply, Answer)
    assert reply.text == "HELLO"


def test_a_failure_is_a_value(make: Make) -> None:
    reply = make(lambda _: None).ask(ask("secret-of-the-prompt"))
    assert isinstance(reply, Failure)
    assert reply.reason
    assert "secret-of-the-prompt" not in reply.reason


def test_replies_come_in_the_order_of_the_requests(make: Make) -> None:
    requests = [ask(str(number)) for number in range(12)]
    backend = make(lambda text: f"re {text}")
    replies = list(in_order(backend.ask, requests, backend.concurrency))
    assert [r.text for r in replies if isinstance(r, Answer)] == [f"re {n}" for n in range(12)]
