"""What an upstream answered, as something that can be judged: the whole run with the answer at its end."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from gelert.core.example import Example
from gelert.core.trajectory import Role, Trajectory
from gelert.guard.formats import Limits, read_value
from gelert.guard.formats.run import Malformed
from gelert.guard.formats.untrusted import Object
from gelert.guard.policy import Surface
from gelert.serve.proxy.dialect import Dialect
from gelert.serve.proxy.events import events, parsed
from gelert.serve.proxy.upstream import Held

MOST_CHOICES = 8
"""Alternative answers to one request; each is judged."""

_STREAM = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Candidate:
    """An answer that waits for its decision."""

    runs: Sequence[Trajectory]
    """One for each alternative."""
    calls: list[str]
    """The names of the tools it calls."""
    usage: object = None

    @property
    def surface(self) -> Surface:
        """What is in question."""
        return Surface.TOOL_CALL if self.calls else Surface.REPLY


def candidate(dialect: Dialect, request: Object, held: Held, limits: Limits) -> Candidate:
    """The answer, read.

    Raises:
        Malformed: it cannot be read as its dialect says, so nobody knows what a client would make of it.
    """
    streamed = request.get("stream") is True
    if (held.kind == _STREAM) != streamed:
        raise Malformed(f"expected {'a stream' if streamed else 'a single object'}, got the other")
    try:
        answer = dialect.whole(events(held.body)) if streamed else parsed(held.body)
        records = dialect.records(request, answer)
        calls = dialect.calls(answer)
    except RecursionError:
        raise Malformed("expected an answer of moderate depth, got a deeper one") from None
    if len(records) > MOST_CHOICES:
        raise Malformed(f"expected at most {MOST_CHOICES} choices, got {len(records)}")
    return Candidate([_run(dialect, record, limits) for record in records], calls, answer.get("usage"))


def session_of(upstream: str, run: Trajectory) -> str:
    """One key for all requests of a run: a digest of what stands before the agent's first step."""
    digest = hashlib.sha256()
    for step in run.steps:
        if step.role is Role.AGENT:
            break
        digest.update(f"{step.role.value}\0{step.text}\0".encode("utf-8", "surrogatepass"))
    return f"proxy:{upstream}:{digest.hexdigest()[:32]}"


def _run(dialect: Dialect, record: Object, limits: Limits) -> Trajectory:
    found = read_value(record, format=dialect.FORMAT, limits=limits)
    if not isinstance(found, Example):
        raise Malformed(found.reason)
    return found.trajectory
