"""What every backend promises, asked of the scripted one and of the HTTP one with a real server behind it."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from gelert.backends.base import Answer, Backend, Failure, FailureKind, Message, Reply, Request, ask_many
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


def test_a_backend_has_a_name(make: Make) -> None:
    assert make(lambda _: "x").name


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
    replies = list(ask_many(make(lambda text: f"re {text}"), requests, concurrency=1))
    assert [r.text for r in replies if isinstance(r, Answer)] == [f"re {n}" for n in range(12)]


class Slow:
    """A backend that notes how many are inside it at once; later requests finish sooner."""

    name = "slow"

    def __init__(self) -> None:
        self.most = self.inside = self.asked = 0
        self._lock = threading.Lock()

    def ask(self, request: Request) -> Reply:
        with self._lock:
            self.inside += 1
            self.asked += 1
            self.most = max(self.most, self.inside)
        number = int(request.messages[0].content)
        time.sleep(0.02 if number % 2 else 0.001)
        with self._lock:
            self.inside -= 1
        return Answer(str(number))


def test_many_are_asked_at_once_but_no_more_than_the_bound_and_order_is_kept() -> None:
    backend = Slow()
    replies = list(ask_many(backend, (ask(str(n)) for n in range(20)), concurrency=3))
    assert [r.text for r in replies if isinstance(r, Answer)] == [str(n) for n in range(20)]
    assert 1 < backend.most <= 3


def test_requests_are_drawn_as_they_are_needed_and_leaving_early_drops_the_rest() -> None:
    backend, drawn = Slow(), 0

    def endless() -> Iterator[Request]:
        nonlocal drawn
        while True:
            yield ask(str(drawn))
            drawn += 1

    for reply in ask_many(backend, endless(), concurrency=4):
        assert isinstance(reply, Answer)
        break
    assert drawn <= 4
    assert backend.asked <= 4
