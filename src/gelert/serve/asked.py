"""The question and the answer that cross every door of the service, and who turns a verdict into a decision."""

from dataclasses import dataclass
from typing import Protocol

from gelert.core.decision import Decision
from gelert.core.trajectory import ToolCall, Trajectory
from gelert.core.verdict import Unreadable, Verdict
from gelert.guard.flow import questioned
from gelert.guard.policy import Policy, Surface, decide
from gelert.guard.policy_file import Question

MOST_PROJECT_CHARACTERS = 4_096
"""Of a folder's path. A longer one counts as none: cut short, it could be the path of another folder."""


def project_of(path: object) -> str:
    """The folder, or none if this is no path of one."""
    return path if isinstance(path, str) and len(path) <= MOST_PROJECT_CHARACTERS else ""


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
    project: str = ""
    """The folder that the agent works in, as its runtime says; empty if it does not."""
    call: ToolCall | None = None
    """The one in question as the runtime will run it, where it says so; else it is whatever calls the run ends in."""

    @property
    def calls(self) -> list[ToolCall]:
        """The calls in question."""
        return [self.call] if self.call else questioned(self.trajectory)


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

    @property
    def fault(self) -> str:
        """Why what the operator wrote last is not what is followed; empty if it is."""
        ...

    def decide(self, verdict: Verdict, question: Question) -> Decision:
        """The decision; an ``Unreadable`` verdict fails as the surface's rule says."""
        ...


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a policy makes of a verdict."""

    decision: Decision
    failed: bool = False
    """The policy raised a fault, and the decision is the default policy's where no verdict can be had."""


def ruled(policy: PolicySource | Policy, verdict: Verdict, asked: Asked) -> Ruling:
    """Ask the policy; one that fails lets nothing pass."""
    if isinstance(policy, Policy):
        return Ruling(decide(verdict, asked.surface, policy))
    try:
        return Ruling(policy.decide(verdict, Question(asked.surface, asked.trajectory, asked.project)))
    except Exception as fault:  # noqa: BLE001 - the boundary: whatever a policy raises is a missing verdict
        missing = Unreadable(f"expected a decision of the policy, got {type(fault).__name__}")
        return Ruling(decide(missing, asked.surface), failed=True)
