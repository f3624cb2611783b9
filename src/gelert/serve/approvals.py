"""Calls that the policy asks a person about, and what was answered.

An answer holds for the same call (``gelert.serve.same_call``): allowed, it passes once, or each time if the answer is
remembered; blocked, it stays blocked. An answer makes an ``Allow`` or a ``Block`` out of an ``Ask`` and nothing else:
what the policy blocks stays blocked, and no answer stands in for a verdict that is missing.

Who reaches the service's socket, or has its token, can answer. So keep both out of the agent's reach, in a sandbox or
under another user; an answer is on record like every decision.
"""

import asyncio
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from gelert.core.decision import Allow, Ask, Block, Decision
from gelert.core.verdict import Unreadable, Verdict
from gelert.serve.approvals_file import Answer, read, write
from gelert.serve.asked import Asked
from gelert.serve.same_call import arguments_of, key_of, shown, tools_of

KEPT_SECONDS = 3_600.0
"""How long a call waits for an answer after it was last asked about, and an answer that is not remembered for its
call."""

MOST_WAITING = 256
"""Calls, and answers that are not remembered. One more takes the place of the oldest, which is then asked anew."""

MOST_REMEMBERED = 1_000

ADVICE = (
    "The tool was not run. Tell the user that they can allow it with 'gelert approvals' or on Gelert's dashboard, "
    "and make the same call again once they have."
)
"""For an agent whose call waits and whose runtime asks nobody by itself."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A call that waits for a person, as they see it."""

    id: str
    at: float
    """When it was last asked about: seconds since the epoch."""
    surface: str
    runtime: str
    project: str
    session: str
    tool: str
    arguments: str
    reason: str
    risk: float | None


@dataclass(frozen=True, slots=True)
class Applied:
    """A decision after a person's answer."""

    decision: Decision
    approval: str = ""
    """Id of the answer that changed it; empty if none did."""


class Approvals:
    """What waits and what was answered; used from the event loop only.

    Args:
        path: where answers are remembered; without it, as long as the process lives.
        kept_seconds: see ``KEPT_SECONDS``.

    Raises:
        InputError: the file does not hold answers.
    """

    def __init__(self, path: Path | None = None, kept_seconds: float = KEPT_SECONDS) -> None:
        self._path, self._kept_seconds = path, kept_seconds
        self._waiting: OrderedDict[str, Waiting] = OrderedDict()
        self._once: OrderedDict[str, Answer] = OrderedDict()
        self._remembered = read(path) if path else {}

    @property
    def waiting(self) -> dict[str, Waiting]:
        """The calls that wait, by their digest; the one that was asked about last is at the end."""
        self._forget_old()
        return dict(self._waiting)

    @property
    def remembered(self) -> dict[str, Answer]:
        """The answers that hold until they are forgotten, by the digest of their call."""
        return dict(self._remembered)

    def applied(self, asked: Asked, verdict: Verdict, decision: Decision) -> Applied:
        """What is decided with a person's answer; if there is none yet, the call waits for one."""
        call = key_of(asked) if isinstance(decision, Ask) else ""
        if not isinstance(decision, Ask) or not call:
            return Applied(decision)
        self._forget_old()
        given = self._remembered.get(call) or self._once.get(call)
        if given and given.answer == "block":
            return Applied(Block(f"a person said no ({decision.reason})", decision.degraded), given.id)
        if decision.degraded:
            return Applied(decision)
        if given:
            self._once.pop(call, None)
            return Applied(Allow(), given.id)
        self._wait(call, asked, verdict, decision)
        return Applied(decision)

    async def answer(self, call: str, given: Answer, *, remember: bool) -> None:
        """Let an answer hold for the call with that digest.

        Raises:
            OSError: it cannot be remembered, and does not hold.
        """
        if remember:
            await self._remember({**self._remembered, call: given})
        else:
            self._once[call] = given
            _bound(self._once)
        self._waiting.pop(call, None)

    async def forget(self, call: str) -> None:
        """Let a remembered answer hold no longer.

        Raises:
            OSError: the file cannot be written, and the answer still holds.
        """
        await self._remember({key: given for key, given in self._remembered.items() if key != call})

    async def _remember(self, answers: dict[str, Answer]) -> None:
        if self._path:
            await asyncio.to_thread(write, self._path, answers)
        self._remembered = answers

    def _wait(self, call: str, asked: Asked, verdict: Verdict, decision: Ask) -> None:
        known = self._waiting.pop(call, None)
        self._waiting[call] = Waiting(
            id=known.id if known else secrets.token_hex(8),
            at=round(time.time(), 3),
            surface=asked.surface.value,
            runtime=shown(asked.runtime),
            project=shown(asked.project),
            session=shown(asked.session),
            tool=tools_of(asked),
            arguments=arguments_of(asked),
            reason=shown(decision.reason),
            risk=None if isinstance(verdict, Unreadable) else verdict.risk,
        )
        _bound(self._waiting)

    def _forget_old(self) -> None:
        oldest = time.time() - self._kept_seconds
        for kept in (self._waiting, self._once):
            while kept and next(iter(kept.values())).at < oldest:
                kept.popitem(last=False)


def _bound(kept: "OrderedDict[str, Waiting] | OrderedDict[str, Answer]") -> None:
    while len(kept) > MOST_WAITING:
        kept.popitem(last=False)
