"""What a model API's dialect must say of itself, and the words of a refusal in any of them."""

import re
from dataclasses import dataclass
from typing import Protocol

from gelert.core.decision import Ask, Block
from gelert.guard.formats.untrusted import Object, as_object
from gelert.serve import approvals

SIGN = "gelert:"
"""How every refusal begins."""

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Refusal:
    """What is answered in place of an answer."""

    text: str
    model: str
    identity: str
    """Fresh letters and digits for the ids: runtimes merge messages that share one."""
    seconds: int
    """Since the epoch."""
    usage: Object
    """What the refused answer had cost."""


class Dialect(Protocol):
    """One model API; a module with these is one."""

    @property
    def FORMAT(self) -> str:  # noqa: N802 - a module's constant
        """The name of its reader in ``gelert.guard.formats``."""
        ...

    def whole(self, events: list[Object]) -> Object:
        """The answer that a stream's events make up, as it would have come without streaming."""
        ...

    def records(self, request: Object, answer: Object) -> list[Object]:
        """The conversation with each of the alternative answers, as the format's reader reads it."""
        ...

    def calls(self, answer: Object) -> list[str]:
        """The name of every tool that the answer calls."""
        ...

    def refused(self, refusal: Refusal) -> Object:
        """The refusal as an answer."""
        ...

    def refused_stream(self, refusal: Refusal) -> bytes:
        """The refusal as a stream."""
        ...

    def fault(self, reason: str) -> Object:
        """An error, as its clients read one."""
        ...


def openai_fault(reason: str) -> Object:
    """An error in OpenAI's shape."""
    return {"error": {"message": reason, "type": "gelert", "param": None, "code": None}}


def words(decision: Ask | Block, calls: list[str]) -> str:
    """What the agent is told: what was refused, why, and what it can do now.

    A tool's name is the model's own text, so only a plain one is repeated.
    """
    plain = [f"`{name}`" for name in dict.fromkeys(calls) if _PLAIN_NAME.fullmatch(name)][:_MOST_NAMED]
    tools = f"the call of {', '.join(plain)}" if plain else "a tool call"
    what = f"{tools} was refused and did not run" if calls else "the reply was withheld"
    person = " until a person approves it" if isinstance(decision, Ask) else ""
    degraded = " The guard could give no sound verdict (degraded)." if decision.degraded else ""
    advice = "Do not repeat it; go on in a way that is safe, or ask the user how to proceed."
    if calls and isinstance(decision, Ask) and not decision.degraded:
        advice = approvals.ADVICE
    return f"{SIGN} {what}{person}: {decision.reason}.{degraded} {advice}"


def counts(usage: object) -> Object:
    """The numbers of a usage record, whatever else stands in it."""
    found: Object = {}
    for key, value in as_object(usage).items():
        if isinstance(value, dict):
            found[key] = counts(as_object(value))
        elif isinstance(value, (int, float)):
            found[key] = value
    return found
