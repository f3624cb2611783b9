"""The bytes of a request, bounded in number and in time."""

import asyncio
import time
from http import HTTPStatus

from starlette.requests import ClientDisconnect, Request

from gelert.serve.limits import Limits


class RefusedError(Exception):
    """A request that cannot be read: its status and what is said of it."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


async def body(request: Request, limits: Limits, since: float) -> bytes:
    """All bytes of a request.

    Args:
        request: whose body has not been read.
        limits: on bytes and seconds.
        since: when the request came, by ``time.monotonic``.

    Raises:
        RefusedError: there are too many, they come too slowly, or the client went away.
    """
    parts: list[bytes] = []
    count = 0
    try:
        async with asyncio.timeout(since + limits.deadline_seconds / 2 - time.monotonic()):
            async for part in request.stream():
                count += len(part)
                if count > limits.max_bytes:
                    reason = f"expected at most {limits.max_bytes} bytes, got more"
                    raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason)
                parts.append(part)
    except TimeoutError:
        reason = f"expected the whole request within {limits.deadline_seconds / 2:g} s, got {count} bytes of it"
        raise RefusedError(HTTPStatus.REQUEST_TIMEOUT, reason) from None
    except ClientDisconnect:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "expected a whole request, got a client that went away") from None
    return b"".join(parts)
