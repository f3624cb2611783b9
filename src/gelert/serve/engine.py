"""Judges one question after the other, within a deadline, and writes each decision down before it is given.

Whatever goes wrong on the way (a full queue, a deadline that passed, a guard that raised, a disk that is full) is an
``Unreadable`` verdict, and the policy says what that means on the surface: closed and marked degraded, by default.
"""

import asyncio
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from gelert.core.decision import Decision, strictest
from gelert.core.verdict import Unreadable, Verdict
from gelert.guard.guard import Guard, Resumable
from gelert.guard.policy import Policy, Surface
from gelert.serve.approvals import Approvals
from gelert.serve.asked import Answered, Asked, PolicySource, ruled
from gelert.serve.audit import Audit
from gelert.serve.entry import Entry, entry
from gelert.serve.limits import Limits
from gelert.serve.sessions import Sessions

__all__ = ["Answered", "Asked", "Engine", "Limits", "PolicySource", "Surface"]

JUDGING_SHARE = 0.9
"""Of the deadline; the rest is for writing the decision down."""

LEAST_WRITING_SECONDS = 0.5
"""For writing it down, however late it is: a question that was slow to come in is answered, and on record."""

DEFAULTS = Limits()

Listener = Callable[[Asked, Answered], None]
"""Hears of a decision once it is given."""

BUCKETS = (0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0)
"""Upper bounds of the counts of decisions by time, in milliseconds."""


@dataclass
class Counts:
    """What the engine has done since it started; written from the event loop only."""

    decisions: Counter[tuple[str, str, bool]] = field(default_factory=Counter[tuple[str, str, bool]])
    """By surface, kind of decision, and whether it was degraded."""
    faults: Counter[str] = field(default_factory=Counter[str])
    """Decisions without a verdict or a record, by cause: ``full``, ``deadline``, ``guard``, ``asked``, ``audit``,
    ``policy``; and listeners that failed, as ``watcher``."""
    times: Counter[float] = field(default_factory=Counter[float])
    """Decisions by the least of ``BUCKETS`` that they took no longer than."""
    milliseconds: float = 0.0
    """All decisions together."""


@dataclass
class _Job:
    asked: Asked
    until: float
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[Verdict]

    def late(self) -> bool:
        return time.monotonic() >= self.until


