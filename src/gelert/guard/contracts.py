"""The output contracts of the published AgentDoG checkpoints (arXiv:2601.18491, arXiv:2605.29801): which asks what.

A checkpoint that is shown another contract's prompt answers in prose, so the contract is named, never guessed.
"""

from enum import StrEnum

from gelert.core.errors import InputError


class Contract(StrEnum):
    """What a checkpoint is asked, and the form of its answer."""

    COARSE_1_0 = "agentdog-1.0-coarse"
    """Prints ``safe`` or ``unsafe`` and nothing else."""
    FINE_1_0 = "agentdog-1.0-fine"
    """Prints ``Risk Source:``, ``Failure Mode:``, ``Real-world Harm:``."""
    COARSE_1_5 = "agentdog-1.5-coarse"
    """Writes ``<Analysis>`` and then ``<Judgment> safe|unsafe </Judgment>``."""
    FINE_1_5 = "agentdog-1.5-fine"
    """Writes ``<Analysis>`` and then ``Failure Mode:``, ``Risk Consequence:``, ``Risk Source:``."""
    UNIFIED_1_5 = "agentdog-1.5-unified"
    """Thinks, then writes ``Safety: safe`` alone, or ``Safety: unsafe`` and the three lines."""
    GUARDRAIL_JSON = "agentdog-guardrail-json"
    """Writes ``{"pred": 0|1, "reason": ..}``, as the online guardrail's judge does."""

    @classmethod
    def named(cls, name: str) -> "Contract":
        """The contract of this name.

        Raises:
            InputError: there is none.
        """
        try:
            return cls(name)
        except ValueError:
            raise InputError(f"expected a contract out of {[c.value for c in cls]}, got {name!r}") from None

    @property
    def is_fine(self) -> bool:
        """Whether it diagnoses only. It has no safe option and must never be asked of a run not known to be unsafe."""
        return self in (Contract.FINE_1_0, Contract.FINE_1_5)

    @property
    def begins_with_label(self) -> bool:
        """Whether the first generated token is the verdict, so that its probability can be read there."""
        return self == Contract.COARSE_1_0

    @property
    def fine_partner(self) -> "Contract":
        """The fine-grained contract of the same release."""
        return Contract.FINE_1_0 if self in (Contract.COARSE_1_0, Contract.FINE_1_0) else Contract.FINE_1_5


LABELS = ("safe", "unsafe")
