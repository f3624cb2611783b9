"""Runs that grow under ``/v1/sessions``: steps are only added, and none is lost in silence."""

import time
from collections import OrderedDict
from dataclasses import dataclass, replace

from gelert.core.trajectory import Step, Trajectory
from gelert.guard.formats.messages import named
from gelert.serve.limits import Limits


@dataclass(frozen=True, slots=True)
class Gap:
    """Steps that do not join on to what is kept."""

    kept: int
    """How many steps are."""
    reason: str


@dataclass
class _Run:
    trajectory: Trajectory
    characters: int
    used: float


class Runs:
    """All growing runs, by their id; used from the event loop only.

    Args:
        limits: on their number, their texts and how long one is kept.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._runs: OrderedDict[str, _Run] = OrderedDict()
        self._characters = 0

    def __len__(self) -> int:
        return len(self._runs)

    def extend(self, key: str, after: int, more: Trajectory) -> Trajectory | Gap:
        """The run with the steps of ``more`` added.

        Args:
            key: the run's id.
            after: how many steps the caller knows to be kept; 0 begins the run.
            more: the new steps, and the tools if they changed.
        """
        self._forget_idle()
        kept = self._runs.get(key)
        count = len(kept.trajectory.steps) if kept else 0
        if after != count:
            return Gap(count, f"expected steps after the {count} that are kept, got after={after}; {_advice(count)}")
        size = sum(map(characters, more.steps))
        if reason := self._excess(kept, size, count + len(more.steps)):
            return Gap(count, reason)
        grown = _joined(kept.trajectory, more) if kept else replace(more, trajectory_id=key)
        self._runs[key] = _Run(grown, size + (kept.characters if kept else 0), time.monotonic())
        self._runs.move_to_end(key)
        self._characters += size
        return grown

    def drop(self, key: str) -> bool:
        """Forget a run; says whether it was there."""
        found = self._runs.pop(key, None)
        self._characters -= found.characters if found else 0
        return found is not None

    def _excess(self, kept: _Run | None, size: int, steps: int) -> str:
        if kept is None and len(self._runs) >= self._limits.max_runs:
            return f"expected at most {self._limits.max_runs} runs at once; end those that are over with DELETE"
        if steps > self._limits.max_steps:
            return f"expected at most {self._limits.max_steps} steps in a run, got {steps}"
        if self._characters + size > self._limits.max_kept_bytes:
            return f"expected at most {self._limits.max_kept_bytes} characters in all runs; end those that are over"
        return ""

    def _forget_idle(self) -> None:
        oldest = time.monotonic() - self._limits.idle_seconds
        while self._runs and next(iter(self._runs.values())).used < oldest:
            self.drop(next(iter(self._runs)))


def _advice(count: int) -> str:
    return f"send what follows step {count - 1}, or DELETE the run" if count else "send the whole run with after=0"


def _joined(run: Trajectory, more: Trajectory) -> Trajectory:
    """A result's tool is named by its call, which may have come earlier."""
    steps = tuple(named([*run.steps, *more.steps]))
    return replace(run, steps=steps, tools=more.tools or run.tools, agent=more.agent or run.agent)


def characters(step: Step) -> int:
    """Of all the texts of a step."""
    calls = sum(len(call.name) + len(call.arguments) for call in step.calls)
    return len(step.text) + len(step.thought) + calls
