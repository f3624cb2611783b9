"""The model APIs that may be asked, and an answer of one of them, held in full.

Only what is listed when the service starts is ever asked, redirections are not followed, and the client's key goes
there with its other headers and is kept nowhere.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx

from gelert.core.errors import InputError

_HOP = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
"""Headers of one connection (RFC 9110, section 7.6.1)."""

_OURS = _HOP | {"host", "content-length", "accept-encoding", "expect", "x-gelert-token"}

Header = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Upstream:
    """One model API."""

    name: str
    """As it stands in the proxy's paths."""
    url: str
    """What takes the place of ``/proxy/NAME`` in a request's address."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of an answer is waited for and held."""

    answer_seconds: float = 900.0
    """From the request to the end of the answer; a model may think for long."""
    answer_bytes: int = 16 << 20
    """Of one answer."""
    held_bytes: int = 256 << 20
    """Of all requests and answers together."""


@dataclass(frozen=True, slots=True)
class Held:
    """An answer as it came."""

    status: int
    headers: Sequence[Header]
    body: bytes

    @property
    def kind(self) -> str:
        """Its media type, without parameters."""
        given = next((value for name, value in self.headers if name == "content-type"), "")
        return given.partition(";")[0].strip().lower()


class UpstreamError(Exception):
    """No answer that could be held: the status for the client and what is said of it."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


def upstream(given: str) -> Upstream:
    """What ``NAME=URL`` means.

    Raises:
        InputError: it has another form.
    """
    name, _, url = given.partition("=")
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and not (parts.query or parts.fragment)
        sound = sound and parts.port != 0 and not parts.username
    except ValueError:
        sound = False
    if not (sound and name.isascii() and name.replace("-", "").isalnum()):
        raise InputError(
            f"expected an upstream as NAME=URL with http or https, got {given!r}; "
            "for example openai=https://api.openai.com/v1"
        )
    return Upstream(name, url.rstrip("/"))


class Line:
    """Carries requests to upstreams and holds what they answer.

    Args:
        bounds: on every answer.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.held = 0
        """Bytes of requests and answers that are held now."""
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(bounds.answer_seconds, connect=30.0),
            limits=httpx.Limits(max_connections=None),
            follow_redirects=False,
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def send(self, method: str, url: str, headers: Sequence[Header], body: bytes) -> Held:
        """The whole answer to one request.

        Raises:
            UpstreamError: none came, or one that cannot be held or read.
        """
        # What is compressed could not be read here without changing it.
        kept = [*((name, value) for name, value in headers if name not in _OURS), ("accept-encoding", "identity")]
        try:
            async with asyncio.timeout(self.bounds.answer_seconds):
                request = self._client.build_request(method, url, headers=httpx.Headers(kept), content=body)
                return await self._receive(await self._client.send(request, stream=True))
        except TimeoutError:
            reason = f"expected the upstream's whole answer within {self.bounds.answer_seconds:g} s, got none"
            raise UpstreamError(HTTPStatus.GATEWAY_TIMEOUT, reason) from None
        except (httpx.HTTPError, httpx.InvalidURL) as fault:
            reason = f"expected a whole answer from the upstream, got {type(fault).__name__}; nothing of it is released"
            raise UpstreamError(HTTPStatus.BAD_GATEWAY, reason) from None

    async def _receive(self, response: httpx.Response) -> Held:
        parts: list[bytes] = []
        count = 0
        try:
            if response.headers.get("content-encoding", "identity") != "identity":
                raise UpstreamError(HTTPStatus.BAD_GATEWAY, "expected an answer that is not compressed")
            if response.status_code < 200 or 300 <= response.status_code < 400:
                reason = f"expected an answer from the upstream, got status {response.status_code}"
                raise UpstreamError(HTTPStatus.BAD_GATEWAY, reason)
            async for part in response.aiter_raw():
                count += len(part)
                self.held += len(part)
                if count > self.bounds.answer_bytes:
                    reason = f"expected an answer of at most {self.bounds.answer_bytes} bytes, got more"
                    raise UpstreamError(HTTPStatus.BAD_GATEWAY, reason)
                if self.held > self.bounds.held_bytes:
                    reason = "expected room for one more answer, got too many that are held; try again"
                    raise UpstreamError(HTTPStatus.SERVICE_UNAVAILABLE, reason)
                parts.append(part)
        except BaseException:
            self.held -= count
            raise
        finally:
            await response.aclose()
        headers = [(n.lower(), v) for n, v in response.headers.multi_items()]
        return Held(
            response.status_code, [h for h in headers if h[0] not in _HOP | {"content-length"}], b"".join(parts)
        )

    def release(self, held: Held) -> None:
        """Say that an answer is on its way to the client, or refused."""
        self.held -= len(held.body)
