"""Runs that the guard has read so far, so that a growing run costs only its new steps."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from gelert.core.trajectory import Trajectory
from gelert.core.verdict import Unreadable, Verdict
from gelert.guard.guard import Guard, Resumable, Running
from gelert.serve.limits import Limits
from gelert.serve.runs import characters

BYTES_A_CHARACTER = 32
"""A word of three letters that is remembered takes a hundred bytes; a run of nothing but such words is the dearest."""


@dataclass
class _Kept:
    running: Running
    read: Trajectory
    """As far as it is read."""
    used: float

    @property
    def bytes(self) -> int:
        """Of all that is kept, near enough."""
        return self.running.kept_bytes + BYTES_A_CHARACTER * sum(map(characters, self.read.steps))


class Sessions:
    """What the guard has read of each run; used from one thread only.

    Args:
        guard: that reads.
        limits: how many runs are kept, and how long.
    """

    def __init__(self, guard: Guard, limits: Limits) -> None:
        self._guard, self._limits = guard, limits
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def verdict(self, key: str, run: Trajectory, late: Callable[[], bool]) -> Verdict:
        """The verdict on ``run``; reading stops when it is ``late``, and goes on from there when it is asked again.

        Args:
            key: who asks; an empty one is not kept.
            run: everything so far.
            late: whether nobody waits for the verdict any more.
        """
        if not run.steps:
            return Unreadable("expected at least one step, got an empty trajectory")
        if not isinstance(self._guard, Resumable):
            return self._guard.judge(run)
        kept = self._kept.pop(key, None)
        if kept is None or not _goes_on(kept.read, run):
            kept = _Kept(self._guard.session(run), replace(run, steps=()), 0.0)
        for step in run.steps[len(kept.read.steps) :]:
            if late():
                break
            kept.running.append(step)
            kept.read = replace(kept.read, steps=(*kept.read.steps, step))
        return self._answered(key, kept, run)

    def _answered(self, key: str, kept: _Kept, run: Trajectory) -> Verdict:
        done = len(kept.read.steps) == len(run.steps)
        verdict = (
            kept.running.verdict()
            if done
            else Unreadable(f"expected a verdict in time, got {len(kept.read.steps)} of {len(run.steps)} steps read")
        )
        if key:
            kept.used = time.monotonic()
            self._kept[key] = kept
            self._evict()
        return verdict

    def _evict(self) -> None:
        oldest = time.monotonic() - self._limits.idle_seconds
        size = sum(kept.bytes for kept in self._kept.values())
        while self._kept:
            first = next(iter(self._kept.values()))
            few = len(self._kept) <= self._limits.max_sessions and size <= self._limits.max_session_bytes
            if few and first.used >= oldest:
                break
            size -= first.bytes
            self._kept.popitem(last=False)


def _goes_on(read: Trajectory, run: Trajectory) -> bool:
    """Whether ``run`` begins with what was read."""
    count = len(read.steps)
    same = (read.tools, read.setting, read.agent) == (run.tools, run.setting, run.agent)
    return same and count <= len(run.steps) and read.steps == run.steps[:count]
