"""What is done about a verdict: allow, ask a person, or block. The three are totally ordered."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Allow:
    """Let it pass."""

    degraded: bool = False
    """True if no verdict stood behind the decision (a failure, and a policy that lets failures pass)."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Let a person decide."""

    reason: str
    degraded: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """Stop it."""

    reason: str
    degraded: bool = False


Decision = Allow | Ask | Block


def _rank(decision: Decision) -> tuple[int, bool, str]:
    match decision:
        case Allow(degraded):
            return (0, degraded, "")
        case Ask(reason, degraded):
            return (1, degraded, reason)
        case Block(reason, degraded):
            return (2, degraded, reason)


def strictest(*decisions: Decision) -> Decision:
    """The decision that dominates: Block over Ask over Allow, degraded over sound; ties by the reason's text.

    Associative, commutative and idempotent, so rules can be joined in any order.

    >>> strictest(Allow(), Block("rm -rf /"), Ask("pays 900 EUR"))
    Block(reason='rm -rf /', degraded=False)
    """
    return max(decisions, key=_rank, default=Allow())
