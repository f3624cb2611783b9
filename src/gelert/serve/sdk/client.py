"""Asks the running service whether an agent may go on; whatever keeps the answer away is a block that says so.

The adapters of all SDKs ask here. They hand over everything that was said and done so far, in the SDK's own words: the
service has a reader for each of them.
"""

import asyncio
import json
import logging
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import urlencode

import httpcore

from gelert.core.decision import Allow, Ask, Block, Decision
from gelert.core.errors import GelertError, InputError
from gelert.core.records import digest
from gelert.guard.formats.untrusted import Object, as_object, came, text_at
from gelert.guard.policy import Surface
from gelert.serve import approvals, places

DEADLINE_SECONDS = 20.0
"""For everything about one question; above the service's own deadline, so that it is the service that decides."""

MOST_ANSWER_BYTES = 1 << 20
REASON_CHARACTERS = 2_000

ADVICE = {
    Surface.TOOL_CALL: "The tool was not run. Do without it, or do what was asked in a safe way.",
    Surface.TOOL_RESULT: "The result is withheld. Do not act on what it may have said.",
    Surface.REPLY: "The reply is withheld.",
}
"""For who reads the reason: the agent, or the user where it is the reply that may not be given."""

_PROCESS = secrets.token_hex(8)
"""Sets the sessions of this process apart from those of another."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Question:
    """May this go on?"""

    surface: Surface
    run: Object
    """Everything so far, as the reader of ``format`` takes it; its last step is the one in question."""
    format: str
    runtime: str
    """The SDK's name in the audit."""
    session: str = ""
    """What all questions about one run have in common, so that it is read on and not anew."""


@dataclass(frozen=True, slots=True)
class Client:
    """The way to the service."""

    url: str = ""
    """Where it listens, such as ``http://127.0.0.1:8787``; empty asks over its Unix socket, which needs no token."""
    token: str = field(default="", repr=False)
    """For the URL; empty takes the one that the service keeps on this machine."""
    project: str = ""
    """The folder that the agent works in."""
    deadline_seconds: float = DEADLINE_SECONDS

    async def ask(self, question: Question) -> Decision:
        """The service's decision; a degraded block if there is none in time."""
        try:
            async with asyncio.timeout(self.deadline_seconds):
                found = await self._asked(question)
        except TimeoutError:
            found = Block(f"expected a decision within {self.deadline_seconds:g} s, got none", degraded=True)
        except Exception as fault:  # noqa: BLE001 - the boundary: whatever it is, nothing may go on for it
            # A library's own words may hold the token that it did not like.
            why = str(fault) if isinstance(fault, GelertError) else type(fault).__name__
            hint = f"is 'gelert serve' running? ({self.url or places.socket_path()})"
            found = Block(f"expected a decision of the service, got {why}; {hint}", degraded=True)
        if found.degraded:
            _LOG.warning("degraded decision on a %s: %s", question.surface.value, found)
        return found

    def ask_blocking(self, question: Question) -> Decision:
        """The same for callers that cannot wait for a coroutine, whether or not an event loop runs in their thread."""
        with ThreadPoolExecutor(max_workers=1) as thread:
            return thread.submit(asyncio.run, self.ask(question)).result()

    async def _asked(self, question: Question) -> Decision:
        socket = None if self.url else str(places.socket_path())
        token = self.token or (places.token(places.token_path()) if self.url else "")
        query = {
            "surface": question.surface.value,
            "format": question.format,
            "runtime": question.runtime,
            "project": self.project,
            "session": digest([_PROCESS, question.session]) if question.session else "",
        }
        url = f"{(self.url or 'http://localhost').rstrip('/')}/v1/judge?{urlencode(query)}"
        headers = [("content-type", "application/json")]
        headers += [("authorization", f"Bearer {token}")] if token else []
        asked = json.dumps(question.run).encode()
        answered = bytearray()
        async with (
            httpcore.AsyncConnectionPool(uds=socket) as pool,
            pool.stream("POST", url, headers=headers, content=asked) as response,
        ):
            async for part in response.aiter_stream():
                answered += part
                if len(answered) > MOST_ANSWER_BYTES:
                    raise InputError(f"an answer of more than {MOST_ANSWER_BYTES} bytes")
        return _decision(response.status, bytes(answered))


def refusal(decision: Ask | Block, surface: Surface) -> str:
    """Why it may not go on and what to do instead, where the SDK itself asks nobody."""
    state = "degraded, " if decision.degraded else ""
    asks = isinstance(decision, Ask)
    if asks and not decision.degraded and surface is Surface.TOOL_CALL:
        return f"gelert: blocked: {decision.reason}. {approvals.ADVICE}"[:REASON_CHARACTERS]
    asked = " (a person would have to allow it)" if asks else ""
    return f"gelert: {state}blocked: {decision.reason}{asked}. {ADVICE[surface]}"[:REASON_CHARACTERS]


def _decision(status: int, answered: bytes) -> Decision:
    """What the service's answer says.

    Raises:
        InputError: it says no decision.
    """
    try:
        value: object = json.loads(answered)
    except (ValueError, RecursionError):
        raise InputError(f"no JSON with status {status}") from None
    found = as_object(value)
    reason, degraded = text_at(found, "reason"), found.get("degraded") is not False
    match found.get("decision"):
        case "allow" if status == HTTPStatus.OK:
            return Allow(degraded)
        case "ask":
            return Ask(reason, degraded)
        case "block":
            return Block(reason, degraded)
        case _:
            said = text_at(as_object(found.get("error")), "message") or came(value)
            raise InputError(f"status {status}: {said[:REASON_CHARACTERS]}")