class Engine:
    """Answers questions about running agents.

    Args:
        guard: judges; from one thread if it keeps what it has read of a run, else from as many as it is best asked.
        policy: turns a verdict into a decision.
        audit: where each decision is written before it is given; closed with the engine.
        limits: on what is asked.
        approvals: a person's answers where the policy asks; without it they are remembered for as long as the engine
            lives.
    """

    def __init__(
        self,
        guard: Guard,
        policy: PolicySource | Policy,
        audit: Audit,
        limits: Limits = DEFAULTS,
        approvals: Approvals | None = None,
    ) -> None:
        self.guard, self.policy, self.audit, self.limits = guard, policy, audit, limits
        self.approvals = approvals or Approvals()
        self.counts = Counts()
        self._queue: queue.Queue[_Job | None] = queue.Queue(limits.max_waiting)
        self._listeners: list[Listener] = []
        self._unwritten = False
        self._busy: dict[str, float] = {}
        """Until when each thread that is judging should be done."""
        count = 1 if isinstance(guard, Resumable) else guard.concurrency
        self._threads = [threading.Thread(target=self._judge, name=f"gelert-{n}", daemon=True) for n in range(count)]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Questions that wait for the guard."""
        return self._queue.qsize()

    @property
    def stuck(self) -> bool:
        """Whether every thread of the guard is past the deadline of what it judges: no verdict can come."""
        now = time.monotonic()
        return sum(until < now for until in list(self._busy.values())) == len(self._threads)

    @property
    def unready(self) -> str:
        """Why no sound decision can be given now; empty if it can."""
        if self.stuck:
            return "expected a guard that answers, but it is past its deadline; restart the service"
        if self._unwritten:
            return "expected an audit that can be written, but the last decision is not on record; look at the disk"
        return ""

    @property
    def policy_fault(self) -> str:
        """Why the policy that is followed is not the one that was written last; empty if it is."""
        return "" if isinstance(self.policy, Policy) else self.policy.fault

    async def decide(self, asked: Asked, since: float | None = None) -> Answered:
        """The decision, on disk already; a fault on the way is a decision too.

        Args:
            asked: what is in question.
            since: when the question began to come in, by ``time.monotonic``; the deadline counts from there.
        """
        start = time.monotonic() if since is None else since
        verdict = await self._verdict(asked, start + self.limits.deadline_seconds * JUDGING_SHARE)
        return await self._answer(asked, verdict, start)

    async def undecided(self, asked: Asked, reason: str, since: float | None = None) -> Answered:
        """The decision on something that could not even be read as a question; ``reason`` says why."""
        self.counts.faults["asked"] += 1
        return await self._answer(asked, Unreadable(reason), time.monotonic() if since is None else since)

    def watch(self, listener: Listener) -> None:
        """Tell ``listener`` of every decision from now on, on the event loop, after it stands in the audit."""
        self._listeners.append(listener)

    async def record(self, row: Entry, seconds: float) -> int | Unreadable:
        """The number of an entry that now stands in the audit, or why it does not after so many seconds."""
        try:
            number = await asyncio.wait_for(asyncio.wrap_future(self.audit.append(row)), seconds)
        except Exception as fault:  # noqa: BLE001 - the boundary: whatever kept it from the disk, it is not on record
            self.counts.faults["audit"] += 1
            self._unwritten = True
            return Unreadable(f"expected the decision on record, got {type(fault).__name__}; look at the disk")
        self._unwritten = False
        return number

    async def close(self) -> None:
        """Let the guard finish what it is at, and close the audit. A guard that hangs is not waited for."""
        for _ in self._threads:
            with suppress(queue.Full):  # a guard that hangs: its threads end with the process
                await asyncio.to_thread(self._queue.put, None, timeout=self.limits.deadline_seconds)
        for thread in self._threads:
            await asyncio.to_thread(thread.join, self.limits.deadline_seconds)
        await asyncio.to_thread(self.audit.close)

    async def _verdict(self, asked: Asked, until: float) -> Verdict:
        if len(asked.trajectory.steps) > self.limits.max_steps:
            self.counts.faults["asked"] += 1
            return Unreadable(f"expected at most {self.limits.max_steps} steps, got {len(asked.trajectory.steps)}")
        loop = asyncio.get_running_loop()
        job = _Job(asked, until, loop, loop.create_future())
        try:
            self._queue.put_nowait(job)
        except queue.Full:
            self.counts.faults["full"] += 1
            return Unreadable(f"expected a place in the queue, got {self.limits.max_waiting} questions waiting")
        try:
            return await asyncio.wait_for(job.done, until - time.monotonic())
        except TimeoutError:
            self.counts.faults["deadline"] += 1
            return Unreadable(f"expected a verdict within {self.limits.deadline_seconds * JUDGING_SHARE:g} s, got none")

    async def _answer(self, asked: Asked, verdict: Verdict, start: float) -> Answered:
        applied = self.approvals.applied(asked, verdict, self._decision(verdict, asked))
        decision, took = applied.decision, (time.monotonic() - start) * 1000
        row = entry(asked, self.guard.name, verdict, decision, took, applied.approval)
        left = max(start + self.limits.deadline_seconds - time.monotonic(), LEAST_WRITING_SECONDS)
        number = await self.record(row, left)
        if isinstance(number, Unreadable):  # a decision that is not on record is one without a verdict
            number, decision = 0, strictest(decision, self._decision(number, asked))
        milliseconds = (time.monotonic() - start) * 1000
        self._count(asked.surface, decision, milliseconds)
        answered = Answered(decision, verdict, number, milliseconds)
        self._tell(asked, answered)
        return answered

    def _tell(self, asked: Asked, answered: Answered) -> None:
        for listener in self._listeners:
            try:
                listener(asked, answered)
            except Exception:  # noqa: BLE001 - the boundary: no listener may cost anybody a decision
                self.counts.faults["watcher"] += 1

    def _decision(self, verdict: Verdict, asked: Asked) -> Decision:
        ruling = ruled(self.policy, verdict, asked)
        if ruling.failed:
            self.counts.faults["policy"] += 1
        return ruling.decision

    def _count(self, surface: Surface, decision: Decision, milliseconds: float) -> None:
        self.counts.decisions[surface.value, type(decision).__name__.lower(), decision.degraded] += 1
        self.counts.times[next((b for b in BUCKETS if milliseconds <= b), float("inf"))] += 1
        self.counts.milliseconds += milliseconds

    def _judge(self) -> None:
        """One thread of the guard, until it is told to stop."""
        sessions, name = Sessions(self.guard, self.limits), threading.current_thread().name
        while (job := self._queue.get()) is not None:
            if job.late():
                continue
            self._busy[name] = job.until
            try:
                verdict = _sound(sessions.verdict(job.asked.session, job.asked.trajectory, job.late))
            except Exception as fault:  # noqa: BLE001 - the boundary: a guard that fails is a missing verdict
                self.counts.faults["guard"] += 1
                verdict = Unreadable(f"expected a verdict, got {type(fault).__name__} from the guard")
            del self._busy[name]
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                job.loop.call_soon_threadsafe(_settle, job.done, verdict)


def _sound(verdict: Verdict) -> Verdict:
    """The verdict, or ``Unreadable`` if its risk is no probability: no threshold can be held against it."""
    if isinstance(verdict, Unreadable) or 0.0 <= verdict.risk <= 1.0:
        return verdict
    return Unreadable("expected a risk from 0 to 1, got another number from the guard")


def _settle(done: asyncio.Future[Verdict], verdict: Verdict) -> None:
    if not done.done():
        done.set_result(verdict)
