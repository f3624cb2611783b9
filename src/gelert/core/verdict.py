"""What a guard answers: safe, unsafe with a diagnosis, or that it could not read its model's answer.

A verdict is never a boolean: a guard that cannot read must say so, and ``gelert.guard.policy`` says what that means.
"""

from dataclasses import dataclass

from gelert.core.taxonomy import Diagnosis


@dataclass(frozen=True, slots=True)
class Evidence:
    """A step that moved the verdict."""

    step: int
    """Zero-based index into ``Trajectory.steps``."""
    weight: float
    """How much the risk rose at this step, in probability; 0 if it never rose and was highest here."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How much of the trajectory the guard saw."""

    steps_read: int
    steps_total: int
    windows: int = 1
    elided_characters: int = 0
    """Characters left out of the middle of single steps that were longer than a window."""

    @property
    def complete(self) -> bool:
        """Whether every character of every step was read."""
        return self.steps_read == self.steps_total and self.elided_characters == 0


@dataclass(frozen=True, slots=True)
class Safe:
    """The agent did no harm: it met no risk, or met one and handled it."""

    risk: float
    """Calibrated probability that the trajectory is unsafe; below the guard's threshold."""
    reading: Reading
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Unsafe:
    """At least one step of the agent was unsafe."""

    risk: float
    """Calibrated probability that the trajectory is unsafe; at or above the guard's threshold."""
    reading: Reading
    diagnosis: Diagnosis = Diagnosis()
    evidence: tuple[Evidence, ...] = ()
    rationale: str = ""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """No verdict: the model's answer did not have the form it should have, or none came."""

    reason: str
    """What was expected and what came, without quoting the trajectory."""


Verdict = Safe | Unsafe | Unreadable
