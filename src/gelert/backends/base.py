"""What crosses the door to a model: a request goes out; an answer, or a failure as a value, comes back."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model."""

    messages: tuple[Message, ...]
    max_tokens: int
    labels: tuple[str, ...] = ()
    """Words that the answer may begin with, whose log-probabilities are wanted."""
    temperature: float = 0.0
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said."""

    text: str
    label_logprobs: tuple[tuple[str, float], ...] | None = None
    """Natural log-probability, at the first generated token, of each label that the backend could see there.

    None if it saw none of them. A label that is missing was not among the likeliest tokens; it is never guessed.
    """
    finish_reason: str = "stop"
    """As the backend says it; ``length`` if the answer was cut at ``max_tokens``; empty if it does not say."""
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    """Of these, what the server had read before; vLLM says it if started with ``--enable-prompt-tokens-details``."""
    completion_tokens: int | None = None
    seconds: float = 0.0
    """From the call to the answer, waiting and retries included."""


class FailureKind(StrEnum):
    """Why no answer came."""

    TIMEOUT = "timeout"
    """The deadline passed."""
    UNREACHABLE = "unreachable"
    """No connection, or it broke."""
    STATUS = "status"
    """The server answered with a status other than 200."""
    TOO_LONG = "too_long"
    """The request is longer than the model's context."""
    TOO_LARGE = "too_large"
    """The server's body is larger than is accepted."""
    MALFORMED = "malformed"
    """The server's body is not the JSON that it should be."""
    UNSUPPORTED = "unsupported"
    """The model's chat form has no place for the messages."""
    EXHAUSTED = "exhausted"
    """A scripted backend has no answer left."""


@dataclass(frozen=True, slots=True)
class Failure:
    """No answer came. Holds neither the prompt nor the key nor the server's own words."""

    reason: str
    """What was expected and what came."""
    kind: FailureKind
    retryable: bool = False
    """Whether the same request may well succeed later."""


Reply = Answer | Failure


class Backend(Protocol):
    """A model that can be asked, from several threads at once.

    Whatever the model or the way to it does wrong is a ``Failure``; an exception is a fault of the program.
    """

    @property
    def name(self) -> str:
        """What reports call the model."""
        ...

    @property
    def concurrency(self) -> int:
        """How many requests at once it is best asked."""
        ...

    def ask(self, request: Request) -> Reply:
        """The model's answer, or why there is none."""
        ...


AHEAD = 4
"""Items that are drawn and not yet given back, for each that may be under way: one that takes long holds nobody up."""


def in_order(work: Callable[[Item], Made], items: Iterable[Item], concurrency: int) -> Iterator[Made]:
    """What ``work`` makes of each item, in the order of the items, with at most ``concurrency`` of them under way.

    Items are drawn as they are needed, at most ``AHEAD`` times as many as may be under way, so an endless stream is
    fine. Leaving early drops those that have not begun and waits for those that have. One at a time is done in the
    calling thread.
    """
    if concurrency <= 1:
        yield from map(work, items)
        return
    waiting: deque[Future[Made]] = deque()
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="in-order")
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= AHEAD * concurrency:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
