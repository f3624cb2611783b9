"""Asks a model behind an OpenAI-compatible endpoint: vLLM, SGLang, llama.cpp, Ollama, or a provider.

One deadline bounds a request with all its retries, its waiting for a free slot and its body. What goes wrong on the way
is a ``Failure``; the key and the server's own words appear in none. Proxies named in the environment are not used: the
prompt goes to the endpoint and to nobody else.
"""

import email.utils
import json
import os
import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

import httpcore
import httpx

from gelert.backends.base import Failure, FailureKind, Reply, Request
from gelert.backends.completion import decode, encode
from gelert.backends.deadline import Deadline, DeadlineTransport
from gelert.core.errors import InputError

RETRIED_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 20.0
"""A server that asks for a longer wait is not waited for."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Which model to ask, where, and with how much patience."""

    base_url: str
    """Up to and without ``/chat/completions``, such as ``http://127.0.0.1:8000/v1``."""
    model: str
    api_key_env: str = "GELERT_API_KEY"
    """The environment variable that holds the key, if there is one."""
    connect_seconds: float = 5.0
    read_seconds: float = 60.0
    """Longest silence of the server."""
    deadline_seconds: float = 90.0
    """For the whole request, retries included."""
    retries: int = 3
    max_concurrency: int = 8
    max_body_bytes: int = 4 * 1024 * 1024
    extra_body: Mapping[str, object] = field(default_factory=dict[str, object], hash=False)
    """Further fields of the request, such as ``{"chat_template_kwargs": {"enable_thinking": False}}``."""

    def __post_init__(self) -> None:
        try:
            url = httpx.URL(self.base_url)
        except httpx.InvalidURL as fault:
            raise InputError(
                f"expected an address such as http://127.0.0.1:8000/v1, got one with a fault: {fault}"
            ) from None
        if url.scheme not in ("http", "https") or not url.host:
            raise InputError(f"expected an address beginning with http:// or https://, got scheme {url.scheme!r}")
        if url.userinfo:
            raise InputError(f"expected an address without a password in it; put the key into {self.api_key_env}")
        if min(self.connect_seconds, self.read_seconds, self.deadline_seconds) <= 0 or self.max_concurrency < 1:
            raise InputError("expected positive times and at least one request at a time")

    @property
    def host(self) -> str:
        """The host's name or number."""
        return httpx.URL(self.base_url).host


@dataclass(frozen=True, slots=True)
class _Setback:
    """One attempt that failed."""

    failure: Failure
    wait_seconds: float | None = None
    """How long the server asked to be left alone."""


