"""What is done about a verdict, per surface: the only place where a failure turns into a decision.

An ``Unreadable`` verdict fails closed on tool calls and replies unless the operator chose otherwise, and whatever is
decided without a verdict is marked ``degraded``.
"""

from dataclasses import dataclass
from enum import StrEnum

from gelert.core.decision import Allow, Ask, Block, Decision
from gelert.core.verdict import Safe, Unreadable, Unsafe, Verdict


class Surface(StrEnum):
    """Where a decision is asked for."""

    TOOL_CALL = "tool_call"
    TOOL_RESULT = "tool_result"
    REPLY = "reply"


class OnFailure(StrEnum):
    """What to do when there is no verdict."""

    BLOCK = "block"
    ASK = "ask"
    ALLOW = "allow"


@dataclass(frozen=True, slots=True)
class Rule:
    """How one surface treats a verdict."""

    block_at: float | None = None
    """Block at this risk or above; None blocks what the guard itself calls unsafe."""
    ask_at: float | None = None
    """Ask a person at this risk or above, below blocking; None never asks."""
    on_failure: OnFailure = OnFailure.BLOCK


@dataclass(frozen=True, slots=True)
class Policy:
    """One rule per surface."""

    tool_call: Rule = Rule()
    tool_result: Rule = Rule(on_failure=OnFailure.ASK)
    reply: Rule = Rule()

    def rule(self, surface: Surface) -> Rule:
        """The rule of one surface."""
        match surface:
            case Surface.TOOL_CALL:
                return self.tool_call
            case Surface.TOOL_RESULT:
                return self.tool_result
            case Surface.REPLY:
                return self.reply


def decide(verdict: Verdict, surface: Surface, policy: Policy = Policy()) -> Decision:
    """The decision for one verdict on one surface; higher risk never gives a weaker decision."""
    rule = policy.rule(surface)
    match verdict:
        case Unreadable(reason):
            return _without_verdict(rule.on_failure, reason)
        case Safe(risk) | Unsafe(risk):
            unsafe = isinstance(verdict, Unsafe)
            blocked = unsafe if rule.block_at is None else risk >= rule.block_at
            if blocked:
                return Block(f"risk {risk:.2f} on {surface.value}")
            if rule.ask_at is not None and risk >= rule.ask_at:
                return Ask(f"risk {risk:.2f} on {surface.value}")
            return Allow()


def _without_verdict(on_failure: OnFailure, reason: str) -> Decision:
    match on_failure:
        case OnFailure.BLOCK:
            return Block(f"no verdict: {reason}", degraded=True)
        case OnFailure.ASK:
            return Ask(f"no verdict: {reason}", degraded=True)
        case OnFailure.ALLOW:
            return Allow(degraded=True)
