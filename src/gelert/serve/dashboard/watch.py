"""The last decisions, kept in memory for whoever looks: bounded in number and in bytes, and gone with the service."""

import asyncio
import secrets
import sys
import time
from collections import OrderedDict, deque
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated

from fastapi import Path

from gelert.core.trajectory import Step, Trajectory
from gelert.serve.asked import Answered, Asked
from gelert.serve.dashboard.view import said, summary, title
from gelert.serve.replies import Object

Id = Annotated[int, Path(ge=1, le=2**53, description="Of a decision, as /v1/decisions tells it")]

MOST_WAITING = 64
"""Who wait for the next decision at once; one more is answered with what there is."""

OVERHEAD_BYTES = 400
"""Of a step beside its texts."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept."""

    decisions: int = 5_000
    run_bytes: int = 64 << 20
    """Of the runs that were asked about; those of older decisions are let go of first."""


@dataclass(frozen=True)
class Seen:
    """One decision as it is kept."""

    facts: Object
    said: str
    """What the title is made of."""
    answered: Answered
    run: Trajectory | None
    """None if there are no steps in it, and once it was let go of."""

    @cached_property
    def row(self) -> Object:
        """What a list says of it; made when somebody looks, for taking secrets out takes longer than the rest."""
        return self.facts | {"title": title(self.said)}


class Watch:
    """Sees every decision of an engine, and numbers them from 1; used from the event loop only.

    Args:
        bounds: on what is kept.
    """

    def __init__(self, bounds: Bounds = Bounds()) -> None:
        self.service = secrets.token_hex(8)
        """Another one after each start, so that whoever looks on knows that the ids count anew."""
        self.newest = 0
        """Id of the last decision; the first has 1."""
        self._bounds = bounds
        self._kept: OrderedDict[int, Seen] = OrderedDict()
        self._held: deque[tuple[int, int]] = deque()
        """Ids of the decisions whose runs are held, oldest first, with the run's bytes."""
        self._bytes = 0
        self._more = asyncio.Event()
        self._waiting = 0

    def see(self, asked: Asked, answered: Answered) -> None:
        """Keep one more decision, and wake those who wait for it."""
        self.newest += 1
        size = footprint(asked.trajectory)
        run = asked.trajectory
        facts = summary(self.newest, round(time.time(), 3), asked, answered)
        self._kept[self.newest] = Seen(facts, said(run), answered, run if run.steps else None)
        self._held.append((self.newest, size))
        self._bytes += size
        while len(self._kept) > self._bounds.decisions:
            self._kept.popitem(last=False)
        while self._held and (self._bytes > self._bounds.run_bytes or self._held[0][0] not in self._kept):
            self._let_go()
        self._more.set()
        self._more = asyncio.Event()

    def get(self, number: int) -> Seen | None:
        """The decision of this id, if it is still kept."""
        return self._kept.get(number)

    def run(self, number: int) -> Trajectory | None:
        """The run that this decision was about, if it is still held."""
        seen = self.get(number)
        return seen.run if seen else None

    def after(self, number: int, limit: int) -> list[Seen]:
        """Those that came after ``number``, oldest first, at most ``limit``."""
        oldest = next(iter(self._kept), 1)
        ids = range(max(number + 1, oldest), self.newest + 1)
        return [self._kept[one] for one in ids[:limit]]

    async def grown(self, number: int, seconds: float) -> None:
        """Wait until there is a decision other than ``number``, but no longer than this."""
        if self.newest != number or self._waiting >= MOST_WAITING:
            return
        self._waiting += 1
        with suppress(TimeoutError):
            try:
                await asyncio.wait_for(self._more.wait(), seconds)
            finally:
                self._waiting -= 1

    def _let_go(self) -> None:
        number, size = self._held.popleft()
        self._bytes -= size
        if seen := self._kept.get(number):
            self._kept[number] = replace(seen, run=None)


def footprint(run: Trajectory) -> int:
    """About how many bytes of memory a run takes."""
    tools = sum(sys.getsizeof(tool.description) + sys.getsizeof(tool.parameters) for tool in run.tools)
    return tools + sum(map(_footprint, run.steps))


def _footprint(step: Step) -> int:
    calls = sum(sys.getsizeof(call.name) + sys.getsizeof(call.arguments) + OVERHEAD_BYTES for call in step.calls)
    return OVERHEAD_BYTES + sys.getsizeof(step.text) + sys.getsizeof(step.thought) + calls
