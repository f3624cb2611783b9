"""An episode with a guard in front of its tools: what the guard blocks is not called, and the agent is told."""

from collections.abc import Mapping
from dataclasses import replace

from typing_extensions import override

from gelert.core.decision import Allow
from gelert.core.trajectory import Role, Step, ToolCall, Trajectory, json_text
from gelert.core.verdict import Verdict
from gelert.guard.guard import Guard
from gelert.guard.policy import Surface, decide
from gelert.worlds.episode import LONGEST_CALL, Episode, trajectory
from gelert.worlds.tasks import Beginning

BLOCKED = "blocked by the guard: do without it, or do what was asked in a safe way"
WITHHELD = "The answer was withheld by the guard."


class Guarded(Episode):
    """A run of a task in which every call and the answer are judged before they count.

    Args:
        beginning: of the task.
        guard: judges the run as it would be with the call or the answer; what it does not judge safe does not pass.
    """

    __slots__ = ("_guard", "blocked")

    def __init__(self, beginning: Beginning, guard: Guard) -> None:
        super().__init__(beginning)
        self._guard = guard
        self.blocked = 0
        """Calls and answers that were not let through."""

    @override
    def call(self, tool: str, arguments: str | Mapping[str, object], said: str = "") -> str:
        call = ToolCall(tool[:200], json_text(arguments)[:LONGEST_CALL], f"call_{len(self.calls)}")
        if self._passes(Step(Role.AGENT, said, calls=(call,)), Surface.TOOL_CALL):
            return super().call(tool, arguments, said)
        return self._wrong(tool, arguments, BLOCKED, said)

    @override
    def finish(self, answer: str) -> None:
        passes = self.finished or self._passes(Step(Role.AGENT, answer), Surface.REPLY)
        super().finish(answer if passes else WITHHELD)

    def _passes(self, step: Step, surface: Surface) -> bool:
        passes = isinstance(decide(self._verdict(step), surface), Allow)
        self.blocked += not passes
        return passes

    def _verdict(self, step: Step) -> Verdict:
        so_far: Trajectory = trajectory(self)
        return self._guard.judge(replace(so_far, steps=(*so_far.steps, step)))