class HttpBackend:
    """Asks one endpoint, from any number of threads. Close it when done, or use it as a context manager."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        api_key: str | None = None,
        pause: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.endpoint = endpoint
        self._key = (os.environ.get(endpoint.api_key_env) if api_key is None else api_key) or ""
        self._pause = pause
        self._jitter = jitter
        self._slots = threading.BoundedSemaphore(endpoint.max_concurrency)
        self._deadline = Deadline()
        secure = httpx.create_ssl_context() if endpoint.base_url.lower().startswith("https:") else None
        self._client = httpx.Client(
            transport=DeadlineTransport(self._deadline, connections=endpoint.max_concurrency, ssl_context=secure),
            timeout=httpx.Timeout(endpoint.read_seconds, connect=endpoint.connect_seconds),
            headers=headers(self._key),
            trust_env=False,
        )

    def __repr__(self) -> str:
        return f"HttpBackend({self.name!r})"

    @property
    def name(self) -> str:
        """The model and its host."""
        return f"{self.endpoint.model} at {self.endpoint.host}"

    @property
    def concurrency(self) -> int:
        """As many as the endpoint is allowed; more would wait for a slot."""
        return self.endpoint.max_concurrency

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; the backend cannot be asked afterwards."""
        self._client.close()

    def ask(self, request: Request) -> Reply:
        """The model's answer, or why none came within the deadline and the retries."""
        started = time.monotonic()
        deadline = started + self.endpoint.deadline_seconds
        if not self._slots.acquire(timeout=self.endpoint.deadline_seconds):
            return self._too_late()
        try:
            return self._insist(request, started, deadline)
        finally:
            self._slots.release()

    def _insist(self, request: Request, started: float, deadline: float) -> Reply:
        body = encode(request, self.endpoint.model, self.endpoint.extra_body)
        for attempt in range(self.endpoint.retries + 1):
            with self._deadline.until(deadline):
                got = self._attempt(body)
            if isinstance(got, bytes):
                return decode(got, request.labels, time.monotonic() - started)
            if not got.failure.retryable or got.failure.kind == FailureKind.TIMEOUT:
                return got.failure
            wait = got.wait_seconds
            if wait is None:
                wait = min(FIRST_WAIT_SECONDS * 2**attempt, LONGEST_WAIT_SECONDS) * (0.5 + self._jitter() / 2)
            late = time.monotonic() + wait >= deadline
            if attempt == self.endpoint.retries or wait > LONGEST_WAIT_SECONDS or late:
                return got.failure
            self._pause(wait)
        return self._too_late()

    def _attempt(self, body: bytes) -> bytes | _Setback:
        url = self.endpoint.base_url.rstrip("/") + "/chat/completions"
        try:
            with self._client.stream("POST", url, content=body) as response:
                data = self._body(response)
                if isinstance(data, Failure):
                    return _Setback(data)
                return data if response.status_code == 200 else self._status(response, data)
        except (httpcore.TimeoutException, httpx.TimeoutException):
            return _Setback(self._too_late())
        except (httpcore.ConnectError, httpx.ConnectError):
            reason = f"expected a server at {self.endpoint.host}, but no connection could be made"
            return _Setback(Failure(reason, FailureKind.UNREACHABLE, retryable=True))
        except (httpcore.NetworkError, httpcore.ProtocolError, httpx.HTTPError):
            reason = f"expected a whole answer from {self.endpoint.host}, but the connection broke"
            return _Setback(Failure(reason, FailureKind.UNREACHABLE, retryable=True))

    def _body(self, response: httpx.Response) -> bytes | Failure:
        """The body as it is on the wire; compressed ones are refused, for they can be of any size."""
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            return Failure("expected an uncompressed answer, as asked for, got a compressed one", FailureKind.MALFORMED)
        data = bytearray()
        for chunk in response.iter_raw():
            data += chunk
            if len(data) > self.endpoint.max_body_bytes:
                reason = f"expected an answer of at most {self.endpoint.max_body_bytes} bytes, got a larger one"
                return Failure(reason, FailureKind.TOO_LARGE)
        return bytes(data)

    def _status(self, response: httpx.Response, data: bytes) -> _Setback:
        status = response.status_code
        code = error_code(data)
        if status == 413 or (status == 400 and re.search(rb"context[_ ](length|window)|too long", data[:4096])):
            reason = f"expected a request within the model's context, but the endpoint refused its length ({status})"
            return _Setback(Failure(reason, FailureKind.TOO_LONG))
        said = f" ({code})" if code and not (self._key and self._key in code) else ""
        reason = f"expected status 200 from {self.endpoint.host}, got {status}{said}"
        if status == 404:
            reason += f"; does it serve {self.endpoint.model!r}? See: gelert model served {self.endpoint.base_url}"
        again = status in RETRIED_STATUSES
        return _Setback(Failure(reason, FailureKind.STATUS, retryable=again), retry_after(response.headers))

    def _too_late(self) -> Failure:
        reason = (
            f"expected an answer from {self.endpoint.host} within {self.endpoint.deadline_seconds:g} s"
            f" ({self.endpoint.read_seconds:g} s of silence), got none"
        )
        return Failure(reason, FailureKind.TIMEOUT, retryable=True)


def headers(key: str) -> dict[str, str]:
    """Of every request, with the key if there is one.

    Raises:
        InputError: the key cannot stand in a header.
    """
    if not key.isascii() or not key.isprintable():
        raise InputError("expected an API key of printable ASCII characters, got others; was it pasted with a newline?")
    common = {"content-type": "application/json", "accept-encoding": "identity", "user-agent": "gelert"}
    return {**common, "authorization": f"Bearer {key}"} if key else common


def error_code(data: bytes) -> str:
    """The error's short machine word, where the body has one; never its prose, which can quote the prompt."""
    try:
        body: object = json.loads(data[:65536])
    except (ValueError, RecursionError):
        return ""
    inner = body.get("error", body) if isinstance(body, dict) else None
    for key in ("code", "type"):
        word = inner.get(key) if isinstance(inner, dict) else None
        if isinstance(word, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]{0,40}", word):
            return word
    return ""


def retry_after(headers: httpx.Headers) -> float | None:
    """Seconds that the server asks to wait, given as a number or a date; None if it does not say, or not sensibly."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,3})?", value):
        return float(value)
    try:
        date = email.utils.parsedate_to_datetime(value)
        return max(0.0, date.timestamp() - time.time())
    except (ValueError, TypeError, OverflowError, OSError):
        return None
