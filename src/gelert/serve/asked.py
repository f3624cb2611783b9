"""The question and the answer that cross every door of the service, and who turns a verdict into a decision."""

from dataclasses import dataclass
from typing import Protocol

from gelert.core.decision import Decision
from gelert.core.trajectory import Trajectory
from gelert.core.verdict import Verdict
from gelert.guard.policy import Surface


@dataclass(frozen=True, slots=True)
class Asked:
    """One question: may this go on?"""

    surface: Surface
    trajectory: Trajectory
    """Everything so far; its last step is the one in question."""
    session: str = ""
    """Who asks, so that a growing run is read on and not anew; an empty one is read whole."""
    runtime: str = ""
    """Through which door it came: ``codex``, ``claude-code``, ``openclaw``, ``proxy``, ``api``."""
    trace: str = ""
    """The W3C ``traceparent`` that came with the question."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What was decided and why."""

    decision: Decision
    verdict: Verdict
    """``Unreadable`` where none could be had."""
    number: int
    """Of its audit record; 0 if it could not be written down, and the decision then counts as one without a verdict."""
    milliseconds: float
    """From the question to its recorded decision."""


class PolicySource(Protocol):
    """A policy that may change while the service runs. The engine asks it once for each verdict."""

    def decide(self, verdict: Verdict, surface: Surface, trajectory: Trajectory) -> Decision:
        """The decision; an ``Unreadable`` verdict fails as the surface's rule says."""
        ...
